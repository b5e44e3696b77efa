"""Table 1: the untouched model against truncation at the cliff layer, ours beside the published."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from irlib.plots.style import BLUE, GREY, PAGE, VERMILLION, new_figure, note, require, styled

COLUMNS = ("POPE Acc", "POPE F1", "SQA Acc", "TextVQA Acc", "CHAIR")
PLACES = {1.5 + 0.89 * place: name for place, name in enumerate(COLUMNS)}
ALL = "SQA all"


@styled
def generalisation(ours: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Return the table as a drawing: a row per model, `baseline → at the cliff` in percent.

    `ours` has `model, column, metric, baseline, at_cliff, layer, low, high, n_layers, n` (as
    fractions, 0-based layers) and a `column` of the published table; `published` has `model,
    metric, baseline, truncated` in percent, as in data/paper/table1.csv. A column "SQA all" in
    `ours`, with the rows that have no picture, is told below.
    """
    require(
        ours,
        ("model", "column", "metric", "baseline", "at_cliff", "layer", "n_layers", "n"),
        "generalisation()",
    )
    require(published, ("model", "metric", "baseline", "truncated"), "generalisation()")
    models, paper = (list(dict.fromkeys(table["model"])) for table in (ours, published))
    height = 1.25 + 0.6 * len(models) + 0.2 * (len(paper) + 1)
    figure = new_figure(PAGE, height)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, PAGE), ylim=(height, 0))
    axes.axis("off")
    _rule(axes, 0.1, 1.0)
    for x, name in PLACES.items():
        axes.text(x, 0.26, name, ha="center", va="center", fontweight="bold", fontsize=7.5)
    _rule(axes, 0.4, 0.5)
    y = 0.52
    axes.text(0.05, y, "this run", va="center", color=GREY, fontsize=7, style="italic")
    for model in models:
        y += 0.18
        _our_row(axes, y, model, ours[ours["model"] == model].set_index("column"))
        y += 0.46
    y += 0.12
    _rule(axes, y - 0.1, 0.5)
    y += 0.04
    axes.text(0.05, y, "published", va="center", color=GREY, fontsize=7, style="italic")
    for model in paper:
        y += 0.2
        rows = published[published["model"] == model].dropna(subset="baseline")
        _paper_row(axes, y, model, rows.set_index("metric"))
    _rule(axes, y + 0.14, 1.0)
    note(
        figure,
        "Untouched model → picture hidden from the cliff layer L on, in percent; CHAIR (i or s): "
        "lower is better. Blue: better, orange: worse than untouched. SQA is that of rows "
        "with a picture (all rows below it); its layers count from 0 (–: never hidden) and are no "
        "match for the paper's: another model, other tasks.",
    )
    return figure


def _our_row(axes: Axes, y: float, model: str, rows: pd.DataFrame) -> None:
    axes.text(0.05, y, model, va="center", fontsize=7.5, fontweight="bold")
    for x, name in PLACES.items():
        if name not in rows.index:
            axes.text(x, y, "–", ha="center", va="center")
            continue
        row = rows.loc[name]
        _change(axes, x, y, 100 * row["baseline"], 100 * row["at_cliff"], _kind(row["metric"]), 1)
        small = f"{_layers(row)}\nn = {row['n']:.0f}"
        if name == "SQA Acc" and ALL in rows.index:
            whole = rows.loc[ALL]
            change = f"{100 * whole['baseline']:.1f} → {100 * whole['at_cliff']:.1f}"
            small += f"\nall {whole['n']:.0f} rows:\n{change}"
        axes.text(x, y + 0.1, small, ha="center", va="top", fontsize=6, color=GREY,
                  linespacing=1.1)  # fmt: skip


def _paper_row(axes: Axes, y: float, model: str, rows: pd.DataFrame) -> None:
    axes.text(0.05, y, model, va="center", fontsize=7.5)
    for x, name in PLACES.items():
        found = [metric for metric in rows.index if metric.startswith(name)]
        if not found:
            axes.text(x, y, "–", ha="center", va="center", color=GREY)
            continue
        row = rows.loc[found[0]]
        _change(axes, x, y, row["baseline"], row["truncated"], _kind(found[0]), 2)


def _kind(metric: str) -> str:
    """Which of CHAIR's two figures this is, `s` or `i`; nothing for other metrics."""
    return metric.removeprefix("CHAIR") + " " if metric.startswith("CHAIR") else ""


def _layers(row: pd.Series) -> str:
    """`L = 4 [3, 6]`; the untouched model is a dash, the 'never' of figure 5."""
    places = [row[key] for key in ("layer", "low", "high")]
    return "L = {} [{}, {}]".format(*("–" if p >= row["n_layers"] else int(p) for p in places))


def _change(
    axes: Axes, x: float, y: float, before: float, after: float, kind: str, digits: int
) -> None:
    gain = (before - after) if kind else (after - before)  # CHAIR counts what is invented
    colour = "black" if abs(gain) < 0.5 * 10**-digits else (BLUE if gain > 0 else VERMILLION)
    size = 8.0 - 0.5 * digits
    axes.text(x + 0.03, y, f"{kind}{before:.{digits}f} →", ha="right", va="center", fontsize=size)
    axes.text(x + 0.07, y, f"{after:.{digits}f}", ha="left", va="center", fontsize=size,
              color=colour)  # fmt: skip


def _rule(axes, y: float, width: float) -> None:
    axes.plot([0.05, PAGE - 0.05], [y, y], color="black", lw=width)


def latex(ours: pd.DataFrame, published: pd.DataFrame) -> str:
    """Return the same table as LaTeX (booktabs), through pandas' Styler."""
    rows = {}
    for _, row in ours[ours["column"].isin(COLUMNS)].iterrows():
        kind = _kind(row["metric"])
        rows.setdefault(f"{row['model']} (this run)", {})[row["column"]] = (
            f"{kind}{100 * row['baseline']:.1f} $\\to$ {100 * row['at_cliff']:.1f}"
        )
    for _, row in published.dropna(subset="baseline").iterrows():
        column = next(name for name in COLUMNS if row["metric"].startswith(name))
        kind = _kind(row["metric"])
        cell = f"{kind}{row['baseline']:.2f} $\\to$ {row['truncated']:.2f}"
        rows.setdefault(row["model"], {})[column] = cell
    table = pd.DataFrame.from_dict(rows, orient="index").reindex(columns=list(COLUMNS)).fillna("--")
    table.index = [name.replace("_", "\\_") for name in table.index]
    return table.style.to_latex(hrules=True, column_format="l" + "r" * len(COLUMNS))
