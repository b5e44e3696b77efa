"""Pictures through the vision tower, and the grids on which the heat of their tokens is laid."""

from contextlib import nullcontext

import torch

from irlib.hooks.hooks import rows
from irlib.inputs.grids import Grid
from irlib.inputs.records import Inputs


def encoded(vlm, inputs: Inputs) -> tuple[Inputs, list[Grid | None]]:
    """The inputs with their pictures through the vision tower, and the grids to lay heat on."""
    with _bridge(vlm) as crossed:
        seen = vlm.encode(inputs)
    if not crossed:
        return seen, list(inputs.grids)
    weights = torch.stack([each.cpu() for each in crossed.values()]).mean(0).numpy()
    pairs = zip(inputs.grids, weights, strict=True)  # weights [row, token, key]
    # the keys are the patches, and before them one of the whole picture, which has no place
    return seen, [grid.through(mine[:, -grid.shape[0] * grid.shape[1] :]) for grid, mine in pairs]


def _bridge(vlm):
    """Collects what stands between image tokens and patches: head-averaged weights by layer."""
    if vlm.family.bridge is None:
        return nullcontext({})
    module, attentions = vlm.family.bridge(vlm.model)
    return rows(module, None, reduce=lambda weights, _: weights.mean(1), attentions=attentions)
