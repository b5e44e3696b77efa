"""The answers of every truncation layer at once, for a few passes of the model."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from irlib import prefill
from irlib.decoding import Past, greedy
from irlib.inputs import Answer, Inputs
from irlib.truncation import check_keep, layer_by_row

# Positions of variants held at a time, an answer's among them. Each needs the keys and values of
# all layers: 0.5 MB in a 7B model in float16, so that they take 16 GiB beside its weights.
POSITIONS = 2**15


def logits_by_layer(vlm, inputs: Inputs, *, layers: Sequence[int], keep: int = 0) -> Tensor:
    """Logits `[layer, row, vocabulary]` after each prompt, its image hidden from each layer on.

    In the order of `layers`; the last position's logits of a forward inside `truncate(vlm, inputs,
    layer=layer, keep=keep)`, for one full pass and one of the rows behind the picture. Raises
    `ValueError` where `truncate` and `vlm.forward` do.

    >>> from irlib import load
    >>> vlm = load("mini-llava")
    >>> logits_by_layer(vlm, vlm.prepare(question="What is a cat?"), layers=[0, 12]).shape[:2]
    torch.Size([2, 1])
    """
    made, parts = _prepare(vlm, inputs, layers, keep, limits=None)
    found = {}
    for variants in parts:
        logits, *_ = _start(vlm, made, variants, whole=False)
        found |= dict(zip(variants, logits, strict=True))
    end = vlm.n_layers
    rows = range(len(inputs))
    return torch.stack(
        [
            torch.stack(
                [found[row, layer] if (row, layer) in found else found[row, end] for row in rows]
            )
            for layer in layers
        ]
    )


def answers_by_layer(
    vlm,
    inputs: Inputs,
    *,
    layers: Sequence[int],
    keep: int = 0,
    max_new_tokens: int | None = None,
) -> dict[int, Answer]:
    """The greedy `Answer` of each row with its image hidden from each of `layers` on.

    The same as `truncate(vlm, inputs, layer=layer, keep=keep)` around `vlm.answer`, layer by layer;
    n_layers is the untouched model. Raises `ValueError` where these do.

    >>> from irlib import load
    >>> vlm = load("mini-llava")
    >>> inputs = vlm.prepare(question="What is a cat?")
    >>> answers = answers_by_layer(vlm, inputs, layers=[0, 12], max_new_tokens=2)
    >>> answers[0].text == answers[12].text  # there is no picture to hide
    True
    """
    limits = [max_new_tokens or sample.max_new_tokens for sample in inputs.samples]
    made, parts = _prepare(vlm, inputs, layers, keep, limits)
    found, end = {}, vlm.n_layers
    for variants in parts:
        logits, index, keys = _start(vlm, made, variants, whole=True)
        most = [limits[row] for row, _ in variants]
        sample, layer = zip(*variants, strict=True)
        past = Past(made, sample, layer, index=index, prompt=keys, most=max(most))
        said = vlm.read(greedy(vlm, inputs, past, logits, most), most)
        found |= dict(zip(variants, zip(said.ids, said.texts, strict=True), strict=True))
    rows = range(len(inputs))
    return {
        layer: Answer(
            *zip(*(found.get((row, layer)) or found[row, end] for row in rows), strict=True)
        )
        for layer in layers
    }


def _prepare(vlm, inputs, layers, keep, limits) -> tuple[prefill.Run, Iterator[list]]:
    """The full pass, and the variants (row, layer) in parts: rows together, layers ascending."""
    for layer in layers:
        check_keep(inputs, keep, layer_by_row(vlm, inputs, layer))
    whole = limits is not None
    inputs = vlm.encode(inputs)
    made = prefill.run(vlm, inputs, layers=layers, keep=keep, whole=whole)
    pictures = inputs.spans.image.any(1).tolist()
    variants = [
        (row, layer)
        for row, picture in enumerate(pictures)
        for layer in (sorted(set(layers)) if picture else [vlm.n_layers])
    ]
    size = max(1, POSITIONS // (made.real.shape[1] + max(limits or [1])))
    parts = (variants[first : first + size] for first in range(0, len(variants), size))
    return made, (sorted(part, key=lambda variant: variant[1]) for part in parts)


def _start(vlm, made, variants, *, whole):
    """Logits after the prompts, positions of the carried rows, and their keys by layer."""
    hidden = [variant for variant in variants if variant[1] < vlm.n_layers]
    index = made.real.new_zeros(len(variants), made.real.shape[1], dtype=torch.long)
    logits, keys = made.logits[[row for row, _ in variants]], {}
    if hidden:
        logits[: len(hidden)], keys = prefill.climb(
            vlm, made, *zip(*hidden, strict=True), whole=whole
        )
        index[: len(hidden)] = torch.stack([made.index[layer][row] for row, layer in hidden])
    return logits, index, keys
