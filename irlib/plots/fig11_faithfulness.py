"""Figure 11: which map shows what is asked, and which one explains the answer."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from irlib.plots.page import EDGE, PAGE, SMALL, Drawing, styled
from irlib.plots.style import (
    BLACK,
    COUNTED,
    GREY,
    LIGHT,
    SERIES,
    count,
    inches,
    ink,
    layer_axis,
    require,
    spread,
)

NAMES = {
    "cam post_attention": "LLaVA-CAM (paper)",
    "token post_attention": "the same by token",
    "attention x gradient": "attention × gradient",
    "centre": "nearness to centre",
    "box": "the box itself",
}
MEASURES = {  # in the order of the columns
    "hit": "hottest cell\nin the box",
    "lift": "heat in the box\nover chance",
    "own": "own box minus\nthe other's",
    "gain": "inserted minus\ndeleted",
}
BY_LAYER = {"lift": "heat in the box over chance", "gain": "inserted minus deleted"}
RULERS = {"random": ":", "centre": (0, (6, 2, 1, 2)), "box": (0, (4, 2))}
TICKS = (0.25, 0.5, 1, 2, 4, 8, 16, 32)
LEFT, GAP, ROW, HEAD, HIGH = 1.3, 0.12, 0.185, 0.46, 1.3
FOOT = (
    "Maps of image tokens; A: mean over layers, each brought to a maximum of 1; B: one layer at a "
    "time, in the colours of A. Own box: of questions about one picture, the share of heat in the "
    "box of what was asked less that in the other's. Inserted, deleted: probability of the "
    "untouched answer with a map's highest tokens alone, and without them ({sizes} of all, mean). "
    "95 % interval over pictures (of heat over chance Student's t), of which n could be used. "
    "Lines: rulers that see no question (random dotted, centre dash-dotted) and the box (dashed). "
)


@styled
def map_faithfulness(table: pd.DataFrame, *, model: str, sizes: str) -> Figure:
    """Return (A) what each map shows and explains, (B) the same by layer, for those with layers.

    `table` has `map, layer, measure, value, low, high, n`; `layer` is NaN for a map's mean over
    layers; measures are `hit`, `lift` (heat inside the asked box over the box's share of the
    picture; 1 is chance), `own` (own box minus the other's) and `gain` (inserted minus deleted).
    `sizes` says how many tokens that is of.
    """
    require(table, ("map", "layer", "measure", "value", "low", "high", "n"), "map_faithfulness()")
    means, single = (table[table["layer"].isna() == flag] for flag in (True, False))
    maps = list(dict.fromkeys(means["map"]))
    colours = dict(zip([m for m in maps if m in set(single["map"])], SERIES, strict=False))
    tall = ROW * len(maps)
    below = HEAD + tall + 0.52
    foot = FOOT.format(sizes=sizes) + COUNTED
    if more := [NAMES.get(m, m) for m in maps if m in set(single["map"]) and m not in colours]:
        foot += f" B has colours for {len(SERIES)} maps and leaves out {', '.join(more)}."
    figure = Drawing(below + HIGH + 0.36, title=model, foot=foot)
    wide = (PAGE - LEFT - EDGE - GAP * (len(MEASURES) - 1)) / len(MEASURES)
    figure.letter("A", EDGE, 0.17)
    for column, (measure, name) in enumerate(MEASURES.items()):
        rows = means[means["measure"] == measure].set_index("map").reindex(maps)
        axes = figure.place(LEFT + column * (wide + GAP), HEAD, wide, tall)
        _dots(axes, rows, measure, colours)
        axes.set_title(f"{name}\n{count(rows['n'].fillna(0))}", fontsize=7, loc="center", pad=3)
        axes.tick_params(labelleft=column == 0)
    apart, left = 0.62, 0.5
    half = (PAGE - left - EDGE - apart - 0.55) / 2
    figure.letter("B", EDGE, below)
    for column, (measure, name) in enumerate(BY_LAYER.items()):
        axes = figure.place(left + column * (half + apart), below, half, HIGH)
        rows = single[single["measure"] == measure]
        _lines(axes, rows, means[means["measure"] == measure], measure, colours)
        axes.set_title(f"{name}, {count(rows['n'])}", fontsize=7)
    return figure


def _dots(axes: Axes, rows: pd.DataFrame, measure: str, colours) -> None:
    """A dot and its interval for each map, the rulers' values as lines through the column."""
    for name, dashes in RULERS.items():
        if name in rows.index and not np.isnan(rows.loc[name, "value"]):
            axes.axvline(rows.loc[name, "value"], color=GREY, lw=0.6, ls=dashes, zorder=1)
    for place, (name, row) in enumerate(rows.iterrows()):
        colour = GREY if name in RULERS else colours.get(name, BLACK)
        if np.isnan(row["value"]):
            axes.text(0.02, place, "–", transform=axes.get_yaxis_transform(), va="center",
                      color=GREY, fontsize=7)  # fmt: skip
            continue
        axes.plot([row["low"], row["high"]], [place] * 2, color=colour, lw=1, zorder=2)
        axes.plot(row["value"], place, "o", color=colour, ms=3.4, zorder=3)
    names = [NAMES.get(name, name) for name in rows.index]
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.set_ylim(len(names) - 0.5, -0.5)
    for label, name in zip(axes.get_yticklabels(), rows.index, strict=True):
        label.set_color(ink(colours.get(name, GREY if name in RULERS else BLACK)))
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_color(LIGHT)
    _scale(axes.xaxis, axes.set_xscale, axes.set_xlim, rows, measure)
    axes.tick_params(axis="x", labelsize=6.5)


def _lines(axes: Axes, rows: pd.DataFrame, means: pd.DataFrame, measure: str, colours) -> None:
    """A line for each map that has layers, its intervals; the rulers across."""
    every = pd.concat([rows, means[means["map"].isin(RULERS)]])
    _scale(axes.yaxis, axes.set_yscale, axes.set_ylim, every, measure)
    for place, (name, colour) in enumerate(colours.items()):
        mine = rows[(rows["map"] == name) & rows["value"].notna()].sort_values("layer")
        few = len(mine) <= 8
        x = mine["layer"] + (0.12 * (place - len(colours) / 2) if few else 0)
        if few:
            axes.vlines(x, mine["low"], mine["high"], color=colour, lw=0.8)
        else:
            axes.fill_between(x, mine["low"], mine["high"], color=colour, alpha=0.15, lw=0)
        axes.plot(x, mine["value"], "-o" if few else "-", color=colour, lw=1.2, ms=2.6)
    rulers = means[means["map"].isin(RULERS) & means["value"].notna()].set_index("map")
    for name, row in rulers.iterrows():
        axes.axhline(row["value"], color=GREY, lw=0.7, ls=RULERS[name], zorder=1)
    if rows.empty:
        axes.set_xticks([])
        return
    layer_axis(axes, rows["layer"].astype(int))
    way = axes.transData + axes.transAxes.inverted()  # even heights, on a scale of logarithms too
    heights = [way.transform((0, value))[1] for value in rulers["value"]]
    gap = SMALL * 1.2 / 72 / inches(axes)[1]
    for name, height in zip(rulers.index, spread(heights, gap, 0, 1), strict=True):
        axes.text(1.02, height, name, transform=axes.transAxes, va="center", fontsize=SMALL,
                  color=GREY)  # fmt: skip


def _scale(axis, set_scale, set_limits, rows: pd.DataFrame, measure: str) -> None:
    """The scale of a measure: shares from 0 to 1, ratios by their logarithm."""
    low, high = rows[["low", "value"]].min().min(), rows[["high", "value"]].max().max()
    if np.isnan(low):  # nobody measured it: rows without boxes
        axis.set_major_locator(NullLocator())
    elif measure == "lift":
        low, high = max(min(low, 0.9), TICKS[0]), max(high, 2.2)
        set_scale("log")
        set_limits(low / 1.15, high * 1.15)
        inside = [tick for tick in TICKS if low / 1.15 <= tick <= high * 1.15]
        axis.set_major_locator(FixedLocator(inside))
        axis.set_major_formatter(FixedFormatter([f"{tick:g}" for tick in inside]))
        axis.set_minor_locator(NullLocator())
    elif measure == "hit":
        set_limits(-0.04, 1.04)
        axis.set_major_locator(FixedLocator([0, 0.5, 1]))
    else:
        pad = 0.06 * max(high - low, 0.2)
        set_limits(min(low, 0) - pad, max(high, 0) + pad)
