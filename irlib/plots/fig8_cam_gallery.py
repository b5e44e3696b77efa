"""Figure 8: a gallery of LLaVA-CAM, the same samples in several models, at a few depths."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from irlib.plots.cells import draw_map, draw_picture, grid_notes
from irlib.plots.fig3_cam_layers import NOTE
from irlib.plots.lift import draw_lift
from irlib.plots.style import (
    GREY,
    PAGE,
    count,
    letter,
    new_figure,
    note,
    require,
    styled,
    wrap,
)  # fmt: skip

ABREAST, LEFT, GAP, TOP, ANSWER, ROW = 3, 0.8, 0.09, 0.86, 0.13, 0.21
DEPTHS = (1 / 6, 1 / 2, 5 / 6)


@styled
def cam_gallery(
    table: pd.DataFrame,
    maps: Mapping[str, Sequence],
    questions: Sequence[str],
    answers: Mapping[str, Sequence[str]],
    *,
    depths: Sequence[float] = DEPTHS,
) -> Figure:
    """Return (A) a row of maps per model, the same samples in all; (B) how well each model points.

    `maps[model]` and `answers[model]` have an entry per sample, in the order of `questions`; three
    samples stand abreast. `depths` are the layers shown, as shares of the way from a model's first
    layer to its last. `table` has `model, layer, measure, value, n` with the measure `lift` (heat
    inside the asked box over the box's share of the picture; 1 is chance).
    """
    require(table, ("model", "layer", "measure", "value", "n"), "cam_gallery()")
    sizes = {model: (len(maps[model]), len(answers.get(model, ()))) for model in maps}
    if any(size != (len(questions), len(questions)) for size in sizes.values()):
        raise ValueError(
            f"cam_gallery() was given {len(questions)} questions, and (maps, answers) of {sizes}. "
            "Give each model one map and one answer a question."
        )
    layers = {
        model: [round(depth * (len(rows[0].heat) - 1)) for depth in depths]
        for model, rows in maps.items()
    }
    alike = len(set(map(tuple, layers.values()))) == 1
    cell = ((PAGE - LEFT - (ABREAST - 1) * GAP) / ABREAST) / len(depths)
    pitch = cell + ANSWER + (0 if alike else 0.11)
    lines = math.ceil(len(questions) / ABREAST)
    block = TOP + len(maps) * pitch + 0.05
    notes = grid_notes(one for rows in maps.values() for one in rows)
    foot = 0.86 + 0.13 * math.ceil(len(notes) / 95)
    height = lines * block + 0.22 + ROW * len(maps) + foot
    figure = new_figure(PAGE, height)

    def place(x, y, wide, high):  # inches from the upper left corner
        return figure.add_axes((x / PAGE, 1 - (y + high) / height, wide / PAGE, high / height))

    for number, question in enumerate(questions):
        line, side = divmod(number, ABREAST)
        left, top = LEFT + side * (cell * len(depths) + GAP), line * block
        picture = next(iter(maps.values()))[number]
        draw_picture(place(left + 0.01, top + 0.04, 0.62, 0.62), picture.picture, picture.boxes)
        figure.text((left + 0.68) / PAGE, 1 - (top + 0.05) / height, wrap(question, 18, lines=5),
                    fontsize=6.5, va="top", linespacing=1.1)  # fmt: skip
        for row, (model, own) in enumerate(maps.items()):
            y = top + TOP + row * pitch
            if side == 0:
                name = wrap(model.rpartition("/")[2], 14, lines=3)
                figure.text(0.02, 1 - (y + cell / 2) / height, name, fontsize=6.5, va="center",
                            fontweight="bold", linespacing=1.1)  # fmt: skip
            for column, layer in enumerate(layers[model]):
                axes = place(left + column * cell + 0.01, y + 0.01, cell - 0.02, cell - 0.02)
                draw_map(axes, own[number], layer)
                if row == 0 or not alike:
                    axes.set_title(f"layer {layer + 1}", loc="center", pad=2, fontsize=6)
            figure.text((left + 0.01) / PAGE, 1 - (y + cell + 0.01) / height,
                        wrap(answers[model][number], 32, lines=1), fontsize=6, va="top",
                        color=GREY)  # fmt: skip
    figure.text(0.02, 1 - 0.05 / height, "A", fontsize=10, fontweight="bold", va="top")
    grid = place(LEFT + 0.22, height - foot - ROW * len(maps), PAGE - LEFT - 0.27,
                 ROW * len(maps))  # fmt: skip
    rows = table[table["measure"] == "lift"]
    lift, n = (rows.pivot(index="model", columns="layer", values=v) for v in ("value", "n"))
    lift, n = lift.loc[list(maps)], n.loc[list(maps)]
    measured = n.max(axis=1) > 0  # a model without boxes has no zero layers, it has no measure
    zero = n.eq(0).mul(measured, axis=0).where(n.notna())
    draw_lift(grid, lift, zero, [wrap(m.rpartition("/")[2], 17, lines=2) for m in maps])
    letter(grid, "B", left=65)
    grid.set_title("heat inside the asked box over the box's share of the picture", fontsize=7.5)
    text = f"A: {NOTE} B: mean over {count(np.append(rows['n'], 0))} questions of all tasks; "
    note(figure, f"{text}1.0 is chance.{notes}")
    return figure
