"""Figure 5: the score against the layer from which the picture is hidden, and the cliff layer."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from irlib.plots.style import GREY, PAGE, SERIES, count, ink, new_figure, note, require, styled

LOWER_IS_BETTER = ("CHAIRs", "CHAIRi")


@styled
def truncation_curves(table: pd.DataFrame, cliffs: pd.DataFrame, *, n_layers: int) -> Figure:
    """Return one panel per metric: score by truncation layer with its band, baseline and cliff.

    `table` has `model, metric, layer, value, low, high, n`, fractions, 0-based layers, `n_layers`
    is the untouched model and stands apart as 'never'. `cliffs` has `model, metric, layer, low,
    high, baseline, margin`, one row per model and metric: the arrow, its interval as a bar.
    """
    require(table, ("model", "metric", "layer", "value", "low", "high", "n"), "truncation_curves()")
    metrics = list(dict.fromkeys(table["metric"]))
    models = list(dict.fromkeys(table["model"]))
    lines = math.ceil(len(metrics) / 2)
    height = 0.62 + 1.85 * lines
    figure = new_figure(PAGE, height)
    for place, metric in enumerate(metrics):
        row, column = divmod(place, 2)
        box = (0.42 + 2.85 * column, height - 0.2 - (row + 1) * 1.85 + 0.3, 2.22, 1.33)
        axes = figure.add_axes((box[0] / PAGE, box[1] / height, box[2] / PAGE, box[3] / height))
        _panel(
            axes,
            table[table["metric"] == metric],
            cliffs[cliffs["metric"] == metric],
            models,
            n_layers,
        )
        lower = ", lower is better" if metric in LOWER_IS_BETTER else ""
        axes.set_title(metric, fontweight="bold")
        axes.set_title(f"{count(table.loc[table['metric'] == metric, 'n'])}{lower}", loc="right",
                       fontsize=7, color=GREY)  # fmt: skip
        if row == lines - 1 or place + 2 >= len(metrics):
            axes.set_xlabel("image hidden from layer L (counted from 0)", fontsize=7.5)
    _legend(figure, models, cliffs, height)
    return figure


def _panel(
    axes: Axes, table: pd.DataFrame, cliffs: pd.DataFrame, models: Sequence[str], n_layers: int
) -> None:
    never = n_layers + max(0.9, 0.07 * n_layers)
    lower = table["metric"].iloc[0] in LOWER_IS_BETTER
    high, low = 100 * table["high"].max(), 100 * table["low"].min()
    pad = max(high - low, 20) * 0.12
    axes.set(xlim=(-0.5, never + 0.055 * n_layers), ylim=(low - 2 * pad, high + pad))
    axes.set_yticks([tick for tick in axes.get_yticks() if 0 <= tick <= 100])
    for rank, (model, colour) in enumerate(zip(models, SERIES, strict=False)):
        rows = table[table["model"] == model].sort_values("layer")
        cut, whole = rows[rows["layer"] < n_layers], rows[rows["layer"] == n_layers]
        axes.fill_between(
            cut["layer"], 100 * cut["low"], 100 * cut["high"], color=colour, alpha=0.2, lw=0
        )
        axes.plot(cut["layer"], 100 * cut["value"], "-o", color=colour, zorder=3)
        for _, end in whole.iterrows():
            axes.axhline(100 * end["value"], color=colour, ls=(0, (4, 2)), lw=0.8, zorder=1)
            axes.plot(
                [never] * 2, [100 * end["low"], 100 * end["high"]], color=colour, lw=1, zorder=2
            )
            axes.plot(never, 100 * end["value"], "D", mfc="white", mec=colour, zorder=4, ms=4)
        for _, cliff in cliffs[cliffs["model"] == model].iterrows():
            _arrow(axes, cliff, rows, colour, never, n_layers, 0.13 + 0.15 * rank, lower)
    step = 1 if n_layers <= 12 else math.ceil(n_layers / 8)
    ticks = [layer for layer in range(0, n_layers, step) if n_layers - layer > step / 2]
    axes.set_xticks([*ticks, never], [*map(str, ticks), "never"])
    axes.axvline(n_layers - 0.2, color="white", lw=3, zorder=2)
    axes.set_ylabel("score (%)", labelpad=2)


def _arrow(axes, cliff, rows, colour, never, n_layers, height, lower) -> None:
    place = {n_layers: never}
    x, low, high = (place.get(int(cliff[name]), cliff[name]) for name in ("layer", "low", "high"))
    y = 100 * rows.set_index("layer")["value"].get(cliff["layer"], cliff["baseline"])
    height = 1 - height if lower else height
    name = ("never" if v == never else f"{int(v)}" for v in (x, low, high))
    text = "cliff {} [{}, {}]".format(*name)
    left, right = axes.get_xlim()
    gap, wide = 0.018 * (right - left), 0.024 * len(text) * (right - left)
    if high + gap + wide < right:
        at = {"x": high + gap, "y": height, "ha": "left", "va": "center"}
    elif low - gap - wide > left:
        at = {"x": low - gap, "y": height, "ha": "right", "va": "center"}
    else:  # an interval as wide as the panel
        at = {"x": (left + right) / 2, "y": height + 0.03, "ha": "center", "va": "bottom"}
    frame = axes.get_xaxis_transform()
    halo = patheffects.withStroke(linewidth=2, foreground="white")
    axes.plot([low, high], [height, height], color=colour, lw=1.2, transform=frame,
              marker="|", ms=5, zorder=4)  # fmt: skip
    axes.text(s=text, fontsize=7, color=ink(colour), transform=frame, path_effects=[halo], **at)
    axes.annotate("", (x, y), xytext=(x, height), textcoords=frame, zorder=5,
                  arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 1, "shrinkA": 0,
                              "shrinkB": 3, "mutation_scale": 7})  # fmt: skip


def _legend(figure: Figure, models: Sequence[str], cliffs: pd.DataFrame, height: float) -> None:
    margin = cliffs["margin"].iloc[0] if "margin" in cliffs and len(cliffs) else 0.01
    text = "Dashed line and diamond: picture never hidden. Arrow: cliff layer, the smallest from "
    text += (
        f"which on the score stays within {100 * margin:g} point of it; its bar and the bands: 95 %"
    )
    note(figure, f"{text} interval over samples.")
    for rank, (model, colour) in enumerate(zip(models, SERIES, strict=False)):
        figure.text(0.42 / PAGE + rank * 0.3, 1 - 0.05 / height, model, color=ink(colour), va="top",
                    fontweight="bold")  # fmt: skip
