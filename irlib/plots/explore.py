"""The explorer's view: one layer's map beside the answer's attention over all layers."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from irlib.plots.cells import draw_map, draw_picture, grid_notes
from irlib.plots.lettering import tall, wrap
from irlib.plots.page import EDGE, PAGE, Drawing, styled
from irlib.plots.single import draw_shares
from irlib.plots.style import COUNTED, require

SIDE = 1.55


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
    title = wrap(title, PAGE - 2 * EDGE, 8)
    top = tall(title, 8) + 0.24
    figure = Drawing(top + SIDE + 0.4, title=maps.model, foot=COUNTED + grid_notes([maps]))
    figure.write(EDGE, 0.0, title)
    for place, name in enumerate(("picture", f"LLaVA-CAM, layer {layer}")):
        axes = figure.place(EDGE + (SIDE + 0.05) * place, top, SIDE, SIDE)
        if place == 0:
            draw_picture(axes, maps.picture, maps.boxes)
        else:
            draw_map(axes, maps, layer)
        axes.set_title(name, loc="center", pad=3, fontsize=7.5)
    axes = figure.place(2 * SIDE + 0.6, top, PAGE - 2 * SIDE - 1.25, SIDE)
    draw_shares(axes, table, layer=layer)
    axes.set_title("answer's attention", loc="center", pad=3, fontsize=7.5)
    return figure
