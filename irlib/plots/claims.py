"""The claims of the paper and what came out: a line each, its effect on one axis."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from irlib.plots.lettering import tall, wrap
from irlib.plots.page import EDGE, PAGE, Drawing, styled
from irlib.plots.style import BLUE, GREEN, GREY, LIGHT, ORANGE, VERMILLION, require

LOOK = {
    "shown": (BLUE, "●"), "refuted": (VERMILLION, "■"), "smaller than matters": (ORANGE, "▬"),
    "not resolved": (GREY, "○"), "true by construction": (GREEN, "="),
    "not testable here": (GREY, "–"),
}  # fmt: skip
"""Colour and sign of each outcome: told by shape too."""
MARKS = {"shown": "o", "refuted": "s", "smaller than matters": "D", "not resolved": "o"}
OPEN = "not resolved"
WIDE, SIZE = 3.15, 6.5
FOOT = (
    "Effects are in the direction of the claim, fractions of attention, heat, probability, depth "
    "or answers (claims.yaml says which); bars: intervals over pictures, their confidence of .95 "
    "shared by the parts of a claim; grey: smaller than matters. Stated before any result: "
    "one trained model, drawn pictures; nothing is said of other trainings, models or photographs."
)


@styled
def claims_table(table: pd.DataFrame) -> Figure:
    """Return the claims of `evidence.claims.judge` as a drawing: sentence, outcome, effect.

    `table` has that function's columns, of one model.
    """
    columns = (
        "model", "claim", "id", "statement", "part", "outcome", "says", "value", "low", "high",
        "matters", "units", "resolves",
    )  # fmt: skip
    require(table, columns, "claims_table()")
    if len(models := list(table["model"].unique())) != 1:
        raise ValueError(
            f"claims_table() was given the models {models}; there is one page a model; select one."
        )
    rows = []
    for row in table.itertuples():
        part = f" ({row.part})" if isinstance(row.part, str) and row.part != "all tasks" else ""
        says = wrap(f"{_says(row)}{part}", WIDE - 0.75, SIZE)
        count = f", {row.units:.0f} pictures" if pd.notna(row.units) else ""
        short = f", to ±{row.resolves:.2f}" if row.outcome == OPEN else ""
        told = wrap(f"{row.outcome}{count}{short}", WIDE - 0.75, SIZE)
        rows.append((row, says, told, tall(says, SIZE) + tall(told, SIZE) + 0.07))
    height = sum(high for *_, high in rows) + 0.25
    figure = Drawing(height + 0.4, title=models[0], foot=FOOT)
    axes = figure.place(WIDE + 0.1, 0.05, PAGE - WIDE - 0.1 - 2 * EDGE, height - 0.05)
    axes.set(ylim=(height - 0.05, 0), xlim=_limits(table))
    axes.axvline(0, color=GREY, lw=0.6)
    axes.spines["left"].set_visible(False)
    axes.tick_params(left=False, labelleft=False)
    axes.set_xlabel("effect", fontsize=7)
    y, before = 0.1, None
    for row, says, told, high in rows:
        colour, sign = LOOK[row.outcome]
        if row.claim != before:
            figure.write(EDGE, y, row.claim, fontsize=8, fontweight="bold")
            if before:
                axes.axhline(y - 0.085, color=LIGHT, lw=0.5, xmin=-1.4, clip_on=False)
        before = row.claim
        figure.write(0.5, y, sign, fontsize=SIZE, color=colour, ha="center")
        figure.write(0.7, y, says, fontsize=SIZE)
        figure.write(0.7, y + tall(says, SIZE), told, fontsize=SIZE, color=colour)
        if pd.notna(row.value):
            middle = y + high / 2 - 0.085
            band = [-row.matters, row.matters]
            axes.fill_betweenx([middle - 0.09, middle + 0.09], *band, color=LIGHT, lw=0)
            if pd.notna(row.low):
                axes.plot([row.low, row.high], [middle, middle], color=colour, lw=1.5)
            face = "white" if row.outcome == OPEN else colour
            axes.plot(row.value, middle, MARKS[row.outcome], color=colour, mfc=face, ms=4)
        y += high
    return figure


def _says(row) -> str:
    """What came out, or the statement itself where nothing did."""
    return row.statement if row.outcome == OPEN else row.says


def _limits(table: pd.DataFrame) -> tuple[float, float]:
    low, high = min(table["low"].min(), -0.1), max(table["high"].max(), 0.1)
    room = 0.04 * (high - low)
    return low - room, high + room


def claims_latex(table: pd.DataFrame) -> str:
    """Return the claims as a LaTeX table (needs booktabs), through pandas' Styler."""
    told = pd.DataFrame(
        {
            "claim": table["claim"],
            "what came out": [_says(row) for row in table.itertuples()],
            "outcome": table["outcome"],
            "effect": [
                f"{r.value:.2f} [{r.low:.2f}, {r.high:.2f}]" if pd.notna(r.low) else "--"
                for r in table.itertuples()
            ],
            "pictures": [f"{n:.0f}" if pd.notna(n) else "--" for n in table["units"]],
        }
    )
    return (
        told.style.hide(axis="index")
        .format(escape="latex")
        .to_latex(
            hrules=True,
            column_format="lp{6.2cm}p{2.2cm}rr",
            caption="The paper's claims, stated before the data, on "
            + table["model"].iloc[0]
            + ".",
            label="tab:claims",
            position_float="centering",
        )
    )
