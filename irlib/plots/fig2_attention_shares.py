"""Figure 2: where the answer's attention goes, by layer, and the attention maps behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from irlib.plots.matrices import draw_matrix, draw_scale
from irlib.plots.style import (
    PAGE,
    SEGMENTS,
    count,
    label_ends,
    layer_axis,
    letter,
    new_figure,
    note,
    require,
    styled,
)  # fmt: skip


@styled
def attention_shares(
    table: pd.DataFrame, weights: Mapping[str, np.ndarray], segments: Sequence[str]
) -> Figure:
    """Return (A) the share of each segment by layer, (B) one attention map per entry of `weights`.

    `table` has `layer, segment, measure, value, low, high, n` with measures `share` and `uniform`,
    the share under attention spread evenly over the visible keys (dashed). `weights[title]` is a
    head mean `[query, key]`; `segments` names the part of each position.
    """
    columns = ("layer", "segment", "measure", "value", "low", "high", "n")
    require(table, columns, "attention_shares()")
    figure = new_figure(PAGE, 4.3 if weights else 2.6)
    top = figure.add_axes((0.085, 0.515, 0.76, 0.43) if weights else (0.085, 0.17, 0.76, 0.74))
    _shares(top, table)
    if not weights:
        return figure
    letter(top, "A", left=30)
    step = 0.89 / len(weights)
    for place, (title, matrix) in enumerate(weights.items()):
        axes = figure.add_axes((0.055 + place * step, 0.105, step * 0.88, 0.27))
        image = draw_matrix(axes, matrix, segments)
        axes.set_title(title, loc="center", pad=3)
        if place == 0:
            letter(axes, "B", left=20)
            axes.set_ylabel("query", labelpad=9, fontsize=7)
        axes.set_xlabel("key", labelpad=8, fontsize=7)
    draw_scale(figure, image, (0.935, 0.13, 0.009, 0.22))
    parts = ", ".join(dict.fromkeys(name for name in segments if name in SEGMENTS))
    note(figure, f"B: mean over heads, log scale, of one question. Edge bars, in order: {parts}.")
    return figure


def _shares(axes: Axes, table: pd.DataFrame) -> None:
    ends, empty = {}, []
    for name, colour in SEGMENTS.items():
        rows = table[table["segment"] == name].sort_values("layer")
        share = rows[rows["measure"] == "share"]
        if share.empty or not share["value"].any():
            empty.append(name)
            continue
        uniform = rows[rows["measure"] == "uniform"]
        axes.fill_between(
            share["layer"], share["low"], share["high"], color=colour, alpha=0.2, lw=0
        )
        axes.plot(share["layer"], share["value"], "-o", color=colour, zorder=3)
        axes.plot(uniform["layer"], uniform["value"], "--", color=colour, lw=0.9, alpha=0.9)
        ends[name] = (share["value"].iloc[-1], colour)
    layers = table["layer"].unique()
    axes.set(ylim=(0, 1), xlim=(min(layers) - 0.3, max(layers) + 0.3))
    layer_axis(axes, layers)
    axes.set_ylabel("share of the answer's attention")
    label_ends(axes, max(layers) + 0.55, ends, gap=0.085)
    title = f"{count(table['n'])} questions, 95 % interval; dashed: uniform attention"
    if empty:
        title += f"; no tokens: {', '.join(empty)}"
    axes.set_title(title, fontsize=7)
