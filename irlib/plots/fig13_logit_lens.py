"""Figure 13: from which layer on the answer can be read, at the last row and on the picture."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from irlib.plots.bylayer import lines
from irlib.plots.page import EDGE, PAGE, Drawing, styled
from irlib.plots.style import (
    BLACK,
    BLUE,
    COUNTED,
    GREY,
    VERMILLION,
    count,
    key,
    layer_axis,
    require,
)

ROWS = {
    "first": ("at the last row: the answer's\nfirst token is the likeliest", {"own": BLUE}),
    "image": (
        "at an image token: it is among\nthe {top} likeliest",
        {"own": VERMILLION, "other": BLACK},
    ),
}
LEFT, GAP, HIGH, PITCH, HEAD = 0.62, 0.18, 1.1, 1.62, 0.74
FOOT = (
    "The states behind each layer go through the final norm and the head (logit lens). Top: share "
    "of questions whose answer's first token is the likeliest at the prompt's last row; behind "
    "the last layer it is, as a matter of course. Bottom: share of questions where it is among "
    "the {top} likeliest at one image token or more; dashed: the same of another question's "
    "answer (which may be the same word): what is read whatever is asked. Grey line: the cliff on "
    "these questions (certified limits: figure 5). Bands: exact 95 % interval over pictures. "
)


@styled
def lens_curves(table: pd.DataFrame, cliffs: pd.DataFrame, *, model: str, top: int) -> Figure:
    """Return where the answer can be read by layer: a column a task, last row and image below.

    `table` has `task, row, of, layer, value, low, high, n`: `row` is "first" or "image", `of` "own"
    or "other". `cliffs` has `task, layer`. Layers are 0-based.
    """
    columns = ("task", "row", "of", "layer", "value", "low", "high", "n")
    require(table, columns, "lens_curves()")
    require(cliffs, ("task", "layer"), "lens_curves()")
    tasks, layers = list(dict.fromkeys(table["task"])), sorted(set(table["layer"]))
    wide = (PAGE - LEFT - EDGE - GAP * (len(tasks) - 1)) / len(tasks)
    foot = FOOT.format(top=top) + COUNTED
    figure = Drawing(HEAD + PITCH + HIGH + 0.42, title=model, foot=foot)
    axes = figure.place(LEFT, 0, PAGE - LEFT, 0.14, frameon=False, xticks=[], yticks=[])
    names = {"at the last row": BLUE, "on the picture": VERMILLION, "another's answer there": BLACK}
    key(axes, names, y=1.0, size=7)
    for column, task in enumerate(tasks):
        x, mine = LEFT + column * (wide + GAP), table[table["task"] == task]
        figure.write(x, 0.22, f"{task}, {count(mine['n'])}", fontsize=7.5, fontweight="bold")
        for place, (row, (title, looks)) in enumerate(ROWS.items()):
            axes = figure.place(x, HEAD + place * PITCH, wide, HIGH)
            for at in cliffs.loc[cliffs["task"] == task, "layer"]:
                axes.axvline(at, color=GREY, lw=0.8, zorder=1)
            lines(axes, mine[mine["row"] == row], "of", looks, scale=100, dashed=("other",))
            axes.set(xlim=(layers[0] - 0.5, layers[-1] + 0.9), ylim=(-4, 104))
            axes.set_yticks(range(0, 101, 25))
            axes.tick_params(labelleft=column == 0)
            layer_axis(axes, layers, label="decoder layer" if place else "")
            if column == 0:
                axes.set_ylabel("questions (%)", fontsize=7, labelpad=2)
                axes.set_title(title.format(top=top), fontsize=7)
                figure.letter("AB"[place], EDGE, HEAD + place * PITCH)
    return figure
