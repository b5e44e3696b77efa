"""Cliffs that others measured, beside ours, by depth: on other models, tasks and statistics."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from irlib.plots.lettering import tall, wrap
from irlib.plots.page import EDGE, PAGE, SMALL, Drawing
from irlib.plots.style import GREY, LIGHT, require

ROWS = {
    "scienceqa": "ScienceQA", "textvqa": "TextVQA", "pope": "POPE", "presence": "presence (MME)",
    "chair": "captions", "gqa": "GQA", "all": "several tasks",
}  # fmt: skip
"""What others call a task, in the order of the rows."""
TASK = {"SQA IMG Acc": "scienceqa", "TextVQA Acc": "textvqa", "POPE Acc": "pope", "CHAIRi": "chair"}
MARKS = {"o": "○", "s": "□", "^": "△", "v": "▽", "D": "◇"}
LEFT, PITCH = 0.98, 0.21
FOOT = (
    " Last panel: cliffs as a share of each model's layers, ours in colour with their limits; "
    "grey: as others give them, on other models, questions and statistics and counted in their way."
    " They stand beside ours and are not to be subtracted from them."
)


def height(others: pd.DataFrame) -> float:
    """Return how many inches the panel takes, its axis and key included."""
    return 0.2 + len(_rows(others)) * PITCH + 0.42 + tall(_key(others), SMALL)


def draw_others(
    figure: Drawing,
    y: float,
    cliffs: pd.DataFrame,
    others: pd.DataFrame,
    colours: Mapping[str, str],
) -> None:
    """Draw, from y inches down, a row a task: our `cliffs` above its line, those of `others` on it.

    Raises ValueError where `others` lacks a column, has a task without a row, or more sources than
    there are marks.
    """
    require(others, ("source", "model", "layers", "task", "low", "high"), "draw_others()")
    tasks, sources = _rows(others), list(dict.fromkeys(others["source"]))
    axes = figure.place(LEFT, y + 0.2, PAGE - LEFT - 0.15, len(tasks) * PITCH)
    axes.set(xlim=(-0.01, 1.03), ylim=(len(tasks) - 0.5, -0.5))
    axes.set_yticks(range(len(tasks)), [ROWS[task] for task in tasks], fontsize=7)
    axes.tick_params(axis="y", length=0)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
    axes.set_xlabel("cliff layer, as a share of the model's layers", labelpad=2)
    axes.hlines(range(len(tasks)), 0, 1, color=LIGHT, lw=0.5, zorder=0)
    for source, marker in zip(sources, MARKS, strict=False):
        for _, row in others[others["source"] == source].iterrows():
            at, spots = (
                tasks.index(row["task"]),
                [row[end] / row["layers"] for end in ("low", "high")],
            )
            axes.plot(spots, [at, at], color=GREY, lw=1, zorder=2)
            axes.plot(sum(spots) / 2, at, marker, mfc="white", mec=GREY, ms=4, zorder=3)
    ours = [row for _, row in cliffs.iterrows() if TASK.get(row["metric"]) in tasks]
    models = list(dict.fromkeys(cliffs["model"]))
    for row in ours:
        step = 0.3 * (models.index(row["model"]) + 1) / len(models)
        at, colour = tasks.index(TASK[row["metric"]]) - step, colours[row["model"]]
        low, spot, high = (row[name] / row["n_layers"] for name in ("low", "layer", "high"))
        axes.plot([low, high], [at, at], color=colour, lw=1, zorder=4)
        axes.plot(spot, at, "D", color=colour, ms=3, zorder=5)
    figure.write(EDGE, y + 0.2 + len(tasks) * PITCH + 0.4, _key(others), fontsize=SMALL, color=GREY)


def _rows(others: pd.DataFrame) -> list[str]:
    """The tasks that have a row; those of others must have a name here, and a source a mark."""
    named = set(others["task"])
    if named - ROWS.keys() or others["source"].nunique() > len(MARKS):
        raise ValueError(
            f"draw_others() was given the tasks {sorted(named)} of {others['source'].nunique()} "
            f"sources; there are rows for {list(ROWS)} and {len(MARKS)} marks; add what is missing."
        )
    return [task for task in ROWS if task in {*named, *TASK.values()}]


def _key(others: pd.DataFrame) -> str:
    told = [
        f"{mark} {source} ({', '.join(dict.fromkeys(rows['model']))})"
        for mark, (source, rows) in zip(
            MARKS.values(), others.groupby("source", sort=False), strict=False
        )
    ]
    return wrap("   ".join(told), PAGE - 2 * EDGE, SMALL)
