"""Figure 1: who reads whom, as bands, in shallow and in deep layers."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path

from irlib.plots.style import (
    PAGE,
    SEGMENTS,
    SMALL,
    count,
    ink,
    interval,
    new_figure,
    note,
    require,
    styled,
)  # fmt: skip

READERS = ("image", "user", "answer")
GAP, NODE = 0.16, 0.035


@styled
def information_flow(table: pd.DataFrame) -> Figure:
    """Return one panel per depth: bands from the read segment (left) to the reader (right).

    `table` has `depth, query, segment, measure, value, low, high, n`, measure `share` (and
    `uniform`, named below the panels where it is there). A reader's bands sum to one; a band's
    width is the share of the reader's attention, averaged over heads, rows, layers and samples.

    >>> rows = [("shallow", "answer", "image", "share", 1.0, 1.0, 1.0, 1)]
    >>> names = "depth query segment measure value low high n".split()
    >>> len(information_flow(pd.DataFrame(rows, columns=names)).axes)
    1
    """
    require(table, ("depth", "query", "segment", "measure", "value", "n"), "information_flow()")
    depths = list(dict.fromkeys(table["depth"]))
    figure = new_figure(PAGE, 3.15)
    for place, depth in enumerate(depths):
        width = 1 / len(depths)
        axes = figure.add_axes((place * width + 0.01, 0.23, width - 0.02, 0.69))
        rows = table[table["depth"] == depth]
        _bands(axes, rows[rows["measure"] == "share"].set_index(["query", "segment"])["value"])
        axes.set_title(depth, loc="center", fontsize=9, fontweight="bold")
        axes.text(
            0.5,
            -0.05,
            _summary(rows),
            transform=axes.transAxes,
            ha="center",
            va="top",
            fontsize=7.5,
        )
    text = "Width of a band: share of the reader's attention, mean over heads, rows and layers. "
    note(figure, f"{text}{count(table['n'])} questions; 95 % interval in brackets.")
    return figure


def _summary(rows: pd.DataFrame) -> str:
    picked = rows[(rows["query"] == "answer") & (rows["segment"] == "image")].set_index("measure")
    if "share" not in picked.index:
        return ""
    share = picked.loc["share"]
    text = f"answer reads image: {interval(share['value'], share['low'], share['high'])}"
    if "uniform" in picked.index:
        text += f"\nuniform attention would give {100 * picked.loc['uniform', 'value']:.0f} %"
    return text


def _bands(axes: Axes, share: pd.Series) -> None:
    readers = [name for name in READERS if name in share.index.get_level_values("query")]
    sources = [
        name
        for name in SEGMENTS
        if share[share.index.get_level_values("segment") == name].sum() > 0.005
    ]
    flow = np.array(
        [[share.get((q, s), 0.0) for s in sources] for q in readers]
    )  # [reader, source]
    height = len(readers) + GAP * (len(readers) - 1)
    left_gap = (height - flow.sum()) / max(len(sources) - 1, 1)
    axes.set(xlim=(-0.36, 1.5), ylim=(height + 0.02, -0.02))
    axes.axis("off")
    tops, y = [], 0.0
    for source, total in zip(sources, flow.sum(axis=0), strict=True):
        axes.add_patch(Rectangle((0, y), NODE, total, color=SEGMENTS[source], lw=0))
        axes.text(-0.03, y + total / 2, source, ha="right", va="center",
                  color=ink(SEGMENTS[source]),
                  fontweight="bold" if source == "image" else "normal")  # fmt: skip
        tops.append(y)
        y += total + left_gap
    for row, reader in enumerate(readers):
        y = row * (1 + GAP)
        axes.add_patch(Rectangle((1 - NODE, y), NODE, 1, color=SEGMENTS[reader], lw=0))
        axes.text(
            1.2, y + 0.5, f"{reader}\nreads", ha="left", va="center", color=ink(SEGMENTS[reader])
        )
        for column, source in enumerate(sources):
            width = flow[row, column]
            if width <= 0:
                continue
            _band(
                axes, tops[column], y, width, SEGMENTS[source], 0.75 if source == "image" else 0.4
            )
            if width >= 0.045:
                axes.text(1.02, y + width / 2, f"{100 * width:.0f} %", fontsize=SMALL, ha="left",
                          va="center", color=ink(SEGMENTS[source]))  # fmt: skip
            tops[column] += width
            y += width


def _band(axes: Axes, left: float, right: float, width: float, colour: str, alpha: float) -> None:
    x0, x1 = NODE, 1 - NODE
    middle = (x0 + x1) / 2
    corners = [
        (x0, left), (middle, left), (middle, right), (x1, right),
        (x1, right + width), (middle, right + width), (middle, left + width), (x0, left + width),
        (x0, left),
    ]  # fmt: skip
    codes = [Path.MOVETO, *[Path.CURVE4] * 3, Path.LINETO, *[Path.CURVE4] * 3, Path.CLOSEPOLY]
    axes.add_patch(PathPatch(Path(corners, codes), facecolor=colour, alpha=alpha, lw=0))
