"""Figure 7: LLaVA-CAM by hook site, the zero maps shown as what they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from irlib.plots.cells import draw_map, grid_notes
from irlib.plots.lift import draw_lift
from irlib.plots.style import (
    PAGE,
    count,
    new_figure,
    note,
    require,
    styled,
    wrap,
)  # fmt: skip

NAMES = {
    "input_norm": "input norm",
    "attention": "attention output",
    "post_attention": "post-attention norm\n(the paper's site)",
    "mlp": "MLP output",
    "block": "block output",
}
LEFT = 1.12


@styled
def cam_sites(
    table: pd.DataFrame, maps: Mapping[str, object], title: str, *, layers: Sequence[int] = ()
) -> Figure:
    """Return (A) a row of maps per hook site for one sample, (B) localisation by site and layer.

    `maps[site]` is what llava_cam(site=...) returns; a key that is no site is a row title of its
    own, as for the authors' indexing. `table` has `site, layer, measure, value, n` with measures
    `lift` (heat inside the asked box over the box's share of the picture; 1 is chance) and `zero`
    (share of the samples whose map is zero everywhere).
    """
    require(table, ("site", "layer", "measure", "value", "n"), "cam_sites()")
    depth = next(iter(maps.values())).heat.shape[0]
    layers = list(layers) or sorted(set(np.linspace(0, depth - 1, 6).round().astype(int)))
    sites = list(dict.fromkeys(table["site"]))
    cell, head, row = (PAGE - LEFT) / len(layers), 0.5, 0.24
    notes = grid_notes(maps.values())
    more = 0.12 * np.ceil(len(notes) / 105)
    foot = 1.12 + row * len(sites) + more
    height = head + cell * len(maps) + foot
    figure = new_figure(PAGE, height)
    figure.text(0.02, 1 - 0.06 / height, wrap(title, 105, lines=1), fontsize=7.5, va="top")
    for place, (site, one) in enumerate(maps.items()):
        bottom = height - head - (place + 1) * cell
        figure.text(
            0.02, (bottom + cell / 2) / height, NAMES.get(site, site), va="center", fontsize=7
        )
        for column, layer in enumerate(layers):
            box = (LEFT + column * cell + 0.02, bottom + 0.02, cell - 0.04, cell - 0.04)
            axes = figure.add_axes(_share(box, height))
            draw_map(axes, one, layer)
            if place == 0:
                axes.set_title(f"layer {layer + 1}", loc="center", pad=3, fontsize=7.5)
    axes = figure.add_axes(
        _share((LEFT + 0.1, 0.76 + more, PAGE - LEFT - 0.2, row * len(sites)), height)
    )
    _grid(axes, table, sites)
    counted = count(table.loc[table["measure"] == "lift", "n"])
    text = (
        "A: each map scaled by its own maximum. B: share of the heat inside the asked box over the"
    )
    text += f" box's share of the picture (chance = 1.0), mean, {counted} samples."
    text += " 'zero': no gradient reaches the picture's rows, there is no map."
    note(figure, text + notes)
    figure.text(0.02, (0.8 + more + row * len(sites)) / height, "B", fontsize=10, fontweight="bold")
    figure.text(0.02, 1 - (head - 0.06) / height, "A", fontsize=10, fontweight="bold", va="bottom")
    return figure


def _grid(axes: Axes, table: pd.DataFrame, sites: list[str]) -> None:
    lift = table[table["measure"] == "lift"].pivot(index="site", columns="layer", values="value")
    zero = table[table["measure"] == "zero"].pivot(index="site", columns="layer", values="value")
    names = [NAMES.get(site, site).split("\n")[0] for site in sites]
    draw_lift(axes, lift.loc[sites], zero.loc[sites] >= 0.995, names)


def _share(box: tuple[float, float, float, float], height: float) -> tuple[float, ...]:
    x, y, wide, high = box
    return (x / PAGE, y / height, wide / PAGE, high / height)
