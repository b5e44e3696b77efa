"""One sample's instruments, drawn in one call: the maps of its picture, where attention goes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from irlib.plots.cells import draw_key, draw_map, draw_picture, grid_notes
from irlib.plots.lettering import tall, wrap
from irlib.plots.page import EDGE, PAGE, SMALL, Drawing, styled
from irlib.plots.style import COUNTED, SEGMENTS, label_ends, layer_axis, require

OWN = (
    "Each map is shown in its own cells and scaled by its own maximum; 'zero': no gradient reaches "
    "the picture's rows at that layer. "
)
MOST, ABREAST = 7, 8


@styled
def picture_and_maps(maps, title: str = "", *, layers: Sequence[int] | None = None) -> Figure:
    """Return the picture and its maps at `layers` (0-based; seven of them if None), eight abreast.

    `maps` is what llava_cam() returns for one row and site. Raises ValueError for a layer that it
    has no map of, and for maps of an empty answer.
    """
    there = maps.layers
    spread = np.linspace(0, len(there) - 1, min(MOST, len(there))).round().astype(int)
    layers = [there[i] for i in spread] if layers is None else list(layers)
    if strange := [layer for layer in layers if isinstance(layer, bool) or layer not in there]:
        raise ValueError(
            f"asked to show the maps of layers {strange}, found the layers {list(there)}; give "
            "some of them"
        )
    if not maps.answered:
        raise ValueError(
            "asked to show maps, found those of an empty answer, which has none; give an answer"
        )
    title = wrap(title, PAGE - 2 * EDGE, 7.5)
    columns = min(ABREAST, max(4, len(layers) + 1))
    side = (PAGE - 2 * EDGE) / columns
    head, step = tall(title, 7.5) + 0.22, side + 0.2
    height = head + step * -(-(len(layers) + 1) // columns) - 0.1
    figure = Drawing(height, title=maps.model, foot=OWN + COUNTED + grid_notes([maps]))
    draw_key(figure)
    figure.write(EDGE, 0.0, title, fontsize=7.5)
    for place, layer in enumerate([None, *layers]):
        row, column = divmod(place, columns)
        axes = figure.place(EDGE + column * side, head + row * step, side - 0.05, side - 0.05)
        if layer is None:
            draw_picture(axes, maps.picture, maps.boxes)
        else:
            draw_map(axes, maps, layer)
            axes.set_title(f"layer {layer}", loc="center", pad=2, fontsize=7)
    return figure


@styled
def attention_of(table: pd.DataFrame) -> Figure:
    """Return the share of attention that each segment receives, by layer, as stacked bars.

    `table` is what attention_flow() returns; of several samples or queries it is the mean over
    them, which the figure says. Raises ValueError for other tables, and for several models.
    """
    require(table, ("model", "sample", "layer", "query", "segment", "share"), "attention_of()")
    if table["model"].nunique() > 1:
        raise ValueError(
            f"asked to draw one model's attention, found {sorted(table['model'].unique())}; select "
            "one of them"
        )
    rows, queries = table["sample"].nunique(), list(dict.fromkeys(table["query"]))
    foot = f"Bars: mean over heads, over {', '.join(queries)} positions"
    foot += f" and over {rows} samples. " if rows > 1 else ". "
    figure = Drawing(2.0, title=table["model"].iloc[0], foot=foot + COUNTED)
    axes = figure.place(0.48, 0.1, PAGE - 1.2, 1.45)
    draw_shares(axes, table)
    axes.set_ylabel("share of attention")
    return figure


def draw_shares(axes: Axes, table: pd.DataFrame, *, layer: int | None = None) -> None:
    """Draw shares stacked by layer, each named at its end; one `layer` marked, with its numbers."""
    depth = int(table["layer"].max()) + 1
    bottom, ends = pd.Series(0.0, index=sorted(table["layer"].unique())), []
    looks = {name + end: colour for name, colour in SEGMENTS.items() for end in ("", " sink")}
    for name, colour in looks.items():
        share = table[table["segment"] == name].groupby("layer")["share"].mean()
        share = share.reindex(bottom.index).fillna(0.0)
        hatch = "////" if name.endswith(" sink") else None
        axes.bar(share.index, share, 0.85, bottom=bottom, color=colour, lw=0, hatch=hatch)
        if share.max() > 0.005:
            at = depth - 1 if layer is None else layer
            number = "" if layer is None else f"\n{100 * share[layer]:.0f} %"
            ends.append((name + number, bottom[at] + share[at] / 2, colour))
        bottom += share
    for bar in axes.patches if layer is not None else ():
        bar.set_alpha(1.0 if round(bar.get_x() + bar.get_width() / 2) == layer else 0.45)
    axes.set(ylim=(0, 1), xlim=(-0.6, depth - 0.4), yticks=[0, 0.5, 1])
    label_ends(axes, depth - 0.4 + 0.03 * depth, ends, size=SMALL)
    layer_axis(axes, table["layer"])
