"""Figure 8: a gallery of LLaVA-CAM, several samples by several layers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from irlib.plots.cam_layers import NOTE, counts, localisation
from irlib.plots.cells import draw_map
from irlib.plots.style import PAGE, letter, new_figure, note, require, styled, wrap


@styled
def cam_gallery(
    table: pd.DataFrame, maps: Sequence, titles: Sequence[str], *, layers: Sequence[int] = ()
) -> Figure:
    """Return a strip of maps per sample, two samples abreast, over the localisation by layer.

    `table`, `maps` and `titles` are as for cam_layers(); `layers` defaults to four.
    """
    require(table, ("task", "layer", "measure", "value", "low", "high", "n"), "cam_gallery()")
    if len(maps) != len(titles):
        raise ValueError(f"cam_gallery() was given {len(maps)} maps for {len(titles)} titles.")
    depth = maps[0].heat.shape[0]
    layers = list(layers) or sorted(set(np.linspace(0, depth - 1, 4).round().astype(int)))
    half = PAGE / 2
    cell, title, foot = (half - 0.08) / len(layers), 0.32, 2.18
    lines = math.ceil(len(maps) / 2)
    height = 0.16 + lines * (cell + title) + foot
    figure = new_figure(PAGE, height)
    for place, (one, text) in enumerate(zip(maps, titles, strict=True)):
        row, side = divmod(place, 2)
        left, bottom = side * (half + 0.04), height - 0.16 - (row + 1) * (cell + title)
        for column, layer in enumerate(layers):
            box = (left + column * cell + 0.015, bottom + 0.015, cell - 0.03, cell - 0.03)
            axes = figure.add_axes((box[0] / PAGE, box[1] / height, box[2] / PAGE, box[3] / height))
            draw_map(axes, one, layer)
            if row == 0:
                axes.annotate(f"layer {layer + 1}", (0.5, 1), xycoords="axes fraction", ha="center",
                              xytext=(0, 22), textcoords="offset points", fontsize=7.5)  # fmt: skip
        figure.text((left + 0.02) / PAGE, (bottom + cell + 0.015) / height, wrap(text, 52, lines=2),
                    fontsize=6.5, va="bottom", linespacing=1.05)  # fmt: skip
    for place, (measure, label) in enumerate(
        (("inside", "heat inside the box"), ("hit", "hottest cell in the box"))
    ):
        axes = figure.add_axes(
            ((0.45 + place * 2.8) / PAGE, 0.76 / height, 2.25 / PAGE, 1.05 / height)
        )
        localisation(axes, table, measure, label)
        letter(axes, "BC"[place])
    note(figure, f"Pictures: {NOTE} B, C: {counts(table)}; 95 % interval; dashed: chance.")
    return figure
