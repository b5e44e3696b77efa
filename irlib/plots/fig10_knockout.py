"""Figure 10: which way the picture takes to the answer, layer by layer, and how it is hidden."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from irlib.plots.bylayer import lines
from irlib.plots.page import EDGE, PAGE, Drawing, styled
from irlib.plots.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SEGMENTS,
    VERMILLION,
    closing,
    count,
    key,
    layer_axis,
    require,
)

EDGES = {"image>question": BLUE, "image>answer": VERMILLION, "question>answer": GREEN}
EVERY = "image>all text"
"""What truncation cuts: the black dashed line of panels A and B."""
WAYS = {"mask": BLACK, "drop, renumbered": ORANGE, "mean": PURPLE}
NAMES = {
    "mask": "masked",
    "drop, renumbered": "removed, moved up",
    "mean": "average image",
}
COLUMNS = ("task", "layer", "measure", "value", "low", "high", "n")
PANELS = (
    ("edges cut from layer L on", "answers\nchanged (%)", "changed", 100),
    ("the same, in log-probability", "lost (nats)", "lost", 1),
    ("edges cut in the {} layers from L on", "answers\nchanged (%)", "changed", 100),
    ("attention of the answer's rows, nothing cut", "share (%)", "share", 100),
    ("image hidden from layer L on, in three ways", "lost (nats)", "lost", 1),
)
LEFT, GAP, HIGH, PITCH, HEAD = 0.62, 0.22, 0.84, 1.14, 0.56
FOOT = (
    "A to C: an edge is cut: the rows of its second part do not see the columns of its first. "
    "Dashed: no text sees the image, figure 5's truncation; grey line: its cliff on these "
    "questions (certified limits: figure 5). Lost: log-probability of the untouched answer, all "
    "its tokens. D: the image and the question. E: {few}; what follows removed tokens takes their "
    "positions. Bands: 95 % interval (A, C exact, "
    "B, E Student's t), {n} questions a task. "
)


@styled
def knockout_curves(
    cuts: pd.DataFrame,
    shares: pd.DataFrame,
    ways: pd.DataFrame,
    cliffs: pd.DataFrame,
    *,
    model: str,
    window: int,
) -> Figure:
    """Return what each cut edge changes by layer, a column a task, attention and ways below.

    All have `task, layer, measure, value, low, high, n`. `cuts` has `edge` (of `EDGES`, or `EVERY`)
    and `span` ("from" or "window") with measures `changed`, the share of answers, and `lost`, nats;
    `shares` has `segment` (image, user); `ways` has `how` (of `WAYS`). `cliffs` has
    `task, layer`. Layers are 0-based.
    """
    require(cuts, (*COLUMNS, "edge", "span"), "knockout_curves()")
    require(shares, (*COLUMNS, "segment"), "knockout_curves()")
    require(ways, (*COLUMNS, "how"), "knockout_curves()")
    require(cliffs, ("task", "layer"), "knockout_curves()")
    tasks, layers = list(dict.fromkeys(cuts["task"])), sorted(set(shares["layer"]))
    wide = (PAGE - LEFT - EDGE - 0.05 - GAP * (len(tasks) - 1)) / len(tasks)
    foot = FOOT.format(n=count(cuts["n"]), few=count(ways["n"])) + closing(shares)
    figure = Drawing(HEAD + len(PANELS) * PITCH + 0.08, title=model, foot=foot)
    of = (
        cuts[cuts["span"] == "from"], cuts[cuts["span"] == "from"],
        cuts[cuts["span"] == "window"], shares, ways,
    )  # fmt: skip
    looks = (
        EDGES | {EVERY: BLACK}, EDGES | {EVERY: BLACK}, EDGES,
        {name: SEGMENTS[name] for name in ("image", "user")}, WAYS,
    )  # fmt: skip
    said = ("edge", "edge", "edge", "segment", "how")
    for column, task in enumerate(tasks):
        x = LEFT + column * (wide + GAP)
        cliff = int(cliffs.loc[cliffs["task"] == task, "layer"].iloc[0])
        figure.write(x, 0.0, f"{task}: cliff at layer {cliff}", fontweight="bold")
        for row, (title, label, measure, scale) in enumerate(PANELS):
            table = of[row][of[row]["measure"] == measure]
            axes = figure.place(x, HEAD + row * PITCH, wide, HIGH)
            mine = table[table["task"] == task]
            axes.axvline(cliff, ymax=0.83, color=GREY, lw=0.8, zorder=1)
            lines(axes, mine, said[row], looks[row], scale=scale, dashed=(EVERY, "mask"))
            _scale(axes, table, scale, layers)
            layer_axis(axes, layers, label="layer L" if row == len(PANELS) - 1 else "")
            if row < len(PANELS) - 1:
                axes.tick_params(labelbottom=False)
            axes.tick_params(labelleft=column == 0)
            if column == 0:
                axes.set_ylabel(label, fontsize=7, labelpad=2)
                axes.set_title(title.format(window), fontsize=7)
                figure.letter("ABCDE"[row], EDGE, HEAD + row * PITCH)
    top = figure.axes[0]
    key(top, EDGES | {f"{EVERY} (dashed)": BLACK}, y=1 + 0.36 / HIGH, size=7)
    key(figure.axes[3], {"image": VERMILLION, "question": BLUE}, y=1.0, size=6.5)
    key(figure.axes[4], {NAMES[name]: colour for name, colour in WAYS.items()}, y=1.0, size=6.5)
    return figure


def _scale(axes: Axes, table: pd.DataFrame, scale: float, layers) -> None:
    """One scale a row of panels, from nothing to the most that is there; wide bands end there."""
    most = scale * min(np.nanmax([*table["high"], 0]), 1.5 * np.nanmax([*table["value"], 0]))
    top = max(most, 100 if scale == 100 else 1.0)
    low = max(min(0.0, scale * np.nanmin([*table["low"], 0])), -0.15 * top)
    axes.set(
        xlim=(layers[0] - 0.5, layers[-1] + 0.9),
        ylim=(
            low - 0.04 * top,
            1.22 * top if scale == 1 or "share" in set(table["measure"]) else 1.06 * top,
        ),
    )
