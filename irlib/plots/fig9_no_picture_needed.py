"""Figure 9: questions that need no picture, found by hiding it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from irlib.plots.cells import draw_picture
from irlib.plots.style import (
    BLUE,
    GREEN,
    GREY,
    LIGHT,
    ORANGE,
    PAGE,
    SKY,
    VERMILLION,
    ink,
    new_figure,
    note,
    require,
    styled,
    wrap,
)  # fmt: skip

BARS = (VERMILLION, ORANGE, BLUE, SKY)


@styled
def no_picture_needed(table: pd.DataFrame, cards: pd.DataFrame, pictures: Sequence) -> Figure:
    """Return accuracy by kind of question and how long the picture was seen, over example cards.

    `table` has `kind, seen, value, low, high, n`: a bar per `seen` (such as 'never seen (L = 0)'),
    in the order of the table. `cards` has `question` and, after it, one column per condition whose
    cells are `(answer, correct)`; `pictures[row]` is the card's picture or None.
    """
    require(table, ("kind", "seen", "value", "low", "high", "n"), "no_picture_needed()")
    if len(cards) != len(pictures):
        raise ValueError(
            f"no_picture_needed() was given {len(pictures)} pictures for {len(cards)} cards. "
            "Pass one per card, None where the sample has none."
        )
    lines = math.ceil(len(cards) / 2)
    height = 2.5 + 1.12 * lines
    figure = new_figure(PAGE, height)
    axes = figure.add_axes(
        (0.5 / PAGE, (height - 1.72) / height, (PAGE - 0.6) / PAGE, 1.28 / height)
    )
    _bars(axes, table)
    if cards.empty:
        figure.text(0.5, 0.42 / height, "no question was found", ha="center", color=GREY)
    for place, (_, card) in enumerate(cards.iterrows()):
        row, side = divmod(place, 2)
        left, bottom = 0.08 + side * PAGE / 2, height - 2.05 - (row + 1) * 1.12
        _card(figure, card, pictures[place], left, bottom, height)
    note(
        figure,
        "Bars: mean with 95 % interval over questions. Cards: drawn by seed among the questions "
        "found by the sweep: answered correctly whatever layer the picture was hidden from.",
    )
    return figure


def _bars(axes: Axes, table: pd.DataFrame) -> None:
    kinds, seen = (list(dict.fromkeys(table[name])) for name in ("kind", "seen"))
    width = 0.8 / len(seen)
    for place, (name, colour) in enumerate(zip(seen, BARS, strict=False)):
        rows = table[table["seen"] == name].set_index("kind").reindex(kinds)
        x = [rank + (place - (len(seen) - 1) / 2) * width for rank in range(len(kinds))]
        axes.bar(x, 100 * rows["value"], width * 0.92, color=colour, alpha=0.9)
        axes.vlines(x, 100 * rows["low"], 100 * rows["high"], color="black", lw=0.8)
        for at, value, high in zip(x, rows["value"], rows["high"], strict=False):
            axes.text(
                at, 100 * high + 2, f"{100 * value:.0f}", ha="center", va="bottom", fontsize=6.5
            )
        axes.text(0.36 * place, 1.2, "■", transform=axes.transAxes, color=colour, va="bottom")
        axes.text(0.36 * place + 0.026, 1.2, name, transform=axes.transAxes, color=ink(colour),
                  va="bottom", fontsize=7.5)  # fmt: skip
    counts = table.groupby("kind", sort=False)["n"].max()
    axes.set_xticks(range(len(kinds)), [f"{kind} (n = {counts[kind]})" for kind in kinds])
    axes.set(ylim=(0, 100), xlim=(-0.5, len(kinds) - 0.5), ylabel="correct (%)")
    axes.tick_params(axis="x", length=0)


def _card(
    figure: Figure, card: pd.Series, picture, left: float, bottom: float, height: float
) -> None:
    axes = figure.add_axes((left / PAGE, (bottom + 0.06) / height, 0.98 / PAGE, 0.98 / height))
    if picture is None:
        axes.text(0.5, 0.5, "no picture", ha="center", va="center", color=GREY, fontsize=7)
        axes.set(xticks=[], yticks=[], facecolor="#F6F6F6")
        axes.spines[:].set(visible=True, color=LIGHT)
    else:
        draw_picture(axes, picture)
    x, y = (left + 1.05) / PAGE, (bottom + 1.04) / height
    figure.text(x, y, wrap(card["question"], 31, lines=4), va="top", fontsize=6.5, linespacing=1.1)
    conditions = [name for name in card.index if name != "question"]
    for rank, name in enumerate(reversed(conditions)):
        answer, correct = card[name]
        mark, colour = ("✓", GREEN) if correct else ("✗", VERMILLION)
        line = (bottom + 0.07 + 0.13 * rank) / height
        figure.text(x, line, f"{name}:", va="bottom", fontsize=6.5, color=GREY)
        figure.text(x + 0.95 / PAGE, line, f"{wrap(answer, 12, lines=1)} {mark}", va="bottom",
                    fontsize=6.5, color=colour)  # fmt: skip
