"""Areas of boxes on a picture: what cells have in common with them."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np


def covered(cells: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Share of each of `cells [..., 4]` that the union of `boxes [box, 4]` covers, in 0..1.

    >>> covered(np.array([[0, 0, 2, 1]]), np.array([[0, 0, 1, 1], [0, 0, 1, 1]])).tolist()
    [0.5]
    """
    inside = sum((overlap(cells, b) for b in _disjoint(boxes)), np.zeros(cells.shape[:-1]))
    return inside / overlap(cells, [-np.inf, -np.inf, np.inf, np.inf])


def overlap(cells: np.ndarray, box: Sequence[float]) -> np.ndarray:
    """Area of `cells [row, col, 4]` inside one box."""
    width = np.minimum(cells[..., 2], box[2]) - np.maximum(cells[..., 0], box[0])
    height = np.minimum(cells[..., 3], box[3]) - np.maximum(cells[..., 1], box[1])
    return width.clip(0) * height.clip(0)


def _disjoint(boxes):
    """Boxes that do not overlap and together cover what `boxes` cover."""
    boxes = np.asarray(boxes, float).reshape(-1, 4)
    xs, ys = np.unique(boxes[:, [0, 2]]), np.unique(boxes[:, [1, 3]])
    for x0, x1 in pairwise(xs):
        for y0, y1 in pairwise(ys):
            inside = (boxes[:, :2] <= (x0, y0)) & ((x1, y1) <= boxes[:, 2:])
            if inside.all(1).any():
                yield x0, y0, x1, y1
