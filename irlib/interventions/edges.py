"""Cut an edge: in chosen layers the rows of one segment do not see the columns of another."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from irlib import doors
from irlib.inputs.records import Inputs
from irlib.interventions.hiding import hiding
from irlib.interventions.recognising import first_layer
from irlib.interventions.sight import look

SOURCES, TARGETS = ("system", "image", "question"), ("image", "question", "answer")
EDGES = tuple(f"{one}>{other}" for one in SOURCES for other in TARGETS if one != other)
KINDS = ("from", "upto", "single", "window")


@dataclass(frozen=True, eq=False)
class Edge:
    """Which rows may not see which columns: masks `[row, position]` of inputs.

    `answer` is whether the rows of an answer that follows them are among the blind.
    """

    rows: Tensor
    columns: Tensor
    answer: bool


@contextmanager
def knockout(
    vlm, inputs: Inputs, *, edge: str = "image>question", layers: int | Sequence[int]
) -> Iterator[None]:
    """Inside the block no row of the edge's target sees a column of its source, in these layers.

    An edge is "source>target" of the segments system, image, question and answer, as `Spans` has
    them: the question is what stands behind the picture up to the prompt's last position, which
    belongs to the answer, whose rows are those that predict it. Where a family puts the picture
    before all text (InstructBLIP's queries) there is no system, and the question is all of the
    text. Other rows see what they saw, markers between tiles among them. `layers` are 0-based.
    Works in one forward and in generation, on these inputs alone or followed by an answer, or on
    rows taken from them. The attention knockout of Geva et al. 2023, arXiv 2304.14767.

    Raises `ValueError` for another edge, for one that a row does not have (no picture, no system,
    a target that does not see its source at all), for layers out of range, and for a run on other
    inputs.

    >>> from irlib import load
    >>> vlm = load("mini-llava")
    >>> inputs = vlm.prepare(question="What is a cat?")
    >>> with knockout(vlm, inputs, edge="question>answer", layers=range(vlm.n_layers)):
    ...     blind = vlm.answer(inputs).text
    >>> blind == vlm.answer(inputs).text
    False
    """
    doors.kind("inputs", inputs, Inputs, give="vlm.prepare(sample)")
    layers = doors.one_or_more("layers", layers, most=vlm.n_layers - 1)
    inputs = vlm.encode(inputs)
    cut = edge_of(inputs, edge)
    _, arguments = first_layer(vlm, inputs)
    check_edge(inputs, edge, cut, arguments.get("attention_mask"))
    unseen = dict.fromkeys(layers, (cut.rows, cut.columns))
    with hiding(vlm, inputs, unseen, beyond=cut.answer):
        yield


def edge_of(inputs: Inputs, edge: str) -> Edge:
    """The `Edge` of that name in each row; raises `ValueError` where a row lacks a segment."""
    check_name(edge)
    segments = segments_of(inputs)
    source, _, target = edge.partition(">")
    for name in (source, target):
        if empty := (~segments[name].any(1)).nonzero().flatten().tolist():
            raise _missing(inputs, edge, empty[0], f"no {name} in it")
    return Edge(segments[target], segments[source], target == "answer")


def segments_of(inputs: Inputs) -> dict[str, Tensor]:
    """Masks `[row, position]` of system, image, question and answer, as edges mean them."""
    spans, place = inputs.spans, torch.arange(inputs.length, device=inputs.spans.user.device)
    last = place == place.where(spans.user, -1).amax(1, keepdim=True)
    return {
        "system": spans.system,
        "image": spans.image,
        "question": spans.user & ~last,
        "answer": last | spans.answer,
    }


def check_name(edge: str) -> None:
    """Raise `ValueError` for what is no edge in any model."""
    if edge not in EDGES:
        raise ValueError(
            f"asked to cut the edge {edge!r}, found no such edge; use one of {', '.join(EDGES)}"
        )


def check_edge(inputs: Inputs, edge: str, cut: Edge, mask: Tensor | None) -> None:
    """Raise `ValueError` for a row in which the target sees nothing of the source to begin with.

    `mask` is that of a layer as the model makes it: some families see their prompt both ways.
    """
    n, length = cut.rows.shape
    place = torch.arange(length, device=cut.rows.device)
    seen = look(mask, torch.arange(n), *[place.expand(n, -1)] * 2).to(place.device)
    seen = seen | (place <= place[:, None])  # behind a window, which other layers do not have
    seen = seen & cut.rows[:, :, None] & cut.columns[:, None]
    if blind := (~seen.flatten(1).any(1)).nonzero().flatten().tolist():
        raise _missing(inputs, edge, blind[0], "that its target stands before its source")


def span(kind: str, layer: int, *, window: int, n_layers: int) -> tuple[int, int]:
    """The first layer of a cut and the one behind its last; both `n_layers` where nothing is cut.

    "from" a layer on, "upto" and with it, "single" alone, or a "window" of so many that begins with
    it. Layer `n_layers` stands for the untouched model. Raises `ValueError` for another kind and
    for a window that goes beyond the layers.

    >>> [span(kind, 2, window=3, n_layers=12) for kind in KINDS]
    [(2, 12), (0, 3), (2, 3), (2, 5)]
    """
    if kind not in KINDS:
        raise ValueError(
            f"asked to cut the layers {kind!r}, found no such kind; use one of {', '.join(KINDS)}"
        )
    window = doors.count("window", window, least=1)
    layer = doors.count("layer", layer, most=n_layers)
    if layer == n_layers:
        return n_layers, n_layers
    ends = {"from": (layer, n_layers), "upto": (0, layer + 1), "single": (layer, layer + 1)}
    first, last = ends.get(kind, (layer, layer + window))
    if last > n_layers:
        raise ValueError(
            f"asked to cut a window of {window} layers from layer {layer} on, found {n_layers} "
            f"layers; begin at most at {n_layers - window}, or take a smaller window"
            if window <= n_layers
            else f"asked to cut a window of {window} layers, found {n_layers} layers; take a "
            "smaller window"
        )
    return first, last


def _missing(inputs, edge, row, found) -> ValueError:
    sample = inputs.samples[row]
    return ValueError(
        f"asked to cut the edge {edge!r}, found {found} (row {row}: task {sample.task!r}, "
        f"{sample.key!r}); leave that row out, or cut an edge that it has"
    )
