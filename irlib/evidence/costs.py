"""What hiding the image from each layer on costs, picture by picture: from a sweep's table."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from irlib.evidence.influence import contributions, counted, step
from irlib.evidence.units import ONE, distinct, one, units
from irlib.scores import LOWER_IS_BETTER, MAIN, pooled, tallied


@dataclass(frozen=True)
class Costs:
    """A pooled `metric`, `metrics` `[layer]`, and each unit's part of its loss, `values`
    `[layer, unit]`, in the metric's own direction: their mean over units is what is lost.

    `untouched` `[unit]` are the parts of the untouched model's metric, whose mean it is; `step` is
    what one answer is in a unit's part, `layers` are 0-based and end in the untouched model, `n`
    answers are counted.
    """

    metric: str
    layers: list[int]
    metrics: np.ndarray
    values: np.ndarray
    untouched: np.ndarray
    step: float
    n: int


def costs(table: pd.DataFrame, metric: str | None = None) -> Costs:
    """The `Costs` of a `sweep`, for one model, task and keep; `metric` defaults to the main one.

    Each question counts once (`units.distinct`). Raises ValueError for a mixed or incomplete table,
    one with fewer than two layers or answers, and an unknown metric.

    >>> table = pd.DataFrame({"model": "m", "task": "textvqa", "keep": 0, "picture": ["p"] * 4,
    ...     "sample": ["a", "a", "b", "b"], "layer": [0, 1] * 2, "score": [0.0, 1.0, 0.4, 0.6]})
    >>> found = costs(table)  # one picture with two questions
    >>> found.metric, found.values[0].round(3).tolist(), found.step
    ('TextVQA Acc', [0.6], 0.5)
    """
    task, layers, counts, unit = tallies(table)
    metric, known = metric or MAIN[task], pooled(task, counts)
    if metric not in known:
        raise ValueError(
            f"asked for the metric {metric!r} of {task}, found {sorted(known)}; use one of them"
        )
    kept = counted(metric, counts)
    if kept.sum() < 2:
        raise ValueError(
            f"asked for {metric}, found {int(kept.sum())} answers that it counts; give at least two"
        )
    counts = {name: values[:, kept] for name, values in counts.items()}
    unit = np.unique(unit[kept], return_inverse=True)[1]
    parts = contributions(metric, counts, unit=unit)
    return Costs(
        metric=metric,
        layers=layers,
        metrics=known[metric],
        values=(parts - parts[-1]) * (1 if metric in LOWER_IS_BETTER else -1),
        untouched=parts[-1],
        step=float(step(metric, {name: rows[-1] for name, rows in counts.items()}, unit=unit)),
        n=int(kept.sum()),
    )


def tallies(
    table: pd.DataFrame,
) -> tuple[str, list[int], dict[str, np.ndarray], np.ndarray]:
    """Task, layers, the count columns as `{name: [layer, answer]}` and each answer's unit.

    Raises ValueError for a mixed or incomplete table.
    """
    one(table, [name for name in ONE if name != "layer"])
    table = distinct(table)
    grid = table.pivot(index="layer", columns="sample", values="score")
    if grid.isna().any(axis=None) or grid.shape[0] < 2 or grid.shape[1] < 2:
        raise ValueError(
            f"asked what each layer costs, found {grid.shape[0]} layers x {grid.shape[1]} samples "
            f"with {int(grid.isna().sum().sum())} cells missing; give every sample at every layer, "
            "at least two of each"
        )
    numbers = [name for name in tallied(table["task"].iloc[0]) if name in table]
    counts = {
        name: table.pivot(index="layer", columns="sample", values=name).to_numpy(float)
        for name in numbers
    }
    if missing := [name for name, values in counts.items() if not np.isfinite(values).all()]:
        raise ValueError(
            f"asked what each layer costs, found no number in some rows of {missing}; give the "
            "counts that score() gave"
        )
    unit = units(table).groupby(table["sample"]).first()[grid.columns].to_numpy()
    return table["task"].iloc[0], grid.index.tolist(), counts, unit
