"""Figure 1: who reads whom, as bands, in shallow and in deep layers."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path

from irlib.plots.lettering import tall, wrap
from irlib.plots.page import EDGE, PAGE, SMALL, Drawing, styled
from irlib.plots.style import (
    FIRST,
    SEGMENTS,
    closing,
    count,
    ink,
    interval,
    label_ends,
    require,
)

READERS = ("image", "user", "answer")
GAP, NODE = 0.16, 0.035
LEAST = 0.005
"""A smaller share is drawn without its number; a segment of which nobody reads more is left out."""


@styled
def information_flow(table: pd.DataFrame, *, model: str) -> Figure:
    """Return one panel per depth: bands from the read segment (left) to the reader (right).

    `table` has `depth, query, segment, measure, value, low, high, n`, measure `share` (and
    `uniform`, named below the panels where it is there). A reader's bands sum to one; a band's
    width is the share of the reader's attention, averaged over heads, rows, layers and samples.

    >>> rows = [("shallow", "answer", "image", "share", 1.0, 1.0, 1.0, 1)]
    >>> names = "depth query segment measure value low high n".split()
    >>> len(information_flow(pd.DataFrame(rows, columns=names), model="mini-llava").axes)
    1
    """
    require(table, ("depth", "query", "segment", "measure", "value", "n"), "information_flow()")
    wide = PAGE / table["depth"].nunique()
    titles = {depth: wrap(depth, wide - 0.3, 9, bold=True) for depth in table["depth"].unique()}
    head = max(tall(title, 9) for title in titles.values()) + 0.07
    foot = (
        "Width of a band: share of the reader's attention, mean over heads, rows and layers. "
        f"{count(table['n'])} questions; 95 % interval in brackets. "
    )
    foot += FIRST * ("first" in set(table["segment"])) + closing(table)
    figure = Drawing(head + 2.62, title=model, foot=foot)
    for place, (depth, title) in enumerate(titles.items()):
        axes = figure.place(place * wide + EDGE, head, wide - 2 * EDGE, 2.2)
        rows = table[table["depth"] == depth]
        _bands(axes, rows[rows["measure"] == "share"].set_index(["query", "segment"])["value"])
        middle = (place + 0.5) * wide
        figure.write(middle, 0.0, title, ha="center", fontsize=9, fontweight="bold")
        figure.write(middle, head + 2.3, _summary(rows), ha="center", fontsize=7.5)
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
        if share[share.index.get_level_values("segment") == name].sum() > LEAST
    ]
    flow = np.array(
        [[share.get((q, s), 0.0) for s in sources] for q in readers]
    )  # [reader, source]
    height = len(readers) + GAP * (len(readers) - 1)
    left_gap = (height - flow.sum()) / max(len(sources) - 1, 1)
    axes.set(xlim=(-0.36, 1.5), ylim=(height + 0.02, -0.02))
    axes.axis("off")
    tops, names, numbers, y = [], [], [], 0.0
    for source, total in zip(sources, flow.sum(axis=0), strict=True):
        axes.add_patch(Rectangle((0, y), NODE, total, color=SEGMENTS[source], lw=0))
        names.append((source, y + total / 2, SEGMENTS[source]))
        tops.append(y)
        y += total + left_gap
    for row, reader in enumerate(readers):
        y = row * (1 + GAP)
        axes.add_patch(Rectangle((1 - NODE, y), NODE, 1, color=SEGMENTS[reader], lw=0))
        colour = ink(SEGMENTS[reader])
        axes.text(1.2, y + 0.5, f"{reader}\nreads", ha="left", va="center", color=colour)
        for column, source in enumerate(sources):
            wide, colour = flow[row, column], SEGMENTS[source]
            if wide > 0:
                alpha = 0.75 if source == "image" else 0.4
                _band(axes, tops[column], y, wide, colour, alpha)
            if wide >= LEAST:
                numbers.append((f"{100 * wide:.0f} %", y + wide / 2, colour))
            tops[column] += wide
            y += wide
    label_ends(axes, -0.03, names, size=8, ha="right")
    label_ends(axes, 1.02, numbers, size=SMALL)


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
