"""The explorer's view: one layer's map beside the answer's attention over all layers."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from irlib.plots.cells import draw_map, draw_picture, grid_notes
from irlib.plots.style import (
    GREY,
    PAGE,
    SEGMENTS,
    SMALL,
    ink,
    layer_axis,
    new_figure,
    require,
    styled,
    wrap,
)


@styled
def explore_view(table: pd.DataFrame, maps, title: str, *, layer: int) -> Figure:
    """Return the picture, the map of `layer` (0-based) over it, and the shares with it marked.

    `table` has `layer, segment, share` of one sample, as attention_flow() returns it.

    Raises: ValueError for a layer that the map does not have.
    """
    require(table, ("layer", "segment", "share"), "explore_view()")
    depth = maps.heat.shape[0]
    if not 0 <= layer < depth:
        raise ValueError(
            f"explore_view() was asked for layer {layer}; the maps have 0..{depth - 1}."
        )
    figure = new_figure(PAGE, 2.25)
    figure.text(0.01, 0.985, wrap(title, 100, lines=1), va="top", fontsize=8)
    for place, name in enumerate(("asked", f"LLaVA-CAM, layer {layer + 1}")):
        axes = figure.add_axes((0.01 + 0.285 * place, 0.1, 0.275, 0.685))
        if place == 0:
            draw_picture(axes, maps.picture, maps.boxes)
        else:
            draw_map(axes, maps, layer)
        axes.set_title(name, loc="center", pad=3, fontsize=7.5)
    if told := grid_notes([maps]).removeprefix(f" {getattr(maps, 'model', '')}: "):
        figure.text(0.012, 0.085, wrap(told, 76, lines=2), va="top", fontsize=5.5, color=GREY)
    axes = figure.add_axes((0.65, 0.2, 0.24, 0.585))
    bottom = pd.Series(0.0, index=sorted(table["layer"].unique()))
    for name, colour in SEGMENTS.items():
        share = table[table["segment"] == name].groupby("layer")["share"].mean()
        share = share.reindex(bottom.index).fillna(0.0)
        axes.bar(share.index, share, 0.85, bottom=bottom, color=colour, lw=0)
        bottom += share
    for bar in axes.patches:
        bar.set_alpha(1.0 if round(bar.get_x() + bar.get_width() / 2) == layer else 0.45)
    names = [
        name for name in SEGMENTS if table.loc[table["segment"] == name, "share"].max() > 0.005
    ]
    for rank, name in enumerate(names):
        at = table[(table["segment"] == name) & (table["layer"] == layer)]["share"].mean()
        axes.text(1.03, 0.06 + 0.17 * rank, f"{name}\n{100 * at:.0f} %", color=ink(SEGMENTS[name]),
                  transform=axes.transAxes, fontsize=SMALL, va="bottom")  # fmt: skip
    axes.set(ylim=(0, 1), xlim=(-0.6, depth - 0.4), yticks=[0, 0.5, 1])
    layer_axis(axes, table["layer"], label=False, most=6)
    axes.set_xlabel("layer (counted from 1)", labelpad=1)
    axes.set_title("answer's attention", pad=3, fontsize=7.5)
    return figure
