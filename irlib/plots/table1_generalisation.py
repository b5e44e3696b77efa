"""Table 1: the untouched model against truncation at the cliff layer, ours beside the published."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from irlib.plots.style import (  # fmt: skip
    BLUE,
    GREY,
    LIGHT,
    PAGE,
    VERMILLION,
    new_figure,
    note,
    require,
    styled,
    wrap,
)

COLUMNS = ("POPE Acc", "POPE F1", "SQA Acc", "TextVQA Acc", "CHAIRs", "CHAIRi")
ALL = "SQA all"
KIND = {"SQA IMG Acc": "with a picture", "SQA Acc": "all questions"}
OURS = "model published column metric baseline at_cliff change_low change_high layer cliff low high"
NONE = "not published"


@styled
def generalisation(ours: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Return the table as a drawing: `baseline → at the cliff` in percent, the paper's row below.

    `ours` has a row per model and column of the table: `model, published` (the paper's row that the
    model stands for), `column, metric, baseline, at_cliff, change_low, change_high, n` on the
    questions judged, as fractions, `layer` from which the picture was hidden there, and `cliff,
    low, high, n_layers`, 0-based. `published` has `model, metric, baseline, truncated` in percent,
    as in data/paper/table1.csv. A column "SQA all", with the rows that have no picture, is told
    below "SQA Acc".
    """
    require(ours, (*OURS.split(), "n_layers", "n"), "generalisation()")
    require(published, ("model", "metric", "baseline", "truncated"), "generalisation()")
    models = list(dict.fromkeys(ours["model"]))
    height = 0.5 + 0.74 * len(models) + 0.52
    figure = new_figure(PAGE, height)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, PAGE), ylim=(height, 0))
    axes.axis("off")
    _rule(axes, 0.06, 1.0)
    for name in COLUMNS:
        small = KIND.get(ours.loc[ours["column"] == name, "metric"].max(), "")
        small = "lower is better" if name.startswith("CHAIR") else small
        axes.text(_place(name), 0.17, name, ha="center", va="center", fontweight="bold",
                  fontsize=7.5)  # fmt: skip
        axes.text(_place(name), 0.31, small, ha="center", va="center", fontsize=6, color=GREY)
    y = 0.42
    for rank, model in enumerate(models):
        _rule(axes, y, 0.5 if rank == 0 else 0.4, "black" if rank == 0 else LIGHT)
        rows = ours[ours["model"] == model].set_index("column")
        _our_row(axes, y + 0.12, model, rows)
        name = rows["published"].iloc[0]
        _paper_row(axes, y + 0.62, name, published[published["model"] == name].set_index("metric"))
        y += 0.74
    _rule(axes, y, 1.0)
    note(
        figure,
        "Bold: this run. Untouched model → picture hidden from the cliff layer on, in percent, on "
        "n questions that had no part in finding the cliff; [ ]: its 95 % interval, layers from 0, "
        "–: never. Coloured where the change is certain (blue better, orange worse). Below: the "
        "paper, which gives no intervals (coloured by sign), on other models and tasks.",
    )
    return figure


def _place(name: str) -> float:
    return 1.01 + 0.755 * (COLUMNS.index(name) + 0.5)


def _our_row(axes: Axes, y: float, model: str, rows: pd.DataFrame) -> None:
    name = wrap(model.rpartition("/")[2], 17, lines=3)
    axes.text(0.05, y - 0.06, name, va="top", fontsize=7, fontweight="bold", linespacing=1.1)
    for name in COLUMNS:
        if name not in rows.index:
            axes.text(_place(name), y, "–", ha="center", va="center")
            continue
        row = rows.loc[name]
        better = int(row["change_low"] > 0) - int(row["change_high"] < 0)
        _change(axes, _place(name), y, 100 * row["baseline"], 100 * row["at_cliff"], better, 1)
        small = f"cliff {_span(row)}\n" + _counted(row)
        if name == "SQA Acc" and ALL in rows.index:
            whole = rows.loc[ALL]
            small += f"\nall {whole['n']:.0f}: {_arrow(whole)}"
        axes.text(_place(name), y + 0.09, small, ha="center", va="top", fontsize=6, color=GREY,
                  linespacing=1.1)  # fmt: skip


