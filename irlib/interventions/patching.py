"""Put states of one run into another: where a layer's image, question or last row come from."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from irlib import doors
from irlib.hooks.hooks import edit
from irlib.inputs.records import Inputs
from irlib.interventions.changes import Change
from irlib.interventions.edges import segments_of
from irlib.interventions.likelihood import Changed
from irlib.interventions.prefill import Run, run
from irlib.interventions.recognising import following
from irlib.interventions.staircase import changed_answers, changed_logits
from irlib.tasks.pictures import identify

SEGMENTS = ("system", "image", "question", "answer")
OPEN: ContextVar[tuple] = ContextVar("models that are being patched", default=())


@contextmanager
def patch(
    vlm, inputs: Inputs, donor: Inputs, *, segment: str = "image", layer: int | Sequence[int]
) -> Iterator[None]:
    """Inside the block decoder layer `layer` is given the donor's states at a segment's positions.

    States are what a layer is given of the residual stream, so that at layer 0 the embeddings are
    exchanged, and `segment="image"` there is the donor's picture behind these words. A segment is
    "system", "image", "question" or "answer", as in `knockout`: the question is what stands behind
    the picture up to the prompt's last position, which belongs to the answer. Positions are paired
    in their order; they may stand elsewhere, and a donor may have one row for all. `layer` is
    0-based; several are each exchanged. Works in one forward and in generation, on these inputs
    alone or followed by an answer, or on rows taken from them; tokens behind the prompt keep their
    own states. The donor runs as the block is entered, inside whatever is open. Activation
    patching: Meng et al. 2022, arXiv 2202.05262; Zhang and Nanda 2024, arXiv 2309.16042. What a
    family adds to its image rows between layers (Qwen3-VL) is added to patched rows too, and is the
    own picture's.

    Raises `ValueError` for another segment, for one that a row does not have or that is not as long
    in the donor, for an image that is cut into other rows and columns, for layers out of range, for
    a donor of another number of rows, for equal rows with other donors, inside another `patch` of
    the same model, and for a run on other inputs.

    >>> from irlib import load
    >>> vlm = load("mini-llava")
    >>> inputs, donor = (vlm.prepare(question=f"What is a {it}?") for it in ("cat", "cow"))
    >>> with patch(vlm, inputs, donor, segment="answer", layer=vlm.n_layers - 1):
    ...     text = vlm.answer(inputs, max_new_tokens=1).text
    >>> text == vlm.answer(donor, max_new_tokens=1).text
    True
    """
    layers = layer if hasattr(layer, "__iter__") else [layer]
    layers = doors.counts("layer", layers, most=vlm.n_layers - 1, some=True)
    if any(model is vlm.model for model in OPEN.get()):
        raise ValueError(
            f"asked to patch {vlm.name} inside another patch of it, found that the donor's "
            "run would be patched too; close the other block first"
        )
    change = Patch.of(vlm, inputs, donor, segment)
    _check_apart(inputs, change.donor)
    inputs, given = vlm.encode(inputs), change.given(vlm, layers)
    where, sizes = change.where(inputs), change.where(inputs).sum(1).tolist()
    given = {number: states.split(sizes) for number, states in given.items()}
    # rows that are equal may have other donors: only the inputs as they are tell them apart
    with following(vlm, inputs, torch.arange(len(inputs))[:, None]) as now:

        def put(number, args, kwargs):
            if now["seen"]:
                return args, kwargs
            states = args[0].clone()
            mask = where[now["rows"].to(where.device)]
            new = torch.cat([given[number][row] for row in now["rows"].tolist()])
            states[:, : mask.shape[1]][mask.to(states.device)] = new.to(states)
            return (states, *args[1:]), kwargs

        token = OPEN.set((*OPEN.get(), vlm.model))
        try:
            with edit({number: vlm.decoder.layers[number] for number in layers}, put, at="input"):
                yield
        finally:
            OPEN.reset(token)


@dataclass(frozen=True, kw_only=True, eq=False)
class Patch(Change):
    """`patch` at one layer after another, the states of `donor` in the place of a `segment`."""

    donor: Inputs
    segment: str = "image"

    @classmethod
    def of(cls, vlm, inputs: Inputs, donor: Inputs, segment: str) -> "Patch":
        """The patch, its donor encoded and of as many rows; raises `ValueError` as `patch` does."""
        for what, rows in (("inputs", inputs), ("donor", donor)):
            doors.kind(what, rows, Inputs, give="vlm.prepare(sample)")
        if len(donor) != len(inputs):
            if len(donor) != 1:
                raise ValueError(
                    f"asked to patch {len(inputs)} rows, found a donor of {len(donor)}; give one "
                    "row for all, or one a row"
                )
            donor = donor.take([0] * len(inputs))
        change = cls(donor=vlm.encode(donor), segment=segment)
        change.check(vlm, inputs, [])
        return change

    def check(self, vlm, inputs: Inputs, layers: Sequence[int]) -> None:
        """Raise `ValueError` for what cannot be done to these inputs at these layers."""
        if self.segment not in SEGMENTS:
            raise ValueError(
                f"asked to patch the segment {self.segment!r}, found no such segment; use one of "
                f"{', '.join(SEGMENTS)}"
            )
        for layer in layers:
            self.span(layer, vlm.n_layers)
        each = (self.where(one).sum(1).tolist() for one in (inputs, self.donor))
        for sample, mine, other in zip(inputs.samples, *each, strict=True):
            if mine != other or not mine:
                raise ValueError(
                    f"asked to patch the {self.segment} (task {sample.task!r}, {sample.key!r}), "
                    f"found {mine} positions and {other} in the donor; give a donor whose "
                    f"{self.segment} has as many, or patch another segment"
                )

        for grid, other in zip(inputs.grids, self.donor.grids, strict=True):
            shapes = [[view.shape for view in one.views] for one in (grid, other) if one]
            if self.segment == "image" and len(shapes) == 2 and shapes[0] != shapes[1]:
                raise ValueError(
                    f"asked to patch the image, found tokens in rows and columns {shapes[0]}, and "
                    f"{shapes[1]} in the donor; give pictures of the same proportions"
                )

    def where(self, inputs: Inputs) -> Tensor:
        """The positions whose states are exchanged: a mask `[row, position]`."""
        return segments_of(inputs)[self.segment]

    def touches(self, inputs: Inputs) -> list[bool]:
        """Every row is changed."""
        return [True] * len(inputs)

    @torch.no_grad()
    def given(self, vlm, layers: Sequence[int]) -> Mapping[int, Tensor]:
        """What these layers are given of the donor: `{layer: [position, channel]}`, row by row."""
        found, where = {}, self.where(self.donor)

        def note(layer, args, kwargs):
            found[layer] = args[0][where.to(args[0].device)].clone()
            return args, kwargs

        modules = {layer: vlm.decoder.layers[layer] for layer in layers}
        with edit(modules, note, at="input", once=True):
            vlm.forward(self.donor, logits_to_keep=1)
        return found

    def run(self, vlm, inputs: Inputs, *, layers: Sequence[int], whole: bool) -> Run:
        """The full pass that all layers share, the donor's states in the rows that begin there."""
        where = self.where(inputs)
        made = run(vlm, inputs, layers=layers, changed=where, whole=whole)
        given, states = self.given(vlm, [*made.states]), {}
        for layer, own in made.states.items():
            here = where.gather(1, made.index[layer]) & made.real
            states[layer] = own.clone()
            states[layer][here.to(own.device)] = given[layer].to(own)
        return replace(made, states=states)

    def inside(self, vlm, inputs: Inputs, layer: int) -> AbstractContextManager:
        """The block in which whatever runs is changed; nothing at the layer behind the last."""
        if layer == vlm.n_layers:
            return nullcontext()
        return patch(vlm, inputs, self.donor, segment=self.segment, layer=layer)


