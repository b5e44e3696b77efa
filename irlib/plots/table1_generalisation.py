"""Table 1: the untouched model against truncation at the cliff layer, ours beside the published."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from irlib.plots.lettering import tall, wrap
from irlib.plots.page import EDGE, PAGE, Drawing, styled
from irlib.plots.style import BLUE, GREY, LIGHT, VERMILLION, count, require

COLUMNS = ("POPE Acc", "POPE F1", "SQA Acc", "TextVQA Acc", "CHAIRs", "CHAIRi")
ALL = "SQA all"
KIND = {"SQA IMG Acc": "with a picture", "SQA Acc": "all questions"}
OURS = (
    "model published column metric baseline baseline_low baseline_high at_cliff change_low "
    "change_high n units layer cliff low high n_layers margin resolves"
)
NONE, ABSENT = "not published", "not in the paper"
CERTAIN = {1: ("better", BLUE), -1: ("worse", VERMILLION)}
SPOTS = ("cliff", "low", "high")
LEFT, SMALL = 1.0, 6
FOOT = (
    "Bold: this run. Untouched model → picture hidden from the cliff's certified upper limit on, "
    "in percent, on n questions (of so many pictures, if fewer); before: the untouched score's "
    "95 % interval. [ ]: the limits of the cliff, "
    "certified at a margin of {margin:.2g} points (95 %, over pictures; were no answer to change, "
    "so many would certify {resolves} points); –: never. L: no layer is certified, and it was "
    "hidden from this one. Better, worse: where the change's 95 % interval leaves out zero. Below: "
    "the paper, which gives no intervals, on other models and tasks. Layers count from 0."
)


@styled
def generalisation(ours: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Return the table as a drawing: `baseline → at the cliff` in percent, the paper's row below.

    `ours` has a row per model and column of the table, those of `across.at_cliffs`, and
    `published`, the paper's row that the model stands for ("" for none). The argument `published`
    has `model, metric, baseline, truncated` in percent, as in data/paper/table1.csv. A column
    "SQA all", with the rows that have no picture, is told below "SQA Acc".
    """
    require(ours, OURS.split(), "generalisation()")
    require(published, ("model", "metric", "baseline", "truncated"), "generalisation()")
    models = {
        model: (wrap(model.rpartition("/")[2], LEFT - 0.12, 7, bold=True), rows.set_index("column"))
        for model, rows in ours.groupby("model", sort=False)
    }
    heads = {name: _head(name, ours) for name in (*COLUMNS, ALL)}
    tops, y = {}, 0.34 + tall("\n".join(heads["SQA Acc"]), SMALL)
    for model, (name, rows) in models.items():
        cells = max(tall(_small(rows, column), SMALL) + 0.26 for column in COLUMNS)
        tops[model] = y, y + 0.06 + max(cells, tall(name, 7) + 0.04)
        y = tops[model][1] + 0.22
    finest, coarsest = ours["resolves"].min(), ours["resolves"].max()
    foot = FOOT.format(
        margin=100 * ours["margin"].iloc[0],
        resolves="–".join(dict.fromkeys(f"{100 * one:.2g}" for one in (finest, coarsest))),
    )
    figure = Drawing(y + 0.04, foot=foot)
    axes = figure.place(0, 0, PAGE, y + 0.04)
    axes.set(xlim=(0, PAGE), ylim=(y + 0.04, 0))
    axes.axis("off")
    _rule(axes, 0.06, 1.0)
    for name in COLUMNS:
        figure.write(_place(name), 0.12, name, ha="center", fontweight="bold", fontsize=7.5)
        figure.write(_place(name), 0.28, "\n".join(heads[name]), ha="center", fontsize=SMALL,
                     color=GREY)  # fmt: skip
    for rank, (model, (name, rows)) in enumerate(models.items()):
        top, below = tops[model]
        _rule(axes, top, 0.5 if rank == 0 else 0.4, "black" if rank == 0 else LIGHT)
        figure.write(EDGE, top + 0.07, name, fontsize=7, fontweight="bold")
        _our_row(figure, top + 0.07, rows)
        if not (theirs := rows["published"].iloc[0]):
            figure.write(EDGE, below + 0.02, ABSENT, fontsize=7, color=GREY)
            continue
        found = published[published["model"] == theirs].set_index("metric")
        _paper_row(figure, below + 0.02, wrap(f"{theirs}, paper", LEFT, 7), found)
    _rule(axes, y, 1.0)
    return figure


def _head(name: str, ours: pd.DataFrame) -> list[str]:
    """What stands below a column's name: how it counts, and how many questions."""
    rows = ours[ours["column"] == name]
    if name == ALL or rows.empty:
        return [f"all: {count(rows['n'], rows['units'])}"] if len(rows) else []
    more = _head(ALL, ours) if name == "SQA Acc" else []
    kind = "lower is better" if name.startswith("CHAIR") else KIND.get(rows["metric"].max())
    return [*([kind] if kind else []), count(rows["n"], rows["units"]), *more]


