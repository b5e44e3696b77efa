"""Whose states are put into a run, and where: a donor's, at the positions of a segment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from irlib import doors
from irlib.hooks.hooks import edit
from irlib.inputs.records import Inputs
from irlib.interventions.edges import SOURCES, segments_of

SEGMENTS = (*SOURCES, "answer")


@dataclass(frozen=True, eq=False)
class Donor:
    """The `inputs` whose states are taken, at the positions of a `segment`."""

    inputs: Inputs
    segment: str

    @classmethod
    def of(cls, vlm, inputs: Inputs, donor: Inputs, segment: str) -> "Donor":
        """A donor for each row of `inputs`, encoded; raises `ValueError` as `patch` does."""
        for what, rows in (("inputs", inputs), ("donor", donor)):
            doors.kind(what, rows, Inputs, give="vlm.prepare(sample)")
        if len(donor) != len(inputs):
            if len(donor) != 1:
                raise ValueError(
                    f"asked to patch {len(inputs)} rows, found a donor of {len(donor)}; give one "
                    "row for all, or one a row"
                )
            donor = donor.take([0] * len(inputs))
        found = cls(vlm.encode(donor), segment)
        found.check(inputs)
        return found

    def check(self, inputs: Inputs) -> None:
        """Raise `ValueError` where a row's segment does not fit the donor's."""
        if self.segment not in SEGMENTS:
            raise ValueError(
                f"asked to patch the segment {self.segment!r}, found no such segment; use one of "
                f"{', '.join(SEGMENTS)}"
            )
        if self.segment == "image":
            for one in (inputs, self.inputs):
                one.check_one("a patch of the image")
        each = (self.where(one).sum(1).tolist() for one in (inputs, self.inputs))
        for sample, mine, other in zip(inputs.samples, *each, strict=True):
            if mine != other or not mine:
                raise ValueError(
                    f"asked to patch the {self.segment} (task {sample.task!r}, {sample.key!r}), "
                    f"found {mine} positions and {other} in the donor; give a donor whose "
                    f"{self.segment} has as many, or patch another segment"
                )
        for grid, other in zip(inputs.grids, self.inputs.grids, strict=True):
            shapes = [[view.shape for view in one.views] for one in (grid, other) if one]
            if self.segment == "image" and len(shapes) == 2 and shapes[0] != shapes[1]:
                raise ValueError(
                    f"asked to patch the image, found tokens in rows and columns {shapes[0]}, and "
                    f"{shapes[1]} in the donor; give pictures of the same proportions"
                )

    def where(self, inputs: Inputs) -> Tensor:
        """The positions whose states are exchanged: a mask `[row, position]`."""
        return segments_of(inputs)[self.segment]

    @torch.no_grad()
    def given(self, vlm, layers: Sequence[int]) -> Mapping[int, Tensor]:
        """What these layers are given of the donor: `{layer: [position, channel]}`, row by row."""
        found, where = {}, self.where(self.inputs)

        def note(layer, args, kwargs):
            found[layer] = args[0][where.to(args[0].device)].clone()
            return args, kwargs

        modules = {layer: vlm.decoder.layers[layer] for layer in layers}
        with edit(modules, note, at="input", once=True):
            vlm.forward(self.inputs, logits_to_keep=1)
        return found