def _check_apart(inputs, donor) -> None:
    """Refuse equal rows with other donors: in a run nothing tells which of them is which."""
    known = {}
    for row, (one, other) in enumerate(zip(*map(_rows, (inputs, donor)), strict=True)):
        first, before = known.setdefault(one, (row, other))
        if before != other:
            raise ValueError(
                f"asked to patch the rows {first} and {row}, found that they are equal and their "
                "donors are not; patch them in blocks of their own, or use patched_answers"
            )


def _rows(inputs) -> list[tuple]:
    """What tells the rows of inputs apart: their tokens and pictures."""
    ids = [tuple(row) for row in inputs.text["input_ids"].tolist()]
    pictures = [identify(sample.image) for sample in inputs.samples]
    return list(zip(ids, pictures, strict=True))


def patched_logits(
    vlm, inputs: Inputs, donor: Inputs, *, segment: str = "image", layers: Sequence[int]
) -> Tensor:
    """Logits `[layer, row, vocabulary]` after each prompt, patched at each of `layers` alone.

    What a forward inside `patch` gives at the last position, all layers from one pass of both runs
    and one climb; n_layers is the untouched model. Raises `ValueError` where `patch` does.

    >>> from irlib import load, load_task
    >>> vlm = load("mini-llava")
    >>> inputs, donor = (vlm.prepare(sample) for sample in load_task("pope", n=2))
    >>> patched_logits(vlm, inputs, donor, layers=[0, 12]).shape[:2]
    torch.Size([2, 1])
    """
    change = Patch.of(vlm, inputs, donor, segment)
    return changed_logits(vlm, inputs, layers, change)


def patched_answers(
    vlm,
    inputs: Inputs,
    donor: Inputs,
    *,
    segment: str = "image",
    layers: Sequence[int],
    max_new_tokens: int | None = None,
    logprob: bool = False,
) -> dict[int, Changed]:
    """The greedy answer of each row, patched at each of `layers` alone, as `Changed`.

    `answers_by_layer` says what that holds; `logprob` is that of the untouched answer. Raises
    `ValueError` where `patch` and `vlm.answer` do.

    >>> from irlib import load, load_task
    >>> vlm = load("mini-llava")
    >>> inputs, donor = (vlm.prepare(sample) for sample in load_task("pope", n=2))
    >>> answers = patched_answers(vlm, inputs, donor, layers=[0, 12])
    >>> answers[12].text == vlm.answer(inputs).text
    True
    """
    change, options = Patch.of(vlm, inputs, donor, segment), {"logprob": logprob}
    return changed_answers(vlm, inputs, layers, change, max_new_tokens=max_new_tokens, **options)
