"""Figure 5: the score against the layer from which the picture is hidden, and the cliff layer."""

from __future__ import annotations

import math

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from irlib.plots.style import GREY, PAGE, SERIES, count, ink, new_figure, note, require, styled

LOWER_IS_BETTER = ("CHAIRs", "CHAIRi")
MOST = 4
"""Models that fit abreast on a page."""


@styled
def truncation_curves(table: pd.DataFrame, cliffs: pd.DataFrame) -> Figure:
    """Return score by truncation layer with its band, the untouched model, and the cliff.

    One model: a panel per metric, two abreast. Several: a row per metric, a column per model, the
    scale of a row shared. `table` has `model, metric, layer, value, low, high, n`, fractions,
    0-based layers; a model's last layer is the untouched model and stands apart as 'never'.
    `cliffs` has `model, metric, layer, low, high, n_layers, margin`, one row per model and metric:
    the arrow, its interval as a bar.
    """
    require(table, ("model", "metric", "layer", "value", "low", "high", "n"), "truncation_curves()")
    require(cliffs, ("model", "metric", "layer", "low", "high", "n_layers"), "truncation_curves()")
    metrics, models = (list(dict.fromkeys(table[name])) for name in ("metric", "model"))
    if len(models) > MOST:
        raise ValueError(
            f"truncation_curves() was given {len(models)} models; {MOST} fit abreast. Draw several "
            "figures."
        )
    several = len(models) > 1
    cells = [(metric, model) for metric in metrics for model in models]
    columns = len(models) if several else 2
    rows = math.ceil(len(cells) / columns)
    left, gap, wide, high = (0.55, 0.2, 0.0, 1.12) if several else (0.42, 0.63, 2.22, 1.4)
    wide = wide or (PAGE - left - 0.1 - gap * (columns - 1)) / columns
    head, foot, pitch = 0.42 if several else 0.4, 0.82, high + (0.38 if several else 0.5)
    height = head + rows * pitch + foot - (pitch - high)
    figure = new_figure(PAGE, height)
    for place, (metric, model) in enumerate(cells):
        row, column = divmod(place, columns)
        box = (left + column * (wide + gap), height - head - row * pitch - high, wide, high)
        axes = figure.add_axes((box[0] / PAGE, box[1] / height, box[2] / PAGE, box[3] / height))
        ours = table[table["metric"] == metric]
        cliff = cliffs[(cliffs["metric"] == metric) & (cliffs["model"] == model)]
        colour = SERIES[models.index(model)]
        _panel(axes, ours, ours[ours["model"] == model], cliff.iloc[0], colour)
        counted = count(ours.loc[ours["model"] == model, "n"])
        lower = ", lower is better" if metric in LOWER_IS_BETTER else ""
        axes.set_title(counted if several else counted + lower, loc="right", fontsize=7,
                       color=GREY, pad=3 if several else 5)  # fmt: skip
        if not several:
            axes.set_title(metric, fontweight="bold")
            axes.set_ylabel("score (%)", labelpad=2)
        elif column == 0:
            axes.set_ylabel(f"{metric} (%){lower.replace(', ', chr(10))}", labelpad=2)
        else:
            axes.tick_params(labelleft=False)
        if several and row == 0:
            axes.annotate(
                model, (0, 1), xycoords="axes fraction", xytext=(0, 15), va="bottom",
                textcoords="offset points", fontweight="bold", color=ink(colour),
            )  # fmt: skip
    text = "image hidden from layer L (counted from 0)"
    centre = (left + (columns * (wide + gap) - gap) / 2) / PAGE
    figure.text(centre, (foot - 0.34) / height, text, ha="center", va="center")
    if not several:
        figure.text(left / PAGE, 1 - 0.05 / height, models[0], color=ink(SERIES[0]), va="top",
                    fontweight="bold")  # fmt: skip
    margin = cliffs["margin"].iloc[0] if "margin" in cliffs else 0.01
    note(
        figure,
        "Dashed line and diamond: picture never hidden. Arrow: cliff layer, the smallest from "
        f"which on the score stays within {100 * margin:g} point of it; its bar and the bands: "
        "95 % interval over samples.",
    )
    return figure


def _panel(axes: Axes, scale: pd.DataFrame, rows: pd.DataFrame, cliff, colour: str) -> None:
    """One model's curve; `scale` are the rows that the panel shares its axis with."""
    n_layers = int(cliff["n_layers"])
    never = n_layers + max(0.9, 0.07 * n_layers)
    lower = cliff["metric"] in LOWER_IS_BETTER
    low, high = 100 * scale["low"].min(), 100 * scale["high"].max()
    span = max(high - low, 20)
    pad, strip = 0.07 * span, 0.34 * span  # the strip holds the cliff's bar, clear of the curve
    below, above = (pad, strip) if lower else (strip, pad)
    axes.set(xlim=(-0.5, never + 0.055 * n_layers), ylim=(low - below, high + above))
    axes.set_yticks(
        [t for t in axes.get_yticks() if max(0, low - pad) <= t <= min(100, high + pad)]
    )
    rows = rows.sort_values("layer")
    cut, whole = rows[rows["layer"] < n_layers], rows[rows["layer"] == n_layers]
    axes.fill_between(
        cut["layer"], 100 * cut["low"], 100 * cut["high"], color=colour, alpha=0.2, lw=0
    )
    axes.plot(cut["layer"], 100 * cut["value"], "-o", color=colour, zorder=3)
    for _, end in whole.iterrows():
        axes.axhline(100 * end["value"], color=colour, ls=(0, (4, 2)), lw=0.8, zorder=1)
        axes.plot([never] * 2, [100 * end["low"], 100 * end["high"]], color=colour, lw=1, zorder=2)
        axes.plot(never, 100 * end["value"], "D", mfc="white", mec=colour, zorder=4, ms=4)
    wide = axes.get_position().width * axes.figure.get_figwidth()
    step = math.ceil(n_layers / (12 if wide > 2 and n_layers <= 12 else 7))
    ticks = [layer for layer in range(0, n_layers, step) if n_layers - layer > step / 2]
    axes.set_xticks([*ticks, never], [*map(str, ticks), "never"])
    axes.axvline(n_layers - 0.2, color="white", lw=3, zorder=2)
    place = {n_layers: never}
    spots = [place.get(int(cliff[name]), cliff[name]) for name in ("layer", "low", "high")]
    at = 100 * rows.set_index("layer")["value"][int(cliff["layer"])]
    _arrow(axes, spots, at, ["never" if s == never else f"{int(s)}" for s in spots], colour, lower)


def _arrow(axes: Axes, spots, at: float, names, colour: str, lower: bool) -> None:
    """The cliff's interval as a bar in the strip, its name outside of it, an arrow to the curve."""
    x, low, high = spots
    bar, label = (0.84, 0.89) if lower else (0.16, 0.11)
    frame = axes.get_xaxis_transform()
    axes.plot([low, high], [bar, bar], color=colour, lw=1.2, transform=frame, marker="|", ms=5,
              zorder=4)  # fmt: skip
    left, right = axes.get_xlim()
    text = "cliff {} [{}, {}]".format(*names)
    half = 0.029 * len(text) * (right - left) / (axes.get_position().width * PAGE)
    axes.text(min(max((low + high) / 2, left + half), right - half), label, text, fontsize=7,
              ha="center", va="bottom" if lower else "top", color=ink(colour),
              transform=frame)  # fmt: skip
    axes.annotate("", (x, at), xytext=(x, bar), textcoords=frame, zorder=5,
                  arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 1, "shrinkA": 0,
                              "shrinkB": 3, "mutation_scale": 7})  # fmt: skip
