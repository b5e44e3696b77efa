"""Put states of one run into another: where a layer's image, question or last row come from."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch

from irlib import doors
from irlib.hooks.hooks import edit
from irlib.inputs.records import Inputs
from irlib.interventions.donors import Donor
from irlib.interventions.recognising import following
from irlib.tasks.pictures import identify

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
    layers = doors.one_or_more("layer", layer, most=vlm.n_layers - 1, some=True)
    if any(model is vlm.model for model in OPEN.get()):
        raise ValueError(
            f"asked to patch {vlm.name} inside another patch of it, found that the donor's "
            "run would be patched too; close the other block first"
        )
    source = Donor.of(vlm, inputs, donor, segment)
    _check_apart(inputs, source.inputs)
    inputs, given = vlm.encode(inputs), source.given(vlm, layers)
    where, sizes = source.where(inputs), source.where(inputs).sum(1).tolist()
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
