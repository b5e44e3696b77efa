"""Figure 5: the score against the layer from which the picture is hidden, and the cliff layer."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from irlib.plots import beside
from irlib.plots.lettering import tall, width, wrap
from irlib.plots.page import EDGE, PAGE, Drawing, styled
from irlib.plots.style import COUNTED, GREY, SERIES, count, inches, ink, require

LOWER_IS_BETTER = ("CHAIRs", "CHAIRi")
CLIFFS = (
    "model", "metric", "layer", "low", "high", "n_layers", "margin", "units", "resolves"
)  # fmt: skip
MOST = 4
"""Models that fit abreast on a page."""
ONE = {"left": 0.5, "gap": 0.6, "wide": 2.2, "high": 1.35}
SEVERAL = {"left": 0.62, "gap": 0.18, "high": 1.2}
FOOT = (
    "Dashed line and diamond: picture never hidden; dotted: no picture in the prompt. Bands: 95 % "
    "interval over samples. Arrow: the cliff layer, the smallest from which on the score stays "
    "within {margin} of it; bracket: its limits, certified at that margin (95 %, over pictures). "
    "n: answers (pictures, if fewer); were none to change, so many would certify {resolves}. "
)
DIVERGENCE = (
    "Below each: how far the first answer token's distribution is from the untouched model's, mean "
    "KL in nats, log scale, nothing below {:g}. "
)
FLOOR = 1e-3
"""Nats below which no divergence is drawn: the logarithm of zero has no place."""
STRIP = 0.36
"""Inches of the divergence's panel."""


@styled
def truncation_curves(
    table: pd.DataFrame,
    cliffs: pd.DataFrame,
    *,
    divergence: pd.DataFrame | None = None,
    others: pd.DataFrame | None = None,
) -> Figure:
    """Return score by truncation layer with its band, the untouched model, and the cliff.

    One model: a panel per metric, two abreast. Several: a row per metric, a column per model, the
    scale of a row shared. `table` has `model, metric, layer, value, low, high, n`, fractions,
    0-based layers; a model's last layer is the untouched model and stands apart as 'never'.
    `cliffs` has `model, metric, layer, low, high, n_layers, margin, units, resolves`, one row per
    model and metric: the arrow, its certified limits as a bracket; and `blank`, where it is there,
    the score without a picture. `divergence`, `model, metric, layer, value, low, high` in nats, is
    drawn below each panel. `others`, as data/paper/cliffs.csv has them, stand below,
    beside these cliffs, by depth.
    """
    require(table, ("model", "metric", "layer", "value", "low", "high", "n"), "truncation_curves()")
    require(cliffs, CLIFFS, "truncation_curves()")
    metrics, models = (list(dict.fromkeys(table[name])) for name in ("metric", "model"))
    if len(models) > MOST:
        raise ValueError(
            f"truncation_curves() was given {len(models)} models; {MOST} fit abreast. Draw several "
            "figures."
        )
    several = len(models) > 1
    cells = [(metric, model) for metric in metrics for model in models]
    columns, sizes = (len(models), SEVERAL) if several else (2, ONE)
    left, gap, high = sizes["left"], sizes["gap"], sizes["high"]
    wide = sizes.get("wide") or (PAGE - left - 0.13 - gap * (columns - 1)) / columns
    names = [wrap(model, wide, 8, bold=True) for model in models] if several else []
    head = 0.25 + max((tall(name, 8) for name in names), default=0.0)
    strip = 0.0 if divergence is None else STRIP + 0.08
    pitch = high + strip + (0.42 if several else 0.55)
    bottom = head + (math.ceil(len(cells) / columns) - 1) * pitch + high + strip
    foot = FOOT.format(margin=_points(cliffs["margin"]), resolves=_resolved(cliffs))
    foot += ("" if divergence is None else DIVERGENCE.format(FLOOR)) + COUNTED
    below = 0.0 if others is None else beside.height(others)
    foot += "" if others is None else beside.FOOT
    figure = Drawing(bottom + 0.42 + below, title=None if several else models[0], foot=foot)
    if others is not None:
        colours = dict(zip(models, SERIES, strict=False))
        beside.draw_others(figure, bottom + 0.42, cliffs, others, colours)
        figure.letter("ABCDEFGHIJ"[len(metrics)], EDGE, bottom + 0.62)
    for place, (metric, model) in enumerate(cells):
        row, column = divmod(place, columns)
        x, y = left + column * (wide + gap), head + row * pitch
        axes = figure.place(x, y, wide, high)
        ours = table[table["metric"] == metric]
        cliff = cliffs[(cliffs["metric"] == metric) & (cliffs["model"] == model)]
        colour = SERIES[models.index(model)]
        _panel(axes, ours, ours[ours["model"] == model], cliff.iloc[0], colour)
        counted = count(ours.loc[ours["model"] == model, "n"], cliff["units"])
        lower = ", lower is better" if metric in LOWER_IS_BETTER else ""
        axes.set_title(counted if several else counted + lower, loc="right", fontsize=7, color=GREY)
        if not several:
            axes.set_title(metric, fontweight="bold")
        label = f"{metric} (%){lower.replace(', ', chr(10))}" if several else "score (%)"
        if column == 0 or not several:
            figure.letter("ABCDEFGHIJ"[metrics.index(metric)], x - left + EDGE, y)
            axes.set_ylabel(label, labelpad=2)
        else:
            axes.tick_params(labelleft=False)
        if divergence is not None:
            mine = divergence[(divergence["metric"] == metric) & (divergence["model"] == model)]
            under = figure.place(x, y + high + 0.08, wide, STRIP)
            _divergence(under, axes, mine, colour, named=column == 0 or not several)
            axes.tick_params(labelbottom=False)  # the strip below has them now
        if several and row == 0:
            figure.write(x, EDGE, names[column], color=ink(colour), fontweight="bold")
    middle = left + (columns * (wide + gap) - gap) / 2
    figure.write(middle, bottom + 0.26, "image hidden from layer L on", ha="center")
    return figure


