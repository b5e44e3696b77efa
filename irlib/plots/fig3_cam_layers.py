"""Figures 3 and 4: LLaVA-CAM over the layers, and how well it finds what is asked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from irlib.plots.cells import draw_map, draw_picture, grid_notes
from irlib.plots.style import (
    GREY,
    PAGE,
    SERIES,
    count,
    ink,
    layer_axis,
    letter,
    new_figure,
    note,
    require,
    styled,
    wrap,
)  # fmt: skip

NOTE = "samples drawn by seed, each map scaled by its own maximum; 'zero': no gradient reaches the "
NOTE += "picture's rows at that layer, so that there is no map."


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
    name = getattr(maps[0], "model", "")
    small = f"{name + '. ' if name else ''}Pictures: {NOTE} B, C: {counts(table)}; 95 % interval; "
    small += f"dashed: chance.{grid_notes(maps)}"
    more = 0.11 * max(0, len(small) / 100 - 2)  # what two lines of small print do not hold
    cell, title, head, foot = PAGE / (len(layers) + 1), 0.19, 0.22, 2.1 + more
    height = head + len(maps) * (cell + title) + foot
    figure = new_figure(PAGE, height)
    for row, (one, text) in enumerate(zip(maps, titles, strict=True)):
        bottom = height - head - (row + 1) * (cell + title)
        for column in range(len(layers) + 1):
            box = (column * cell + 0.02, bottom + 0.02, cell - 0.04, cell - 0.04)
            axes = figure.add_axes(_share(box, height))
            if column == 0:
                draw_picture(axes, one.picture, one.boxes)
            else:
                draw_map(axes, one, layers[column - 1])
            if row == 0:
                name = f"layer {layers[column - 1] + 1}" if column else "asked"
                axes.annotate(name, (0.5, 1), xycoords="axes fraction", xytext=(0, 16), va="bottom",
                              textcoords="offset points", ha="center", fontsize=7.5)  # fmt: skip
        figure.text(0.02 / PAGE, (bottom + cell + 0.02) / height, wrap(text, 110, lines=1),
                    fontsize=7, va="bottom")  # fmt: skip
    for place, (measure, label) in enumerate(
        (("inside", "heat inside the box"), ("hit", "hottest cell in the box"))
    ):
        axes = figure.add_axes(_share((0.5 + place * 2.75, 0.7 + more, 2.2, 1.1), height))
        localisation(axes, table, measure, label)
        letter(axes, "BC"[place])
    note(figure, small)
    return figure


def localisation(axes: Axes, table: pd.DataFrame, measure: str, label: str) -> None:
    """Draw one line per task of `measure` by layer with its band, and its chance level dashed."""
    layers, tasks = sorted(table["layer"].unique()), list(dict.fromkeys(table["task"]))
    for rank, (task, colour) in enumerate(zip(tasks, SERIES, strict=False)):
        rows = table[table["task"] == task]
        rows = rows.sort_values("layer")
        picked, area = (rows[rows["measure"] == name] for name in (measure, "area"))
        axes.fill_between(
            picked["layer"], picked["low"], picked["high"], color=colour, alpha=0.2, lw=0
        )
        axes.plot(picked["layer"], picked["value"], "-o", color=colour, zorder=3)
        measured = area["layer"].isin(picked.loc[picked["n"] > 0, "layer"])
        area = area[measured] if measured.any() else area  # clear of the word 'zero'
        axes.plot(area["layer"], area["value"], "--", color=colour, lw=0.9)
        if len(tasks) > 1:
            axes.text(0.02 + 0.33 * rank, 0.99, task, color=ink(colour), transform=axes.transAxes,
                      va="top", fontsize=7.5)  # fmt: skip
    nothing = table[table["measure"] == measure].groupby("layer")["n"].max() == 0
    if nothing.all():
        axes.text(0.5, 0.5, "no boxes in these tasks:\nnothing to measure", ha="center",
                  va="center", transform=axes.transAxes, fontsize=7, color=GREY)  # fmt: skip
        nothing[:] = False
    for layer in nothing[nothing].index:
        axes.text(layer, 0.02, "zero", ha="center", va="bottom", rotation=90, fontsize=6,
                  color=GREY, transform=axes.get_xaxis_transform())  # fmt: skip
    top = table.loc[table["measure"].isin([measure, "area"]), "high"].max()
    room = 1.25 * np.nan_to_num(top, nan=0.8)  # above the lines, for the names of the tasks
    axes.set(xlim=(min(layers) - 0.4, max(layers) + 0.4), ylim=(0, room))
    axes.set_yticks([tick for tick in axes.get_yticks() if 0 <= tick <= min(1, room)])
    layer_axis(axes, layers)
    axes.set_title(label)


def counts(table: pd.DataFrame) -> str:
    """Return `task n = ...` for each task of a localisation table."""
    groups = table[table["measure"] == "inside"].groupby("task", sort=False)
    return ", ".join(f"{task} {count(rows['n'])}" for task, rows in groups)


def _share(box: tuple[float, float, float, float], height: float) -> tuple[float, ...]:
    x, y, wide, high = box
    return (x / PAGE, y / height, wide / PAGE, high / height)
