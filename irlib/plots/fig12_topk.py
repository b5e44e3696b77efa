"""Figure 12: the score with few image tokens kept, by ranking, number and layer."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from irlib.plots.page import EDGE, PAGE, Drawing, styled
from irlib.plots.style import BLACK, BLUE, COUNTED, GREEN, GREY, VERMILLION, count, key, require

COLOURS = {"box": GREEN, "centre": BLACK, "random": GREY}
"""Of the rulers; other rankings take the rest, in their order."""
OTHERS = (BLUE, VERMILLION, "#CC79A7", "#E69F00", "#56B4E9")
NAMES = {"last row": "attention of the last row", "token post_attention": "LLaVA-CAM by token"}
LEFT, GAP, TOP, HIGH, ABREAST = 0.45, 0.14, 0.42, 1.45, 4
FOOT = (
    "From layer L on text sees only so many image tokens, the best of a ranking; 0: none. Dashed: "
    "all tokens, the untouched model. 95 % interval over pictures. Random is what any other "
    "ranking must beat; LLaVA-CAM knows the model's answer, the box what is asked. "
)


@styled
def tokens_kept(table: pd.DataFrame, *, model: str) -> Figure:
    """Return the score by number of image tokens kept, a panel a layer, a line a ranking.

    `table` has `ranking, layer, kept, value, low, high, n`, scores as fractions; the ranking "none"
    keeps no token, "untouched" is the model itself.
    """
    require(table, ("ranking", "layer", "kept", "value", "low", "high", "n"), "tokens_kept()")
    layers = sorted(table.loc[table["ranking"] != "untouched", "layer"].unique())
    names = [r for r in dict.fromkeys(table["ranking"]) if r not in ("none", "untouched")]
    others = [name for name in names if name not in COLOURS]
    if len(others) > len(OTHERS):
        raise ValueError(
            f"asked to draw the rankings {others}, found colours for {len(OTHERS)} beside "
            f"{list(COLOURS)}; draw some of them"
        )
    colours = COLOURS | dict(zip(others, OTHERS, strict=False))
    colours = {name: colours[name] for name in names}
    down = -(-len(layers) // ABREAST)
    wide = (PAGE - LEFT - EDGE - GAP * (ABREAST - 1)) / ABREAST
    pitch = HIGH + 0.42
    figure = Drawing(TOP + pitch * down, title=model, foot=FOOT + COUNTED)
    shown = {NAMES.get(name, name): colour for name, colour in colours.items()}
    key(figure.place(LEFT, 0, PAGE - LEFT, 0.14, frameon=False, xticks=[], yticks=[]), shown, y=1.0)
    rows = table[table["ranking"] != "untouched"]
    low, high = 100 * rows["low"].min(), 100 * table["high"].max()
    for place, layer in enumerate(layers):
        row, column = divmod(place, ABREAST)
        axes = figure.place(LEFT + column * (wide + GAP), TOP + row * pitch, wide, HIGH)
        mine = rows[rows["layer"] == layer]
        _panel(axes, mine, table[table["ranking"] == "untouched"], colours)
        axes.set_ylim(max(-3, low - 4), min(103, high + 4))
        axes.set_title(f"L = {layer}")
        axes.set_title(count(mine["n"]), loc="right", fontsize=7, color=GREY)
        axes.tick_params(labelleft=column == 0)
        if column == 0:
            axes.set_ylabel("score (%)", labelpad=2)
    middle = LEFT + (PAGE - LEFT - EDGE) / 2
    figure.write(middle, TOP + pitch * down - 0.22, "image tokens kept", ha="center")
    return figure


def _panel(axes: Axes, rows: pd.DataFrame, untouched: pd.DataFrame, colours) -> None:
    """One layer: numbers of tokens side by side, each ranking's interval a little apart."""
    numbers = sorted(rows["kept"].unique())
    at = {number: place for place, number in enumerate(numbers)}
    for _, one in untouched.iterrows():
        axes.axhline(100 * one["value"], color=BLACK, ls=(0, (4, 2)), lw=0.8, zorder=1)
    none = rows[rows["ranking"] == "none"]
    for rank, (name, colour) in enumerate(colours.items()):
        mine = pd.concat([none, rows[rows["ranking"] == name]]).sort_values("kept")
        x = mine["kept"].map(at) + 0.09 * (rank - (len(colours) - 1) / 2) * (mine["kept"] > 0)
        axes.vlines(x, 100 * mine["low"], 100 * mine["high"], color=colour, lw=0.7, zorder=2)
        axes.plot(x, 100 * mine["value"], "-o", color=colour, lw=1.1, ms=2.4, zorder=3)
    axes.set_xticks(range(len(numbers)), [f"{int(number)}" for number in numbers])
    axes.set_xlim(-0.35, len(numbers) - 1 + 0.35)
    axes.grid(axis="y", color="#EEEEEE", lw=0.5)
    axes.set_axisbelow(True)
    axes.set_yticks(np.arange(0, 101, 25))