def _points(fractions: pd.Series, digits: int = 2) -> str:
    """`5 points`, or from the least to the most where they differ; in as many digits."""
    found = list(dict.fromkeys(f"{100 * one:.{digits}g}" for one in sorted(fractions)))
    span = found[0] if len(found) == 1 else f"{found[0]}–{found[-1]}"
    return span + (" point" if span == "1" else " points")


def _resolved(cliffs: pd.DataFrame) -> str:
    """What the pictures of each metric resolve, in words; at once where it is the same."""
    told = {
        metric: _points(rows["resolves"]) for metric, rows in cliffs.groupby("metric", sort=False)
    }
    if len(set(told.values())) == 1:
        return next(iter(told.values()))
    return ", ".join(f"{told[metric]} ({metric})" for metric in told)


def _divergence(axes: Axes, above: Axes, rows: pd.DataFrame, colour: str, *, named: bool) -> None:
    """The divergence of one panel's model, its layers below those of the scores."""
    rows = rows.sort_values("layer")[["layer", "value", "low", "high"]].clip(lower=FLOOR)
    rows["layer"] = np.arange(len(rows))  # clipped with the others
    axes.set(yscale="log", xlim=above.get_xlim(), ylim=(FLOOR, 30))
    axes.fill_between(rows["layer"], rows["low"], rows["high"], color=colour, alpha=0.2, lw=0)
    axes.plot(rows["layer"], rows["value"], color=colour, lw=1)
    axes.set_yticks([0.01, 1], ["0.01", "1"], fontsize=6)
    axes.minorticks_off()
    axes.set_xticks(above.get_xticks(), [label.get_text() for label in above.get_xticklabels()])
    axes.tick_params(labelleft=named)
    if named:
        axes.set_ylabel("KL", labelpad=2, fontsize=7)


def _panel(axes: Axes, scale: pd.DataFrame, rows: pd.DataFrame, cliff, colour: str) -> None:
    """One model's curve; `scale` are the rows that the panel shares its axis with."""
    n_layers = int(cliff["n_layers"])
    never = n_layers + max(0.9, 0.07 * n_layers)
    low, high = 100 * scale["low"].min(), 100 * scale["high"].max()
    if "blank" in cliff:
        low, high = min(low, 100 * cliff["blank"]), max(high, 100 * cliff["blank"])
    span = max(high - low, 20)
    pad, strip = 0.06 * span, 0.36 * span  # the strip holds the cliff's bar, clear of the curve
    axes.set(xlim=(-0.5, never + 0.055 * n_layers), ylim=(low - pad, high + strip))
    ends = max(0, low - pad), min(100, high + pad)
    axes.set_yticks([tick for tick in axes.get_yticks() if ends[0] <= tick <= ends[1]])
    axes.spines["left"].set_bounds(low - pad, ends[1])  # nothing is measured in the strip
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
    if "blank" in cliff:
        axes.axhline(100 * cliff["blank"], color=colour, ls=":", lw=0.8, zorder=1)
    wide = inches(axes)[0] / np.ptp(axes.get_xlim())  # of a layer
    step = math.ceil(0.17 / wide)
    ticks = [layer for layer in range(0, n_layers, step) if (never - layer) * wide > 0.24]
    axes.set_xticks([*ticks, never], [*map(str, ticks), "never"])
    axes.axvline(n_layers - 0.2, color="white", lw=3, zorder=2)
    place = {n_layers: never}
    spots = [place.get(int(cliff[name]), cliff[name]) for name in ("layer", "low", "high")]
    at = 100 * rows.set_index("layer")["value"][int(cliff["layer"])]
    _arrow(axes, spots, at, ["never" if s == never else f"{int(s)}" for s in spots], colour)


def _arrow(axes: Axes, spots, at: float, names, colour: str) -> None:
    """The cliff's limits as a bracket in the strip, its name above it, an arrow to the curve."""
    x, low, high = spots
    bar, label, frame = 0.86, 0.9, axes.get_xaxis_transform()
    axes.plot([low, high], [bar, bar], color=colour, lw=1.2, transform=frame, marker="|", ms=5,
              zorder=4)  # fmt: skip
    left, right = axes.get_xlim()
    text = "cliff {} [{}, {}]".format(*names)
    half = width(text, 7) / 2 * (right - left) / inches(axes)[0]
    axes.text(min(max((low + high) / 2, left + half), right - half), label, text, fontsize=7,
              ha="center", va="bottom", color=ink(colour), transform=frame)  # fmt: skip
    axes.annotate("", (x, at), xytext=(x, bar), textcoords=frame, zorder=5,
                  arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 1, "shrinkA": 0,
                              "shrinkB": 3, "mutation_scale": 7})  # fmt: skip
