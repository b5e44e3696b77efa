"""What a change does at every layer at once: one full pass and one up the staircase.

The untouched model runs once and keeps what its layers were given. Then decoder layer l carries
every variant that is changed in a layer <= l, and of it only the rows that can feel it. All
variants then answer together. A change hides the image from all text, or cuts an edge.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from irlib import doors
from irlib.hooks.hooks import hooked
from irlib.inputs.records import Inputs
from irlib.interventions.alone import answers_one_by_one, one_by_one
from irlib.interventions.changes import Change
from irlib.interventions.climbing import parts, start
from irlib.interventions.decoding import Past, greedy
from irlib.interventions.likelihood import Changed, divergences, logprobs
from irlib.models.rounding import margins


def logits_by_layer(
    vlm,
    inputs: Inputs,
    *,
    layers: Sequence[int],
    keep: int = 0,
    edge: str | None = None,
    kind: str = "from",
    window: int = 3,
) -> Tensor:
    """Logits `[layer, row, vocabulary]` after each prompt, its image hidden from each layer on.

    In the order of `layers`; what a forward inside `truncate(vlm, inputs, layer=layer, keep=keep)`
    gives at the last position, n_layers being the untouched model. With an `edge`, that inside
    `knockout(vlm, inputs, edge=edge, layers=...)`, of the layers that `kind` says: "from" each of
    `layers` on, "upto" and with it, "single" alone, or a "window" of so many that begins there.
    Raises `ValueError` where these and `vlm.forward` do. With hooks on the model, which would miss
    what layers share, each layer is one such forward.

    >>> from irlib import load
    >>> vlm = load("mini-llava")
    >>> inputs = vlm.prepare(question="What is a cat?")
    >>> logits_by_layer(vlm, inputs, layers=[0, 12]).shape[:2]
    torch.Size([2, 1])
    >>> logits_by_layer(vlm, inputs, layers=[0, 9], edge="question>answer", kind="window").shape[:2]
    torch.Size([2, 1])
    """
    return changed_logits(vlm, inputs, layers, Change(keep, edge, kind, window))


def changed_logits(vlm, inputs: Inputs, layers: Sequence[int], change: Change) -> Tensor:
    """`logits_by_layer` of any `Change`."""
    layers = _asked(vlm, inputs, layers)
    change.check(vlm, inputs, layers)
    if hooked(vlm.model):
        every = one_by_one(
            vlm, inputs, layers, change, lambda x: vlm.forward(x, logits_to_keep=1)[:, -1]
        )
        return torch.stack([every[layer] for layer in layers])
    found = {}
    for made, variants in parts(vlm, inputs, layers, change):
        logits, _, _ = start(vlm, made, variants, whole=False)
        found |= dict(zip(variants, logits, strict=True))
    return torch.stack([torch.stack(row) for row in _by_layer(vlm, found, inputs, layers, change)])


def answers_by_layer(
    vlm,
    inputs: Inputs,
    *,
    layers: Sequence[int],
    keep: int = 0,
    edge: str | None = None,
    kind: str = "from",
    window: int = 3,
    max_new_tokens: int | None = None,
    logprob: bool = False,
) -> dict[int, Changed]:
    """The greedy answer of each row with its image hidden from each of `layers` on, as `Changed`.

    The same as `truncate(vlm, inputs, layer=layer, keep=keep)` around `vlm.answer`, layer by layer;
    n_layers is the untouched model. With an `edge` it is `knockout` around it, as `logits_by_layer`
    has it. A row without a picture answers once for all layers that would hide it. With `logprob`
    the untouched answer is given to every variant too, in one block of its tokens. Beside what one
    generation over `inputs` takes, memory holds the layers' inputs at the carried rows (see
    `prefill.Run`) and the keys of at most `climbing.POSITIONS` positions, or of one variant. With
    hooks on the model, which would miss what layers share, or more in its generation_config than
    where an answer ends, each layer is one generation. Raises `ValueError` where `truncate`,
    `knockout` and `vlm.answer` do.

    >>> from irlib import load
    >>> vlm = load("mini-llava")
    >>> inputs = vlm.prepare(question="What is a cat?")
    >>> answers = answers_by_layer(vlm, inputs, layers=[0, 12], max_new_tokens=2)
    >>> answers[0].text == answers[12].text  # there is no picture to hide
    True
    """
    options = {"max_new_tokens": max_new_tokens, "logprob": logprob}
    return changed_answers(vlm, inputs, layers, Change(keep, edge, kind, window), **options)


def changed_answers(
    vlm,
    inputs: Inputs,
    layers: Sequence[int],
    change: Change,
    *,
    max_new_tokens: int | None = None,
    logprob: bool = False,
) -> dict[int, Changed]:
    """`answers_by_layer` of any `Change`."""
    layers, limits = _asked(vlm, inputs, layers), inputs.limits(max_new_tokens)
    end = vlm.n_layers
    change.check(vlm, inputs, layers)
    if hooked(vlm.model) or not vlm.plain:
        return answers_one_by_one(vlm, inputs, layers, change, max_new_tokens, logprob)
    found, untouched = {}, {}
    banned = torch.tensor([vlm.image_token_id], device=vlm.device)
    asked = [*layers, end] if logprob else layers
    for made, variants in parts(vlm, inputs, asked, change, room=max(limits)):
        logits, index, keys = start(vlm, made, variants, whole=True)
        rows = [row for row, *_ in variants]
        most = [limits[row] for row in rows]
        past = Past(made, variants, index=index, prompt=keys, most=max(most))
        first = logits.float().index_fill(1, banned, -torch.inf)
        said = vlm.read(greedy(vlm, inputs, past, logits, most), most)
        told = [said.ids, said.texts, margins(first, logits.dtype)]
        told.append(divergences(logits, made.logits[rows]))
        if logprob:
            each = zip(variants, said.ids, strict=True)
            untouched |= {row: ids for (row, begins, _), ids in each if begins == end}
            past = Past(made, variants, index=index, prompt=keys, most=max(most))
            told.append(logprobs(vlm, inputs, past, logits, [untouched[row] for row in rows]))
        found |= dict(zip(variants, zip(*told, strict=True), strict=True))
    each = zip(layers, _by_layer(vlm, found, inputs, layers, change), strict=True)
    names = ("ids", "texts", "margins", "kl", "logprob")  # the last where it was asked for
    named = ((layer, zip(names, zip(*row, strict=True), strict=False)) for layer, row in each)
    return {layer: Changed(**dict(part), reader=vlm.reader) for layer, part in named}


def _asked(vlm, inputs, layers) -> list[int]:
    """The layers asked for, one or more."""
    doors.kind("inputs", inputs, Inputs, give="vlm.prepare(sample)")
    return doors.counts("layers", layers, some=True)


def _by_layer(vlm, found, inputs, layers, change):
    """What was found for each row, layer by layer; untouched rows stand for all of theirs."""
    end, rows = vlm.n_layers, range(len(inputs))
    spans = [change.span(layer, end) for layer in layers]
    return [[found.get((row, *span), found.get((row, end, end))) for row in rows] for span in spans]
