"""Figure 7: LLaVA-CAM by hook site, the zero maps shown as what they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from irlib.plots.cells import MAPS, draw_key, draw_map, grid_notes
from irlib.plots.lettering import tall, wrap
from irlib.plots.lift import draw_lift
from irlib.plots.page import EDGE, PAGE, Drawing, styled
from irlib.plots.style import closing, count, require

NAMES = {
    "input_norm": "input norm",
    "attention": "attention output",
    "post_attention": "post-attention norm",
    "mlp": "MLP output",
    "block": "block output",
    "authors": "authors' indexing",
}
MORE = {"post_attention": "(the paper's site)", "authors": "(at the paper's site)"}
LEFT, ROW = 1.15, 0.24


@styled
def cam_sites(
    table: pd.DataFrame, maps: Mapping[str, object], title: str, *, layers: Sequence[int] = ()
) -> Figure:
    """Return (A) a row of maps per hook site for one sample, (B) localisation by site and layer.

    `maps[site]` is what llava_cam(site=...) returns, `maps["authors"]` that of their indexing, and
    `title` its question and answer. `table` has `site, layer, measure, value, n` with measures
    `lift` (heat inside the asked box over the box's share of the picture; 1 is chance) and `zero`
    (share of the samples whose map is zero everywhere).
    """
    require(table, ("site", "layer", "measure", "value", "n"), "cam_sites()")
    first = next(iter(maps.values()))
    depth = len(first.heat)
    layers = list(layers) or sorted(set(np.linspace(0, depth - 1, 6).round().astype(int)))
    sites = list(dict.fromkeys(table["site"]))
    lift, zero = (
        table[table["measure"] == name].pivot(index="site", columns="layer", values="value")
        for name in ("lift", "zero")
    )
    counted = count(table.loc[table["measure"] == "lift", "n"])
    foot = f"{MAPS}B: mean of {counted} questions; 1.0 is chance. {closing(table)}"
    title = wrap(title, PAGE - 0.3, 8)
    cell, head = (PAGE - LEFT - EDGE) / len(layers), tall(title, 8) + 0.2
    below = head + cell * len(maps) + 0.3
    height = below + ROW * len(sites) + 0.4
    figure = Drawing(height, title=first.model, foot=foot + grid_notes(maps.values()))
    draw_key(figure)
    figure.letter("A", EDGE, 0.17)
    figure.write(0.24, 0.0, title)
    for place, (site, one) in enumerate(maps.items()):
        top = head + place * cell
        name = "\n".join(filter(None, (NAMES.get(site, site), MORE.get(site, ""))))
        figure.write(EDGE, top + cell / 2, name, va="center", fontsize=7)
        for column, layer in enumerate(layers):
            left = LEFT + column * cell
            axes = figure.place(left + 0.02, top + 0.02, cell - 0.04, cell - 0.04)
            draw_map(axes, one, layer)
            if place == 0:
                axes.set_title(f"layer {layer}", loc="center", pad=3, fontsize=7.5)
    axes = figure.place(LEFT, below, PAGE - LEFT - EDGE, ROW * len(sites))
    names = [NAMES.get(site, site) for site in sites]
    draw_lift(axes, lift.loc[sites], zero.loc[sites] >= 0.995, names)
    figure.letter("B", EDGE, below)
    return figure
