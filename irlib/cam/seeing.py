"""Pictures through the vision tower, and the grids on which the heat of their tokens is laid."""

from contextlib import nullcontext
from dataclasses import replace

import torch

from irlib.inputs.grids import Grid
from irlib.inputs.records import Inputs


def encoded(vlm, inputs: Inputs) -> tuple[Inputs, list[Grid | None]]:
    """The inputs with their pictures through the vision tower, and the grids to lay heat on."""
    bridge = vlm.family.bridge
    with bridge(vlm.model) if bridge else nullcontext({}) as crossed:
        seen = vlm.encode(inputs)
    if not crossed:
        return seen, list(inputs.grids)
    inputs.check_one("maps")
    weights = torch.stack([each.float().cpu() for each in crossed.values()]).mean(0).numpy()
    crops = iter(weights)  # of each [token, row, col], or [token, key]
    laid = tuple(tuple(_through(grid, crops) for grid in row) for row in inputs.laid)
    return seen, list(replace(inputs, laid=laid).grids)


def _through(grid, crops) -> Grid:
    """The grid with the weights that bring its tokens to the patches, taken from all crops'."""
    if grid.crops:
        return grid.read([next(crops) for _ in grid.crops])
    # the keys are the patches, and before them one of the whole picture, which has no place
    return grid.through(next(crops)[:, -grid.shape[0] * grid.shape[1] :])
