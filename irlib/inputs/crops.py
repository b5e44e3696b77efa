"""From the patches of a picture's crops to the cells of its map, where tokens have no place."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Crop:
    """Where the patches of one crop lie: their edges `y [row + 1]`, `x [col + 1]` on the picture.

    `view` is 0 for the crops that together are the finest view of the picture.
    """

    y: np.ndarray
    x: np.ndarray
    view: int = 0


def carried(
    cells: np.ndarray, crops: Sequence[Crop], weights: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """How much of each token's value each cell gets, `[row, col, token]`: in all views, the finest.

    `weights [token, row, col]` say of each crop how much its tokens take of its patches, and then
    of padding; `cells [row, col, 4]` is an even grid. A cell has the mean of the patches that it
    covers, by area, and of the views that cover it.

    >>> crop = Crop(np.array([0.0, 2.0]), np.array([0.0, 2.0, 4.0]))
    >>> cells = np.array([[[0, 0, 1, 2], [1, 0, 4, 2]]])
    >>> carried(cells, [crop], [np.array([[[0.9, 0.3]]])])[0].round(3).ravel().tolist()
    [0.9, 0.5]
    """
    covered, shares = {}, []
    for crop, weight in zip(crops, weights, strict=True):
        rows, cols = len(crop.y) - 1, len(crop.x) - 1
        high = _overlap(cells[:, 0, 1], cells[:, 0, 3], crop.y)
        wide = _overlap(cells[0, :, 0], cells[0, :, 2], crop.x)
        shares.append(np.einsum("yr,xc,trc->yxt", high, wide, weight[:, :rows, :cols]))
        area = high.sum(1)[:, None] * wide.sum(1)
        covered[crop.view] = covered.get(crop.view, 0) + area
    even = [
        np.divide(share, area, out=np.zeros_like(share), where=area > 0)
        for share, crop in zip(shares, crops, strict=True)
        for area in [covered[crop.view][..., None]]
    ]
    views = sum(area > 0 for area in covered.values())[..., None].clip(1)
    finest = [share * (crop.view == 0) for share, crop in zip(even, crops, strict=True)]
    return np.concatenate(even, -1) / views, np.concatenate(finest, -1)


def _overlap(start, end, edges) -> np.ndarray:
    """Lengths `[cell, patch]` that cells from `start` to `end` and patches have in common."""
    low = np.maximum(start[:, None], edges[None, :-1])
    return (np.minimum(end[:, None], edges[None, 1:]) - low).clip(0)
