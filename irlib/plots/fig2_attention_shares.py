"""Figure 2: where the answer's attention goes, by layer, and the attention maps behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from irlib.plots.lettering import plain, tall, wrap
from irlib.plots.matrices import draw_matrix, draw_scale
from irlib.plots.page import EDGE, PAGE, Drawing, styled
from irlib.plots.style import SEGMENTS, closing, count, label_ends, layer_axis, require

LEFT, WIDE, HIGH = 0.48, 4.26, 1.85
"""Where panel A stands and how large it is, in inches."""


@styled
def attention_shares(
    table: pd.DataFrame,
    weights: Mapping[str, np.ndarray],
    segments: Sequence[str],
    *,
    model: str,
    question: str = "",
) -> Figure:
    """Return (A) the share of each segment by layer, (B) one attention map per entry of `weights`.

    `table` has `layer, segment, measure, value, low, high, n` with measures `share` and `uniform`,
    the share under attention spread evenly over the visible keys (dashed). `weights[title]` is a
    head mean `[query, key]` of one `question`; `segments` names the part of each position.
    """
    columns = ("layer", "segment", "measure", "value", "low", "high", "n")
    require(table, columns, "attention_shares()")
    foot = f"A: {count(table['n'])} questions, 95 % interval; dashed: uniform attention. "
    if weights:
        foot += "B: mean over heads, log scale. Edge bars: the parts of the prompt, coloured as in "
        foot += "A, a very short one drawn longer. "
    asked = wrap(f"one question: {plain(question)}", PAGE - 0.3, 8)
    step = (PAGE - 0.68) / max(len(weights), 1)
    side = min(step * 0.88, 1.2)
    head, first = 0.2, 0.2 + HIGH + 0.55
    second = first + tall(asked, 8) + 0.2
    height = second + side + 0.24 if weights else first - 0.15
    figure = Drawing(height, title=model, foot=foot + closing(table))
    axes = figure.place(LEFT, head, WIDE, HIGH)
    _shares(axes, table)
    if not weights:
        return figure
    figure.letter("A", EDGE, head)
    figure.write(0.26, first, asked)
    figure.letter("B", EDGE, first + 0.17)
    for place, (title, matrix) in enumerate(weights.items()):
        axes = figure.place(0.28 + place * step, second, side, side)
        image = draw_matrix(axes, matrix, segments)
        axes.set_title(title, loc="center", pad=3)
        if place == 0:
            axes.set_ylabel("query", labelpad=9, fontsize=7)
        axes.set_xlabel("key", labelpad=8, fontsize=7)
    draw_scale(image, figure.place(PAGE - 0.42, second + 0.12, 0.05, side - 0.12))
    return figure


def _shares(axes: Axes, table: pd.DataFrame) -> None:
    ends, layers = [], table["layer"].unique()
    for name, colour in SEGMENTS.items():
        rows = table[table["segment"] == name].sort_values("layer")
        share, uniform = (rows[rows["measure"] == measure] for measure in ("share", "uniform"))
        if not rows["value"].any():
            continue  # the prompt has no such part
        axes.fill_between(
            share["layer"], share["low"], share["high"], color=colour, alpha=0.2, lw=0
        )
        axes.plot(share["layer"], share["value"], "-o", color=colour, zorder=3)
        axes.plot(uniform["layer"], uniform["value"], "--", color=colour, lw=0.9, alpha=0.9)
        ends.append((name, share["value"].iloc[-1], colour))
    top = min(1.0, 1.06 * table[["value", "high"]].max(axis=None))
    axes.set(ylim=(0, top), xlim=(min(layers) - 0.3, max(layers) + 0.3))
    layer_axis(axes, layers)
    axes.set_ylabel("share of the answer's attention")
    room = (axes.get_xlim()[1] - axes.get_xlim()[0]) / WIDE  # layers an inch
    label_ends(axes, axes.get_xlim()[1] + 0.06 * room, ends, size=7.5)
