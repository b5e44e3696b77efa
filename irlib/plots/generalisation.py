"""Table 1: the untouched model against truncation at the cliff layer, ours beside the published."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from irlib.plots.style import BLUE, GREY, PAGE, VERMILLION, new_figure, note, require, styled

COLUMNS = ("POPE Acc", "POPE F1", "SQA Acc", "TextVQA Acc", "CHAIR")


@styled
def generalisation(ours: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Return the table as a drawing: a row per model, `baseline → at the cliff` in percent.

    `ours` has `model, column, metric, baseline, at_cliff, layer, low, high, n_layers, n` (as
    fractions, 0-based layers) and a `column` of the published table; `published` has `model,
    metric, baseline, truncated` in percent, as in data/paper/table1.csv.
    """
    require(
        ours,
        ("model", "column", "metric", "baseline", "at_cliff", "layer", "n_layers", "n"),
        "generalisation()",
    )
    require(published, ("model", "metric", "baseline", "truncated"), "generalisation()")
    models, paper = (list(dict.fromkeys(table["model"])) for table in (ours, published))
    height = 1.15 + 0.53 * len(models) + 0.2 * (len(paper) + 1)
    figure = new_figure(PAGE, height)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, PAGE), ylim=(height, 0))
    axes.axis("off")
    at = [1.5 + 0.89 * place for place in range(len(COLUMNS))]
    _rule(axes, 0.1, 1.0)
    for x, name in zip(at, COLUMNS, strict=False):
        axes.text(x, 0.26, name, ha="center", va="center", fontweight="bold", fontsize=7.5)
    _rule(axes, 0.4, 0.5)
    y = 0.52
    axes.text(0.05, y, "this run", va="center", color=GREY, fontsize=7, style="italic")
    for model in models:
        y += 0.18
        rows = ours[ours["model"] == model].set_index("column")
        axes.text(0.05, y, model, va="center", fontsize=7.5, fontweight="bold")
        for x, name in zip(at, COLUMNS, strict=False):
            if name not in rows.index:
                axes.text(x, y, "–", ha="center", va="center")
                continue
            row = rows.loc[name]
            kind = row["metric"].removeprefix("CHAIR") + " " if name == "CHAIR" else ""
            _change(axes, x, y, 100 * row["baseline"], 100 * row["at_cliff"], kind, True)
            axes.text(x, y + 0.21, f"{_layers(row)}\nn = {row['n']:.0f}", ha="center", va="center",
                      fontsize=6, color=GREY, linespacing=1.1)  # fmt: skip
        y += 0.31
    y += 0.12
    _rule(axes, y - 0.1, 0.5)
    y += 0.04
    axes.text(0.05, y, "published", va="center", color=GREY, fontsize=7, style="italic")
    for model in paper:
        y += 0.2
        rows = published[published["model"] == model].set_index("metric")
        axes.text(0.05, y, model, va="center", fontsize=7.5)
        for x, name in zip(at, COLUMNS, strict=False):
            found = [key for key in rows.index if key.startswith(name)]
            if not found or pd.isna(rows.loc[found[0], "baseline"]):
                axes.text(x, y, "–", ha="center", va="center", color=GREY)
                continue
            row, kind = (
                rows.loc[found[0]],
                found[0].removeprefix("CHAIR") + " " if name == "CHAIR" else "",
            )
            _change(axes, x, y, row["baseline"], row["truncated"], kind, False)
    _rule(axes, y + 0.14, 1.0)
    note(
        figure,
        "Untouched model → picture hidden from the cliff layer L on, in percent; CHAIR (i or s): "
        "lower is better. Blue: better, red: worse than untouched. This run's SQA is IMG accuracy; "
        "its layers count from 0 and are no match for the paper's: another model, other tasks.",
    )
    return figure


def _layers(row: pd.Series) -> str:
    """`L = 4 [3, 6]`; the number of layers reads 'never', as on the axes of figure 5."""
    names = [
        "never" if row[key] >= row["n_layers"] else f"{row[key]:.0f}"
        for key in ("layer", "low", "high")
    ]
    return "L = {} [{}, {}]".format(*names)


def _change(axes, x: float, y: float, before: float, after: float, kind: str, ours: bool) -> None:
    gain = (before - after) if kind else (after - before)
    colour = "black" if abs(gain) < 0.005 else (BLUE if gain > 0 else VERMILLION)
    size = 7.5 if ours else 7
    axes.text(x + 0.03, y, f"{kind}{before:.1f} →" if ours else f"{kind}{before:.2f} →", ha="right",
              va="center", fontsize=size)  # fmt: skip
    axes.text(x + 0.07, y, f"{after:.1f}" if ours else f"{after:.2f}", ha="left", va="center",
              fontsize=size, color=colour)  # fmt: skip


def _rule(axes, y: float, width: float) -> None:
    axes.plot([0.05, PAGE - 0.05], [y, y], color="black", lw=width)


def latex(ours: pd.DataFrame, published: pd.DataFrame) -> str:
    """Return the same table as LaTeX (booktabs), through pandas' Styler."""
    rows = {}
    for _, row in ours.iterrows():
        kind = row["metric"].removeprefix("CHAIR") + " " if row["column"] == "CHAIR" else ""
        rows.setdefault(f"{row['model']} (this run)", {})[row["column"]] = (
            f"{kind}{100 * row['baseline']:.1f} $\\to$ {100 * row['at_cliff']:.1f}"
        )
    for _, row in published.dropna(subset="baseline").iterrows():
        column = next(name for name in COLUMNS if row["metric"].startswith(name))
        kind = row["metric"].removeprefix("CHAIR") + " " if column == "CHAIR" else ""
        cell = f"{kind}{row['baseline']:.2f} $\\to$ {row['truncated']:.2f}"
        rows.setdefault(row["model"], {})[column] = cell
    table = pd.DataFrame.from_dict(rows, orient="index").reindex(columns=list(COLUMNS)).fillna("--")
    table.index = [name.replace("_", "\\_") for name in table.index]
    return table.style.to_latex(hrules=True, column_format="l" + "r" * len(COLUMNS))