def _paper_row(axes: Axes, y: float, model: str, rows: pd.DataFrame) -> None:
    axes.text(0.05, y, f"{model}, paper", va="center", fontsize=7, color=GREY)
    for name in COLUMNS:
        if name not in rows.index or pd.isna(rows.loc[name, "baseline"]):
            axes.text(_place(name), y, NONE, ha="center", va="center", color=GREY, fontsize=6)
            continue
        row = rows.loc[name]
        gain = row["truncated"] - row["baseline"]
        better = (-1 if name.startswith("CHAIR") else 1) * (int(gain > 0.005) - int(gain < -0.005))
        _change(axes, _place(name), y, row["baseline"], row["truncated"], better, 2)


def _span(row: pd.Series) -> str:
    """`4 [3, 6]`; the untouched model is a dash, the 'never' of figure 5."""
    places = [row[key] for key in ("cliff", "low", "high")]
    return "{} [{}, {}]".format(*("–" if p >= row["n_layers"] else int(p) for p in places))


def _counted(row: pd.Series) -> str:
    """`n = 100`, and the layer where there was no cliff to hide the picture from."""
    moved = f"L = {row['layer']:.0f}, " if row["layer"] != row["cliff"] else ""
    return f"{moved}n = {row['n']:.0f}"


def _arrow(row: pd.Series) -> str:
    return f"{100 * row['baseline']:.1f} → {100 * row['at_cliff']:.1f}"


def _change(
    axes: Axes, x: float, y: float, before: float, after: float, better: int, digits: int
) -> None:
    colour = {1: BLUE, 0: "black", -1: VERMILLION}[better]
    size = 8.0 - 0.5 * digits
    axes.text(x + 0.03, y, f"{before:.{digits}f} →", ha="right", va="center", fontsize=size)
    axes.text(x + 0.07, y, f"{after:.{digits}f}", ha="left", va="center", fontsize=size,
              color=colour)  # fmt: skip


def _rule(axes: Axes, y: float, width: float, colour: str = "black") -> None:
    axes.plot([0.05, PAGE - 0.05], [y, y], color=colour, lw=width)


def latex(ours: pd.DataFrame, published: pd.DataFrame) -> str:
    """Return the same table as LaTeX (needs booktabs), through pandas' Styler.

    A cell is `baseline $\\to$ truncated (cliff layer)`; the paper's rows have no layer.
    """
    rows = {}
    for model, cells in ours.groupby("model", sort=False):
        mine = rows.setdefault(model, {})
        for _, row in cells[cells["column"].isin(COLUMNS)].iterrows():
            cliff = "never" if row["cliff"] >= row["n_layers"] else f"{row['cliff']:.0f}"
            mine[row["column"]] = f"{_arrow(row)} ({cliff})".replace("→", "$\\to$")
        name = cells["published"].iloc[0]
        found = published[published["model"] == name].dropna(subset="baseline")
        rows[f"{name}, published ({model})"] = dict.fromkeys(COLUMNS, NONE) | {
            row["metric"]: f"{row['baseline']:.2f} $\\to$ {row['truncated']:.2f}"
            for _, row in found.iterrows()
        }
    table = pd.DataFrame.from_dict(rows, orient="index").reindex(columns=list(COLUMNS)).fillna("--")
    table.index = [name.partition(" (")[0] for name in table.index]  # unique until here
    sizes = sorted({int(n) for n in ours["n"]})
    caption = (
        "Untouched model $\\to$ picture hidden from the cliff layer on (layer counted from 0; "
        "``never'': none found, hidden in the last layer alone), in percent. SQA Acc counts "
        f"questions {KIND[ours.loc[ours['column'] == 'SQA Acc', 'metric'].iloc[0]]}. Judged on "
        f"{sizes[0]} to {sizes[-1]} questions that had no part in finding the cliff."
    )
    text = (
        table.style.format_index(escape="latex")
        .format_index(escape="latex", axis=1)
        .to_latex(
            hrules=True,
            column_format="l" + "r" * len(COLUMNS),
            caption=caption,
            label="tab:generalisation",
            position_float="centering",
        )
    )
    return text.replace("\\centering", "\\centering\\small\\setlength{\\tabcolsep}{3pt}", 1)
