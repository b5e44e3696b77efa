"""The answers of every truncation layer at once, for a few passes of the model."""

from collections.abc import Sequence

from irlib.inputs import Answer, Inputs
from irlib.truncation import rank, truncate


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
    inputs = vlm.encode(inputs)
    index = [(row, layer) for layer in layers for row in range(len(inputs))]
    wide = inputs.take([row for row, _ in index])
    ranking = None
    if keep and min(layers) > 0:
        attention = rank(vlm, inputs)
        ranking = [attention[layer - 1, row, inputs.spans.image[row]] for row, layer in index]
    with truncate(vlm, wide, layer=[layer for _, layer in index], keep=keep, ranking=ranking):
        said = vlm.answer(wide, max_new_tokens=max_new_tokens)
    rows = len(inputs)
    places = {layer: slice(i * rows, (i + 1) * rows) for i, layer in enumerate(layers)}
    return {layer: Answer(said.ids[at], said.texts[at]) for layer, at in places.items()}
