"""A grid of numbers: how much more heat lies in the asked box than an even map would put there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from irlib.plots.lettering import SPACING
from irlib.plots.page import SMALL
from irlib.plots.style import GREY, LIGHT, inches, layer_axis

TITLE = "heat inside the asked box, over the box's share of the picture"


def draw_lift(axes: Axes, lift: pd.DataFrame, zero: pd.DataFrame, names: Sequence[str]) -> None:
    """Draw a cell per row and layer of `lift`, indexed alike as `zero`; `names` label the rows.

    `lift` is the heat inside the box over the box's share of the picture (1 is chance), NaN where
    nothing was measured; `zero` is true where the maps are zero everywhere. A layer that a row does
    not have is missing in both (NaN in `zero`) and stays blank. Numbers stand upright where cells
    are narrow.
    """
    top = max(np.nan_to_num(lift.to_numpy(float)).max(), 1.5)
    cmap, turn = colormaps["cividis"], 90 * (inches(axes)[0] / len(lift.columns) < 0.26)
    for y, row in enumerate(lift.index):
        for layer in lift.columns:
            value, empty = lift.loc[row, layer], zero.loc[row, layer]
            if pd.isna(empty):
                continue
            blank = bool(empty) or np.isnan(value)  # no map, or no boxes to hold it against
            face = LIGHT if blank else cmap(value / top)
            axes.add_patch(Rectangle((layer - 0.47, y - 0.45), 0.94, 0.9, color=face, lw=0))
            text = "zero" if empty else "–" if blank else f"{value:.1f}"
            ink = GREY if blank else ("white" if value / top < 0.6 else "black")
            axes.text(layer, y, text, ha="center", va="center", color=ink, rotation=turn,
                      fontsize=6 if turn else SMALL)  # fmt: skip
    axes.set(xlim=(-0.5, max(lift.columns) + 0.5), ylim=(len(lift) - 0.5, -0.5))
    axes.set_yticks(range(len(lift)), names, fontsize=6.5, linespacing=SPACING)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set_title(TITLE, fontsize=7.5)
    layer_axis(axes, lift.columns)
