"""An attention matrix with the parts of the prompt marked along its edges."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from irlib.plots.style import SEGMENTS

NORM = (1e-4, 1.0)
LEAST = 0.03
"""Share of an edge below which the bar of a part could not be seen, and is drawn longer."""


def runs(segments: Sequence[str]) -> list[tuple[str, int, int]]:
    """Return `(segment, start, stop)` for each run of equal labels.

    >>> runs(["system", "image", "image", "user"])
    [('system', 0, 1), ('image', 1, 3), ('user', 3, 4)]
    """
    found, start = [], 0
    for name, group in groupby(segments):
        stop = start + len(list(group))
        found.append((name, start, stop))
        start = stop
    return found


def draw_matrix(axes: Axes, weights: np.ndarray, segments: Sequence[str]) -> AxesImage:
    """Draw `weights [query, key]`, log scale, future keys blank, segments as bars at two edges."""
    size = len(segments)
    if weights.shape != (size, size):
        raise ValueError(
            f"draw_matrix() was given {weights.shape} weights for {size} segment labels. "
            "Pass one label per position, as attention_map() returns them."
        )
    cmap = colormaps["viridis"].with_extremes(bad="white")
    future = np.triu(np.ones((size, size), bool), 1)
    shown = np.ma.array(np.maximum(weights, NORM[0]), mask=future)
    image = axes.imshow(shown, cmap=cmap, norm=LogNorm(*NORM), aspect="equal", origin="upper")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5))
    bar = 0.045 * size
    parts = sorted(runs(segments), key=lambda run: run[1] - run[2])
    for name, start, stop in parts:  # the short ones last: they lie on top
        colour = SEGMENTS.get(name, "white")
        long = max(stop - start, LEAST * size)
        first = min(max((start + stop - long) / 2, 0), size - long) - 0.5
        for corner, wide, high in (
            ((first, size - 0.5 + bar * 0.4), long, bar),
            ((-0.5 - bar * 1.4, first), bar, long),
        ):
            axes.add_patch(Rectangle(corner, wide, high, color=colour, lw=0, clip_on=False))
    return image


def draw_scale(image: AxesImage, axes: Axes) -> None:
    """Draw the scale of draw_matrix()'s colours into `axes`."""
    bar = axes.figure.colorbar(image, cax=axes)
    axes.tick_params(labelsize=5.5, length=1.5, pad=1)
    axes.set_title("weight", fontsize=5.5, loc="center")
    bar.set_ticks([1e-4, 1e-2, 1], labels=["0.0001", "0.01", "1"])
    bar.ax.minorticks_off()
    bar.outline.set_visible(False)
