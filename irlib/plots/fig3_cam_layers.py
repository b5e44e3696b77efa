"""Figures 3 and 4: LLaVA-CAM over the layers, and how well it finds what is asked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from irlib.plots.cells import MAPS, draw_key, draw_map, draw_picture, grid_notes
from irlib.plots.lettering import tall, wrap
from irlib.plots.page import EDGE, PAGE, Drawing, styled
from irlib.plots.style import GREY, SERIES, closing, count, key, layer_axis, require

MEASURES = {"inside": "heat inside the box", "hit": "hottest cell in the box"}


@styled
def cam_layers(
    table: pd.DataFrame, maps: Sequence, titles: Sequence[str], *, layers: Sequence[int] = ()
) -> Figure:
    """Return (A) a row per sample: picture, then its map at `layers`; (B, C) localisation by layer.

    `table` has `task, layer, measure, value, low, high, n` with the measures `inside` (share of the
    heat inside the asked box), `area` (share of the picture that the box covers: chance) and `hit`
    (the hottest cell lies in the box). `maps[row]` is what llava_cam() returns, `titles[row]` its
    question and answer. Every map is scaled by its own maximum; `layers` defaults to seven.
    """
    require(table, ("task", "layer", "measure", "value", "low", "high", "n"), "cam_layers()")
    if len(maps) != len(titles):
        raise ValueError(f"cam_layers() was given {len(maps)} maps for {len(titles)} titles.")
    there = maps[0].layers
    seven = np.linspace(0, len(there) - 1, 7).round().astype(int)
    layers = list(layers) or sorted({there[i] for i in seven})
    foot = f"{MAPS}B, C: {counts(table)}; 95 % interval; dashed: chance. {closing(table)}"
    titles = [wrap(text, PAGE - 2 * EDGE, 7) for text in titles]
    cell, names = (PAGE - 2 * EDGE) / (len(layers) + 1), 0.24
    rows = [tall(text, 7) + 0.03 + cell + 0.05 for text in titles]
    below = names + sum(rows) + 0.22
    figure = Drawing(below + 1.48, title=maps[0].model, foot=foot + grid_notes(maps))
    draw_key(figure)
    figure.letter("A", EDGE, names)
    for column, layer in enumerate(layers, start=1):
        middle = EDGE + (column + 0.5) * cell
        figure.write(
            middle, names - 0.07, f"layer {layer}", fontsize=7.5, ha="center", va="baseline"
        )
    for row, (one, text) in enumerate(zip(maps, titles, strict=True)):
        top = names + sum(rows[:row])
        figure.write(EDGE, top, text, fontsize=7)
        for column in range(len(layers) + 1):
            left = EDGE + column * cell
            y = top + tall(text, 7) + 0.03
            axes = figure.place(left + 0.02, y + 0.02, cell - 0.04, cell - 0.04)
            if column == 0:
                draw_picture(axes, one.picture, one.boxes)
            else:
                draw_map(axes, one, layers[column - 1])
    for place, (measure, label) in enumerate(MEASURES.items()):
        left = 0.48 + place * 2.75
        axes = figure.place(left, below, 2.3, 1.1)
        localisation(axes, table, measure)
        axes.set_title(label)
        figure.letter("BC"[place], left - 0.43, below)
    return figure


def localisation(axes: Axes, table: pd.DataFrame, measure: str) -> None:
    """Draw one line per task of `measure` by layer with its band, and its chance level dashed."""
    layers, tasks = sorted(table["layer"].unique()), list(dict.fromkeys(table["task"]))
    for task, colour in zip(tasks, SERIES, strict=False):
        rows = table[table["task"] == task].sort_values("layer")
        picked, area = (rows[rows["measure"] == name] for name in (measure, "area"))
        axes.fill_between(
            picked["layer"], picked["low"], picked["high"], color=colour, alpha=0.2, lw=0
        )
        axes.plot(picked["layer"], picked["value"], "-o", color=colour, zorder=3)
        measured = area["layer"].isin(picked.loc[picked["n"] > 0, "layer"])
        area = area[measured] if measured.any() else area  # clear of the word 'zero'
        axes.plot(area["layer"], area["value"], "--", color=colour, lw=0.9)
    if len(tasks) > 1:
        key(axes, dict(zip(tasks, SERIES, strict=False)), y=0.99)
    nothing = table[table["measure"] == measure].groupby("layer")["n"].max() == 0
    if nothing.all():
        axes.text(0.5, 0.5, "no boxes in these tasks:\nnothing to measure", ha="center",
                  va="center", transform=axes.transAxes, fontsize=7, color=GREY)  # fmt: skip
        nothing[:] = False
    for layer in nothing[nothing].index:
        axes.text(layer, 0.02, "zero", ha="center", va="bottom", rotation=90, fontsize=6,
                  color=GREY, transform=axes.get_xaxis_transform())  # fmt: skip
    top = table.loc[table["measure"].isin([measure, "area"]), "high"].max()
    room = (1.25 if len(tasks) > 1 else 1.06) * np.nan_to_num(top, nan=0.8)  # for the tasks' names
    axes.set(xlim=(min(layers) - 0.4, max(layers) + 0.4), ylim=(0, room))
    axes.set_yticks([tick for tick in axes.get_yticks() if 0 <= tick <= min(1, room)])
    layer_axis(axes, layers)


def counts(table: pd.DataFrame) -> str:
    """Return `task n = ...` for each task of a localisation table."""
    groups = table[table["measure"] == "inside"].groupby("task", sort=False)
    return ", ".join(f"{task} {count(rows['n'])}" for task, rows in groups)
