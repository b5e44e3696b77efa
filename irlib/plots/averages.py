"""Means over samples with their interval: the numbers that a figure draws and its csv keeps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from irlib import doors
from irlib.scores import pooled

COLUMNS = ("measure", "value", "low", "high", "n")


def average(
    table: pd.DataFrame,
    measures: Sequence[str],
    *,
    by: Sequence[str],
    n_resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Return one row per group of `by` and measure: `measure, value, low, high, n`.

    Rows of one sample are averaged first, so that `n` counts samples; NaN (a map that is zero
    everywhere has no share) is left out and lowers `n`. `low, high` is the percentile bootstrap
    interval over samples; groups of the same size see the same resamples. `attrs["unanswered"]`
    names the samples whose answer was empty, for a figure's foot.

    Raises: ValueError if a column is missing.

    >>> flow = pd.DataFrame({"sample": ["a", "b"], "layer": [0, 0], "share": [0.2, 0.4]})
    >>> average(flow, ["share"], by=["layer"]).round(3).to_dict("records")
    [{'layer': 0, 'measure': 'share', 'value': 0.3, 'low': 0.2, 'high': 0.4, 'n': 2}]
    """
    n_resamples = doors.count("n_resamples", n_resamples, least=1)
    seed = doors.count("seed", seed)
    unit = [name for name in ("task", "sample") if name in table.columns and name not in by]
    missing = [name for name in (*by, *measures, "sample") if name not in table.columns]
    if missing:
        raise ValueError(
            f"average() was asked for {missing}; the table has {list(table.columns)}. "
            "Name columns of the instrument's table in `measures` and `by`."
        )
    rows = []
    for key, group in table.groupby(list(by), sort=False, observed=True):
        samples = group.groupby(unit, sort=True)[list(measures)].mean()
        for measure in measures:
            values = samples[measure].dropna().to_numpy(float)
            low, high = _percentiles(values, n_resamples, confidence, seed)
            mean = values.mean() if len(values) else np.nan
            rows.append((*key, measure, mean, low, high, len(values)))
    found = pd.DataFrame(rows, columns=[*by, *COLUMNS])
    found.attrs["unanswered"] = _unanswered(table)
    return found


def _unanswered(table: pd.DataFrame) -> list[str]:
    """The samples without an answer: nothing was attended (share) and nothing lit (peak) for it."""
    told = [name for name in ("share", "peak") if name in table]
    rows = table[table[told].isna().any(axis=1)]
    names = [rows[name].astype(str) for name in ("model", "task", "sample") if name in rows]
    return list(dict.fromkeys(" ".join(row) for row in zip(*names, strict=True)))


def pool(
    table: pd.DataFrame,
    metrics: Sequence[str],
    *,
    by: Sequence[str] = ("model", "task", "layer"),
    n_resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Return one row per group of `by` and corpus metric: `metric, value, low, high, n`.

    `table` is that of sweep(), with `task` and the count columns of its scorers; metrics that a
    task does not have are skipped. Every resample of the samples is pooled anew, as in
    `metrics()`; "SQA IMG Acc" counts the samples with a picture. Where all of n are
    right, or none, the interval is Clopper and Pearson's, of n.

    Raises: ValueError if no task of the table has one of the metrics.

    >>> rows = pd.DataFrame({"task": "textvqa", "sample": ["a", "b"], "layer": 0, "score": [0, 1]})
    >>> pool(rows, ["TextVQA Acc"], by=["layer"]).to_dict("records")
    [{'layer': 0, 'metric': 'TextVQA Acc', 'value': 0.5, 'low': 0.0, 'high': 1.0, 'n': 2}]
    """
    n_resamples = doors.count("n_resamples", n_resamples, least=1)
    rows, tail, seed = [], 50 * (1 - confidence), doors.count("seed", seed)
    for (*key, task), group in table.groupby([*by, "task"], sort=False, observed=True):
        group = group.sort_values("sample")
        counts = {name: group[name].to_numpy(float) for name in group.select_dtypes("number")}
        size = len(group)
        even = np.full(size, 1 / size)
        weights = np.random.default_rng(seed).multinomial(size, even, size=n_resamples)
        value, drawn = pooled(task, counts), pooled(task, counts, weights=weights)
        for metric in [name for name in metrics if name in value]:
            low, high = np.nanpercentile(drawn[metric], [tail, 100 - tail])
            n = int(counts["has_image"].sum()) if metric == "SQA IMG Acc" else size
            if low == high and value[metric] in (0, 1):  # resampling knows no doubt at 0 of n
                low, high = binomtest(round(value[metric] * n), n).proportion_ci(confidence)
            rows.append((*key, metric, float(value[metric]), low, high, n))
    if not rows:
        raise ValueError(
            f"pool() was asked for {list(metrics)}; the table has the tasks "
            f"{sorted(table['task'].unique())}. Name metrics of these tasks."
        )
    found = pd.DataFrame(rows, columns=[*by, "metric", *COLUMNS[1:]])
    order = {metric: place for place, metric in enumerate(metrics)}
    return found.sort_values("metric", key=lambda c: c.map(order), kind="stable", ignore_index=True)


def _percentiles(values: np.ndarray, n: int, confidence: float, seed: int) -> tuple[float, float]:
    if len(values) == 0:
        return np.nan, np.nan
    drawn = np.random.default_rng(seed).integers(len(values), size=(n, len(values)))
    tail = 50 * (1 - confidence)
    return tuple(np.percentile(values[drawn].mean(axis=1), [tail, 100 - tail]))
