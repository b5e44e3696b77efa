"""Figure 9: questions that need no picture, found by hiding it."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from irlib.plots.cells import draw_picture
from irlib.plots.lettering import SPACING, plain, tall, width, wrap
from irlib.plots.page import EDGE, PAGE, SMALL, Drawing, styled
from irlib.plots.style import (
    BLACK,
    BLUE,
    COUNTED,
    GREEN,
    GREY,
    LIGHT,
    SKY,
    VERMILLION,
    inches,
    ink,
    require,
)

BARS = (LIGHT, SKY, BLUE, BLACK)
"""From never seen to always seen, each darker than the one before, for any eye and any printer."""
LEFT, TOP, HIGH, PICTURE = 0.5, 0.44, 1.28, 0.98
FOOT = (
    "A: mean with 95 % interval over questions; L: layer from which the picture was hidden. B: "
    "drawn by seed among the questions that the sweep found: answered correctly whatever layer the "
    "picture was hidden from. "
)


@styled
def no_picture_needed(
    table: pd.DataFrame, cards: pd.DataFrame, pictures: Sequence, *, model: str
) -> Figure:
    """Return (A) accuracy by kind of question and how long the picture was seen, (B) example cards.

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
    counts = table.groupby("kind", sort=False)["n"].max()
    wide = PAGE - LEFT - EDGE
    kinds = [f"{kind} (n = {n})" for kind, n in counts.items()]
    slot = wide / len(kinds)
    upright = [wrap(kind, 1.2, 7) for kind in kinds]
    turn = slot < 0.5 and max(tall(kind, 7) for kind in upright) < slot
    room = 1.2 if turn else slot - 0.08
    kinds = upright if turn else [wrap(kind, room, 7) for kind in kinds]
    below = room if turn else max(tall(kind, 7) for kind in kinds)
    texts = [_texts(card) for _, card in cards.iterrows()]
    rows, y = [], TOP + HIGH + below + 0.32
    for place in range(0, len(texts), 2):
        rows.append(y)
        y += 0.12 + max(high for _, _, high in texts[place : place + 2])
    figure = Drawing(y if texts else y + 0.2, title=model, foot=FOOT + COUNTED)
    axes = figure.place(LEFT, TOP, wide, HIGH)
    _bars(axes, table, kinds, 90 * turn)
    figure.letter("A", EDGE, TOP - 0.15)
    if cards.empty:
        figure.write(PAGE / 2, y - 0.05, "no question was found", ha="center", color=GREY)
    else:
        figure.letter("B", EDGE, rows[0])
    for place, text in enumerate(texts):
        _card(figure, text, pictures[place], EDGE + place % 2 * PAGE / 2, rows[place // 2])
    return figure


def _bars(axes: Axes, table: pd.DataFrame, labels: Sequence[str], turn: float) -> None:
    kinds, seen = (list(dict.fromkeys(table[name])) for name in ("kind", "seen"))
    bar, right = 0.8 / len(seen), 0.0
    for place, (name, colour) in enumerate(zip(seen, BARS, strict=False)):
        rows = table[table["seen"] == name].set_index("kind").reindex(kinds)
        x = [rank + (place - (len(seen) - 1) / 2) * bar for rank in range(len(kinds))]
        axes.bar(x, 100 * rows["value"], bar * 0.92, color=colour)
        axes.vlines(x, 100 * rows["low"], 100 * rows["high"], color=ink(GREY), lw=0.9)
        if bar * inches(axes)[0] / len(kinds) > 0.17:
            for at, value, high in zip(x, rows["value"], rows["high"], strict=True):
                if value == value:  # a kind may lack a condition
                    axes.text(at, 100 * high + 2, f"{100 * value:.0f}", ha="center", va="bottom",
                              fontsize=SMALL)  # fmt: skip
        axes.text(right, 1.2, "■", transform=axes.transAxes, color=colour, va="bottom")
        right += 0.13 / inches(axes)[0]
        axes.text(right, 1.2, name, transform=axes.transAxes, va="bottom", fontsize=7.5)
        right += (width(name, 7.5) + 0.25) / inches(axes)[0]
    axes.set_xticks(range(len(kinds)), labels, rotation=turn, linespacing=SPACING)
    axes.set(ylim=(0, 100), xlim=(-0.5, len(kinds) - 0.5), ylabel="correct (%)")
    axes.tick_params(axis="x", length=0)


def _texts(card: pd.Series) -> tuple[str, list[tuple[str, str, str]], float]:
    """Return question, `(condition, answer with its mark, colour)` and how high they are in all."""
    wide = PAGE / 2 - PICTURE - 4 * EDGE
    told = [name for name in card.index if name != "question"]
    room = wide - max(width(f"{name}:", SMALL) for name in told) - 0.08
    question, answers = wrap(card["question"], wide, SMALL), []
    for name in told:
        answer, correct = card[name]
        mark, colour = ("✓", GREEN) if correct else ("✗", VERMILLION)
        answers.append((f"{name}:", wrap(f"{plain(answer)} {mark}", room, SMALL), colour))
    high = tall(question, SMALL) + 0.05 + sum(tall(text, SMALL) + 0.02 for _, text, _ in answers)
    return question, answers, max(high, PICTURE)


def _card(figure: Drawing, texts: tuple, picture, left: float, top: float) -> None:
    axes = figure.place(left, top, PICTURE, PICTURE)
    if picture is None:
        axes.text(0.5, 0.5, "no picture", ha="center", va="center", color=GREY, fontsize=7)
        axes.set(xticks=[], yticks=[], facecolor="#F6F6F6")
        axes.spines[:].set(visible=True, color=LIGHT)
    else:
        draw_picture(axes, picture)
    question, answers, high = texts
    x = left + PICTURE + 0.08
    figure.write(x, top, question, fontsize=SMALL)
    indent = max(width(name, SMALL) for name, _, _ in answers) + 0.08
    y = top + high
    for name, answer, colour in reversed(answers):
        y -= tall(answer, SMALL) + 0.02
        figure.write(x, y, name, fontsize=SMALL, color=GREY)
        figure.write(x + indent, y, answer, fontsize=SMALL, color=colour)
