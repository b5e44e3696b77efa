"""Figure 8: a gallery of LLaVA-CAM, the same samples in several models, at a few depths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure

from irlib.plots.cells import MAPS, draw_key, draw_map, draw_picture, grid_notes
from irlib.plots.lettering import tall, wrap
from irlib.plots.lift import draw_lift
from irlib.plots.page import EDGE, PAGE, Drawing, styled
from irlib.plots.style import GREY, closing, count, require

ABREAST, LEFT, GAP, ROW, PICTURE = 3, 0.82, 0.09, 0.22, 0.74
WIDE = (PAGE - LEFT - EDGE - (ABREAST - 1) * GAP) / ABREAST
"""Inches of a sample's maps, side by side."""
DEPTHS = (1 / 4, 3 / 4)


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
    cell = WIDE / len(depths)
    rows = table[table["measure"] == "lift"]
    foot = f"{MAPS}B: mean of {count([*rows['n'], 0])} questions of all tasks; 1.0 is chance. "
    foot += closing(table) + grid_notes(one for own in maps.values() for one in own)
    short = {model: model.rpartition("/")[2] for model in maps}
    names = {m: wrap(text, LEFT - EDGE - 0.03, 6.5, bold=True) for m, text in short.items()}
    labels = [wrap(text, LEFT + 0.2, 6.5) for text in short.values()]
    row = max(ROW, *(tall(name, 6.5) + 0.05 for name in labels))
    asked = [wrap(text, WIDE - PICTURE - 0.06, 6.5) for text in questions]
    said = {model: [wrap(text, WIDE, 6) for text in answers[model]] for model in maps}
    tops, y = {}, 0.0  # of each row of each block
    for block in range(0, len(questions), ABREAST):
        abreast = slice(block, block + ABREAST)
        tops[block, None] = y
        y += max(PICTURE, *(tall(text, 6.5) for text in asked[abreast])) + 0.24
        for model in maps:
            tops[block, model] = y
            below = max(tall(text, 6) for text in said[model][abreast])
            y += max(cell + below, tall(names[model], 6.5)) + (0.06 if alike else 0.17)
    y += 0.32
    figure = Drawing(
        y + row * len(maps) + 0.4,
        title=next(iter(maps)) if len(maps) == 1 else f"{len(maps)} models",
        foot=foot,
    )
    draw_key(figure)
    figure.letter("A", EDGE, 0.17)
    for number, text in enumerate(asked):
        block, left = number - number % ABREAST, LEFT + number % ABREAST * (WIDE + GAP)
        top, first = tops[block, None], next(iter(maps.values()))[number]
        draw_picture(figure.place(left + 0.01, top, PICTURE, PICTURE), first.picture, first.boxes)
        figure.write(left + PICTURE + 0.06, top, text, fontsize=6.5)
        for rank, (model, own) in enumerate(maps.items()):
            top = tops[block, model]
            for column, layer in enumerate(layers[model]):
                at = left + column * cell + 0.01
                axes = figure.place(at, top + 0.01, cell - 0.02, cell - 0.02)
                draw_map(axes, own[number], layer)
                if rank == 0 or not alike:
                    axes.set_title(f"layer {layer}", loc="center", pad=2, fontsize=6.5)
            figure.write(left + 0.01, top + cell, said[model][number], fontsize=6, color=GREY)
            if number == block:
                middle = top + max(cell, tall(names[model], 6.5)) / 2
                figure.write(EDGE, middle, names[model], fontsize=6.5, va="center",
                             fontweight="bold")  # fmt: skip
    grid = figure.place(LEFT + 0.3, y, PAGE - LEFT - 0.3 - EDGE, row * len(maps))
    lift, n = (rows.pivot(index="model", columns="layer", values=v) for v in ("value", "n"))
    lift, n = lift.loc[list(maps)], n.loc[list(maps)]
    measured = n.max(axis=1) > 0  # a model without boxes has no zero layers, it has no measure
    zero = n.eq(0).mul(measured, axis=0).where(n.notna())
    draw_lift(grid, lift, zero, labels)
    figure.letter("B", EDGE, y)
    return figure
