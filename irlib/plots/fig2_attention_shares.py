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
from irlib.plots.style import (
    BLACK,
    FIRST,
    SEGMENTS,
    SERIES,
    closing,
    count,
    inches,
    label_ends,
    layer_axis,
    require,
)

LEFT, WIDE, HIGH = 0.48, 4.26, 1.85
"""Where panel A stands and how large it is, in inches."""
NARROW, LOW = 3.85, 1.4
"""The same of panel B, whose names are longer."""
DASHES = ((0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1, 1, 1)))


@styled
def attention_shares(
    table: pd.DataFrame,
    weights: Mapping[str, np.ndarray],
    segments: Sequence[str],
    *,
    model: str,
    image: pd.DataFrame | None = None,
    question: str = "",
) -> Figure:
    """Return the share of each segment by layer, and one attention map per entry of `weights`.

    `table` has `layer, segment, measure, value, low, high, n` with measures `share` and `uniform`,
    the share under attention spread evenly over the visible keys (dashed). `weights[title]` is a
    head mean `[query, key]` of one `question`; `segments` names the part of each position. `image`,
    with `kind, series, layer, value, low, high`, is the image's share alone: of each task (`kind`
    "task") and of each model beside (`kind` "control", thin), in a panel of its own between both.
    """
    columns = ("layer", "segment", "measure", "value", "low", "high", "n")
    require(table, columns, "attention_shares()")
    if image is not None:
        require(image, ("kind", "series", "layer", "value", "low", "high"), "attention_shares()")
    foot = f"A: {count(table['n'])} questions, 95 % interval; dashed: uniform attention. "
    foot += FIRST * ("first" in set(table["segment"]))
    if image is not None:
        foot += "B: the image alone, by task"
        foot += "; thin: other models, all tasks. " if "control" in set(image["kind"]) else ". "
    if weights:
        foot += f"{'B' if image is None else 'C'}: mean over heads, log scale. "
        foot += (
            "Edge bars: the parts of the prompt, coloured as in A, a very short one drawn longer. "
        )
    asked = wrap(f"one question: {plain(question)}", PAGE - 0.3, 8)
    step = (PAGE - 0.68) / max(len(weights), 1)
    side = min(step * 0.88, 1.2)
    head, between = 0.2, 0.2 + HIGH + 0.62
    first = 0.2 + HIGH + 0.55 + (LOW + 0.58 if image is not None else 0)
    second = first + tall(asked, 8) + 0.2
    height = second + side + 0.24 if weights else first - 0.15
    figure = Drawing(height, title=model, foot=foot + closing(table))
    axes = figure.place(LEFT, head, WIDE, HIGH)
    _shares(axes, table)
    if image is not None:
        _image_alone(figure.place(LEFT, between, NARROW, LOW), image)
        figure.letter("B", EDGE, between)
    if weights or image is not None:
        figure.letter("A", EDGE, head)
    if not weights:
        return figure
    figure.write(0.26, first, asked)
    figure.letter("B" if image is None else "C", EDGE, first + 0.17)
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
    ends = []
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
    _finish(axes, table, ends, label="share of the answer's attention")


def _image_alone(axes: Axes, image: pd.DataFrame) -> None:
    ends, seen = [], {"task": 0, "control": 0}
    for (kind, name), rows in image.groupby(["kind", "series"], sort=False):
        rows, place = rows.sort_values("layer"), seen[kind]
        seen[kind] += 1
        colour = BLACK if kind == "control" else SERIES[place % len(SERIES)]
        if kind == "control":
            dashes = DASHES[place % len(DASHES)]
            axes.plot(rows["layer"], rows["value"], color=colour, lw=0.8, ls=dashes, zorder=4)
        else:
            axes.fill_between(
                rows["layer"], rows["low"], rows["high"], color=colour, alpha=0.2, lw=0
            )
            axes.plot(rows["layer"], rows["value"], "-o", color=colour, zorder=3, ms=2.2, lw=1.1)
        ends.append((wrap(name, PAGE - LEFT - NARROW - 0.13, 7), rows["value"].iloc[-1], colour))
    _finish(axes, image, ends, label="share of the image", size=7)


def _finish(axes: Axes, table: pd.DataFrame, ends, *, label: str, size: float = 7.5) -> None:
    """Axes from 0 to a little above the highest, and each line's name at its end."""
    layers = table["layer"].unique()
    top = min(1.0, 1.06 * table[["value", "high"]].max(axis=None))
    axes.set(ylim=(0, top or 1.0), xlim=(min(layers) - 0.3, max(layers) + 0.3))
    layer_axis(axes, layers)
    axes.set_ylabel(label)
    left, right = axes.get_xlim()
    label_ends(axes, right + 0.06 * (right - left) / inches(axes)[0], ends, size=size)
