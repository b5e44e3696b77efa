"""Figure 14: whose states carry the answer, layer by layer, beside what cannot be done without."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from irlib.plots.bylayer import lines
from irlib.plots.page import EDGE, PAGE, Drawing, styled
from irlib.plots.style import (
    BLACK,
    BLUE,
    COUNTED,
    GREEN,
    VERMILLION,
    count,
    key,
    layer_axis,
    require,
)

LOOKS = {"image": VERMILLION, "question": BLUE, "answer": GREEN}
NAMES = {"image": "image's states", "question": "question's", "answer": "last row's"}
PANELS = (
    ("the twin's states at layer L", "restored", "restored (%)", LOOKS),
    (
        "the same, and the image hidden\nfrom layer L on (dashed)",
        "changed",
        "answers (%)",
        {"image": VERMILLION, "hidden": BLACK},
    ),
)
LEFT, GAP, HIGH, PITCH, HEAD = 0.62, 0.18, 1.1, 1.62, 0.62
FOOT = (
    "Twins are two pictures that differ in one thing, and a question that it decides; each run is "
    "given the other's states in one segment, as layer L gets them. A: how far the twin's first "
    "token has come ahead of the own one, 0 % in the own run, 100 % in the twin's; means, 95 % "
    "interval by Student's t. B: answers that change with the twin's image, and (dashed) with the "
    "image hidden: what the image still carries, and what the answer cannot do without; exact 95 "
    "% intervals over pairs. Both answers of a pair are right. "
)


@styled
def patching_curves(table: pd.DataFrame, *, model: str) -> Figure:
    """Return what patched states restore by layer: a column a kind of twins, hiding below.

    `table` has `task, segment, layer, measure, value, low, high, n`, as `restoration.by_layer`
    makes it: segments image, question, answer and hidden, measures restored and changed.
    Layers are 0-based.
    """
    columns = ("task", "segment", "layer", "measure", "value", "low", "high", "n")
    require(table, columns, "patching_curves()")
    tasks, layers = list(dict.fromkeys(table["task"])), sorted(set(table["layer"]))
    wide = (PAGE - LEFT - EDGE - GAP * (len(tasks) - 1)) / len(tasks)
    figure = Drawing(HEAD + PITCH + HIGH + 0.42, title=model, foot=FOOT + COUNTED)
    axes = figure.place(LEFT, 0, PAGE - LEFT, 0.14, frameon=False, xticks=[], yticks=[])
    key(axes, {NAMES[name]: colour for name, colour in LOOKS.items()}, y=1.0, size=7)
    for column, task in enumerate(tasks):
        x, mine = LEFT + column * (wide + GAP), table[table["task"] == task]
        figure.write(x, 0.22, f"{task}, {count(mine['n'])}", fontsize=7.5, fontweight="bold")
        for place, (title, measure, label, looks) in enumerate(PANELS):
            axes = figure.place(x, HEAD + place * PITCH, wide, HIGH)
            rows = mine[mine["measure"] == measure]
            lines(axes, rows, "segment", looks, scale=100, dashed=("hidden",))
            axes.set(xlim=(layers[0] - 0.5, layers[-1] + 0.9), ylim=(-14, 114))
            axes.set_yticks(range(0, 101, 25))
            axes.tick_params(labelleft=column == 0)
            layer_axis(axes, layers, label="layer L" if place else "")
            if column == 0:
                axes.set_ylabel(label, fontsize=7, labelpad=2)
                axes.set_title(title, fontsize=7)
                figure.letter("AB"[place], EDGE, HEAD + place * PITCH)
    return figure