def _place(name: str) -> float:
    return LEFT + (PAGE - LEFT) * (COLUMNS.index(name) + 0.5) / len(COLUMNS)


def _small(rows: pd.DataFrame, name: str) -> str:
    """What stands below a change: the cliff (a dash is figure 5's 'never'), and what else is so."""
    if name not in rows.index:
        return ""
    row = rows.loc[name]
    spots = ("–" if row[key] >= row["n_layers"] else int(row[key]) for key in SPOTS)
    before = (f"{round(100 * row[name], 1):g}" for name in ("baseline_low", "baseline_high"))
    lines = ["before " + "–".join(before), "cliff {} [{}, {}]".format(*spots)]
    if row["high"] >= row["n_layers"]:
        lines.append(f"L = {row['layer']:.0f}")
    if name == "SQA Acc" and ALL in rows.index:
        lines.append(f"all: {_arrow(rows.loc[ALL])}")
    return "\n".join(lines)


def _our_row(figure: Drawing, y: float, rows: pd.DataFrame) -> None:
    for name in COLUMNS:
        if name not in rows.index:
            figure.write(_place(name), y, "–", ha="center")
            continue
        row = rows.loc[name]
        certain = int(row["change_low"] > 0) - int(row["change_high"] < 0)
        word, colour = CERTAIN.get(certain, ("", "black"))
        _change(figure, _place(name), y, 100 * row["baseline"], 100 * row["at_cliff"], colour, 1)
        small = _small(rows, name)
        figure.write(_place(name), y + 0.13, small, ha="center", fontsize=SMALL, color=GREY)
        if word:
            figure.write(_place(name), y + 0.13 + tall(small, SMALL), word, ha="center",
                         fontsize=SMALL, color=colour, fontweight="bold")  # fmt: skip


def _paper_row(figure: Drawing, y: float, model: str, rows: pd.DataFrame) -> None:
    figure.write(EDGE, y, model, fontsize=7, color=GREY)
    if rows.empty:
        figure.write((LEFT + PAGE) / 2, y + 0.01, NONE, ha="center", color=GREY, fontsize=SMALL)
        return
    for name in COLUMNS:
        if name not in rows.index or pd.isna(rows.loc[name, "baseline"]):
            figure.write(_place(name), y + 0.01, NONE, ha="center", color=GREY, fontsize=SMALL)
            continue
        row = rows.loc[name]
        _change(figure, _place(name), y, row["baseline"], row["truncated"], "black", 2)


def _arrow(row: pd.Series) -> str:
    return f"{100 * row['baseline']:.1f} → {100 * row['at_cliff']:.1f}"


def _change(
    figure: Drawing, x: float, y: float, before: float, after: float, colour: str, digits: int
) -> None:
    figure.write(x + 0.03, y, f"{before:.{digits}f} →", ha="right", fontsize=7)
    figure.write(x + 0.07, y, f"{after:.{digits}f}", fontsize=7, color=colour)


def _rule(axes: Axes, y: float, width: float, colour: str = "black") -> None:
    axes.plot([EDGE, PAGE - EDGE], [y, y], color=colour, lw=width)


def latex(ours: pd.DataFrame, published: pd.DataFrame) -> str:
    """Return the same table as LaTeX (needs booktabs), through pandas' Styler.

    A cell is `baseline $\\to$ truncated (cliff layer)`; the paper's rows have no layer.
    """
    rows = {}
    for model, cells in ours.groupby("model", sort=False):
        mine = rows.setdefault(model, {})
        for _, row in cells[cells["column"].isin(COLUMNS)].iterrows():
            cliff = "never" if row["high"] >= row["n_layers"] else f"{row['high']:.0f}"
            mine[row["column"]] = f"{_arrow(row)} ({cliff})".replace("→", "$\\to$")
        if not (name := cells["published"].iloc[0]):
            continue
        found = published[published["model"] == name].dropna(subset="baseline")
        rows[f"{name}, published ({model})"] = dict.fromkeys(COLUMNS, NONE) | {
            row["metric"]: f"{row['baseline']:.2f} $\\to$ {row['truncated']:.2f}"
            for _, row in found.iterrows()
        }
    table = pd.DataFrame.from_dict(rows, orient="index").reindex(columns=list(COLUMNS)).fillna("--")
    table.index = [name.partition(" (")[0] for name in table.index]  # unique until here
    sizes = sorted({int(n) for n in ours["n"]})
    kind = KIND[ours.loc[ours["column"] == "SQA Acc", "metric"].iloc[0]]
    caption = (
        "Untouched model $\\to$ picture hidden from the cliff's certified upper limit on (layer "
        "counted from 0; ``never'': none certified, hidden in the last layer alone), in percent. "
        f"SQA Acc counts questions {kind}. {sizes[0]} to {sizes[-1]} questions, each about another "
        "picture."
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
