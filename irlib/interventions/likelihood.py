"""How likely a changed model finds what the untouched one says: this moves before answers do."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from irlib.hooks.hooks import attend
from irlib.inputs.records import Answer
from irlib.interventions.decoding import Past, hear
from irlib.models.finite import check_finite
from irlib.models.unembedding import unembed


@dataclass(frozen=True, eq=False)
class Changed(Answer):
    """An `Answer` of a changed model, and how far it is from the untouched one's.

    Of each row: `kl`, KL(untouched || changed) of the first token over the whole vocabulary, and
    `logprob`, the log-probability that is left to the untouched model's answer, summed over its
    tokens (NaN where it is empty; () where it was not asked for); both in nats.
    """

    kl: tuple[float, ...] = ()
    logprob: tuple[float, ...] = ()


def divergences(logits: Tensor, untouched: Tensor) -> list[float]:
    """KL(untouched || changed) in nats of each row of `logits [row, vocabulary]`; never below 0.

    >>> one = torch.tensor([[0.0, 0.0], [0.0, 0.0]])
    >>> divergences(torch.tensor([[0.0, 0.0], [0.0, 1.0]]), one)
    [0.0, 0.12011...]
    """
    before, after = _chances(untouched), _chances(logits)
    return (before.exp() * (before - after)).sum(-1).clamp_min(0).tolist()


@torch.no_grad()
def logprobs(vlm, inputs, past: Past, logits: Tensor, ids: Sequence[Tensor]) -> list[float]:
    """Log-probability in nats that row r of `past` says all of `ids[r]`; NaN where that is empty.

    Their prompts end in `logits [row, vocabulary]`. The tokens are given to the model in one block:
    each as many rows a layer as the longest has tokens but one.
    """
    lengths = torch.tensor([len(one) for one in ids])
    said = torch.nn.utils.rnn.pad_sequence([one.long() for one in ids], batch_first=True)
    found = torch.zeros(len(ids), dtype=torch.double)
    with attend(vlm.decoder, past.attention):
        states = hear(vlm, inputs, past, said[:, :-1]) if said.shape[1] > 1 else None
        for token in range(said.shape[1]):  # the logits of a whole answer can be gigabytes
            rows = (token < lengths).nonzero().flatten()
            scores = logits if not token else unembed(vlm, states[:, token - 1])
            found[rows] += told(scores[rows.to(scores.device)], said[rows, token])
    return found.where(lengths > 0, torch.nan).tolist()


@torch.no_grad()
def forced(vlm, inputs, answer: Answer) -> list[float]:
    """The same of one answer a row of `inputs`, by one forward of the model as it is."""
    whole = inputs.followed_by(answer)
    logits = vlm.forward(whole)
    found = []
    for row, ids in enumerate(answer.ids):
        said = logits[row, inputs.length - 1 : inputs.length - 1 + len(ids)]
        found.append(told(said, ids.long().cpu()).sum().item() if len(ids) else torch.nan)
    return found


def told(logits: Tensor, ids: Tensor) -> Tensor:
    """The log-probability in nats, `[row]`, of one token of `ids` in each row of logits."""
    check_finite("logits", logits)
    return _chances(logits).gather(1, ids[:, None])[:, 0]


def _chances(logits):
    """The log-probability of every token of the vocabulary; float64, which no GPU of Apple has."""
    return logits.detach().cpu().double().log_softmax(-1)
