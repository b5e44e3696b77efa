"""What a layer's states already say: the final norm and head put on each of them (logit lens)."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from irlib import doors
from irlib.hooks.hooks import edit
from irlib.inputs.records import Answer, Inputs
from irlib.inputs.spans import SEGMENTS
from irlib.models.finite import check_finite
from irlib.models.spelling import spelled
from irlib.models.unembedding import unembed

COLUMNS = "model task sample layer segment place token x y step word probability rank top".split()


@torch.no_grad()
def logit_lens(
    vlm,
    inputs: Inputs,
    answer: Answer | str | Sequence[str],
    *,
    at: str = "answer",
    layers: Sequence[int] | None = None,
    top: int = 5,
    memory: float = 1.0,
) -> pd.DataFrame:
    """How far each layer's states already say the answer, or any word: a tidy table.

    The states behind a decoder layer go through the final norm and the head, as those behind the
    last one do (nostalgebraist 2020): there these are the model's own logits. Columns `model, task,
    sample, layer, segment, place, token, x, y, step, word, probability, rank, top`: `word` is the
    answer's token number `step`, `rank` how many tokens, the image token aside, are likelier (0: it
    is what these states say), `top` the likeliest `top` tokens, one string each. At the segment
    "answer" each token is read where it is predicted, at `place` = `step`; at another (system,
    image, between, user) each of them at each of its positions, `place` counted within the segment
    and `token` what stands there. An image token's middle on the picture is at `x`, `y`, in pixels
    (NaN without a place): where a word can be read. A word of one's own is an `answer` given as
    text, spelled as models.spelling tells. Layers are 0-based, all if None. Where a family adds to
    the states between layers (Qwen3-VL), they are read before that. Logits come in parts of at most
    `memory` GiB. Rows whose answer is empty have none.

    Raises `ValueError` for an unknown segment, one that no row has, layers out of range, and
    answers of another number than rows.

    >>> from irlib import load, load_task
    >>> vlm = load("mini-llava")
    >>> inputs = vlm.prepare(load_task("pope", n=1))
    >>> table = logit_lens(vlm, inputs, vlm.answer(inputs))
    >>> int(table[table["layer"] == 11]["rank"].iloc[0])
    0
    """
    doors.kind("inputs", inputs, Inputs, give="vlm.prepare(sample)")
    memory, top = doors.number("memory", memory, above=True), doors.count("top", top)
    layers = range(vlm.n_layers) if layers is None else layers
    layers = list(dict.fromkeys(doors.counts("layers", layers, most=vlm.n_layers - 1, some=True)))
    if at not in SEGMENTS:
        raise ValueError(
            f"asked to read the states of {at!r}, found no such segment; use one of {SEGMENTS}"
        )
    if inputs.spans.answer.any():
        raise ValueError(
            "asked to read states of inputs that hold an answer, found two to read; give "
            "the prompts alone, and their answer beside them"
        )
    answer = spelled(vlm, inputs, answer)
    whole = inputs.followed_by(answer)
    where = whole.spans.predicting if at == "answer" else getattr(whole.spans, at)
    if not where.any():
        raise ValueError(
            f"asked to read the states of {at!r}, found no such position in {len(inputs)} rows; "
            f"use one of {[name for name in SEGMENTS if getattr(whole.spans, name).any()]}"
        )
    if at == "image":
        inputs.check_one("states at a picture's places")
    states = {}

    def note(layer, output):
        states[layer] = output[where.to(output.device)]  # [position of all rows, channel]
        return output

    modules = {layer: vlm.decoder.layers[layer] for layer in layers}
    with edit(modules, note, once=True):
        vlm.forward(whole, logits_to_keep=1)
    row, position = where.cpu().nonzero().T
    place = torch.cat([torch.arange(count) for count in where.sum(1).tolist()])
    each = list(zip(row.tolist(), place.tolist(), strict=True))
    words = [answer.ids[r][p : p + 1] if at == "answer" else answer.ids[r] for r, p in each]
    spots = [_spot(inputs, at, *one) for one in each]
    ids = whole.text["input_ids"].cpu()[row, position]
    tokens = vlm.processor.tokenizer.convert_ids_to_tokens(ids.tolist())
    vocabulary = vlm.model.get_output_embeddings().out_features
    table, size = [], max(1, int(memory * 2**30 / 4 / vocabulary))
    for layer in layers:
        for begin in range(0, len(row), size):
            some = range(begin, min(begin + size, len(row)))
            told = _told(vlm, states[layer][begin : begin + size], [words[i] for i in some], top)
            for i, (chances, ranks, best) in zip(some, told, strict=True):
                sample, spot = inputs.samples[each[i][0]], each[i][1]
                head = (vlm.name, sample.task, sample.key, layer, at, spot, tokens[i], *spots[i])
                first = spot if at == "answer" else 0
                said = enumerate(zip(_words(vlm, words[i]), chances, ranks, strict=True), first)
                table += [(*head, step, *one, best) for step, one in said]
    return pd.DataFrame(table, columns=COLUMNS)


def _told(vlm, states: Tensor, words: Sequence[Tensor], top: int):
    """Of each state `[position, channel]`: its words' probabilities and ranks, the best tokens."""
    logits = unembed(vlm, vlm.last_norm(states)).float().cpu()
    check_finite("logits", logits)
    asked = [one[ids.long().cpu()] for one, ids in zip(logits, words, strict=True)]
    totals = logits.logsumexp(-1)
    logits[:, vlm.image_token_id] = -torch.inf  # no answer holds it
    best = logits.topk(min(top, logits.shape[1])).indices
    for one, total, own, first in zip(logits, totals, asked, best, strict=True):
        ranks = [(one > logit).sum().item() for logit in own]
        yield (own - total).exp().tolist(), ranks, tuple(_words(vlm, first))


def _words(vlm, ids: Tensor) -> list[str]:
    """What each token says by itself."""
    return [vlm.processor.tokenizer.decode([i]) for i in ids.tolist()]


def _spot(inputs, at, row, place) -> tuple[float, float]:
    """The middle of an image token on its picture; NaN for what has no place."""
    if at != "image" or (grid := inputs.grids[row]) is None:
        return np.nan, np.nan
    x0, y0, x1, y1 = grid.boxes[place].tolist()
    return (x0 + x1) / 2, (y0 + y1) / 2
