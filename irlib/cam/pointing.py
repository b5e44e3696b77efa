"""Does a map point at a box? The pointing game and the share of the heat, of one map on a grid."""

import numpy as np

from irlib.inputs.grids import Grid


def pointing(grid: Grid, heat: np.ndarray, boxes: np.ndarray) -> tuple[float, float, float]:
    """`inside, area, hit` of `heat [row, col]`, none of it negative, and `boxes [box, 4]`.

    `inside` is the share of the heat within the boxes, `area` that of an even map (chance: the
    share of the seen picture that they cover), `hit` 1.0 if the centre of the hottest cell lies in
    a box (Zhang et al. 2018), NaN where all cells are alike. NaN where the map is zero everywhere,
    or without boxes.
    """
    if not len(boxes):
        return np.nan, np.nan, np.nan
    covered = grid.cover(boxes)
    if not heat.max() > 0:
        return np.nan, float(covered.mean()), np.nan
    centre = grid.cells.reshape(-1, 2, 2).mean(1)[heat.argmax()]
    heat = heat.astype(float)  # in float32 a share can lie above 1
    hit = ((boxes[:, :2] <= centre) & (centre < boxes[:, 2:])).all(1).any()
    hit = float(hit) if np.ptp(heat) else np.nan
    return float((heat * covered).sum() / heat.sum()), float(covered.mean()), hit
