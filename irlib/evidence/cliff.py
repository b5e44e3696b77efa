"""The cliff layer, from where on the image can be hidden at no cost; and that cost, elsewhere."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import bootstrap

from irlib import doors
from irlib.scores import LOWER_IS_BETTER, MAIN, pooled


@dataclass(frozen=True)
class Cliff:
    """The cliff `layer` of a `metric`, the interval `low`..`high` of it, 0-based layers.

    `baseline` and `at_cliff` are the metric of the untouched model and with the image hidden from
    the cliff layer on, as fractions; `n` the samples that the metric counts.
    """

    metric: str
    layer: int
    low: int
    high: int
    baseline: float
    at_cliff: float
    n: int


def cliff_layer(
    table: pd.DataFrame,
    *,
    metric: str | None = None,
    margin: float = 0.01,
    n_resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Cliff:
    """The smallest layer from which on the pooled metric stays within `margin` of the baseline.

    `table` is that of `sweep`, for one model, task and keep; its largest layer is the baseline.
    Better than the baseline is always within. The interval is a paired percentile bootstrap over
    samples: the same samples at every layer, the metric pooled anew, the cliff found anew. The
    baseline's own layer is returned if no smaller one qualifies. `metric` defaults to the task's
    main one. Raises `ValueError` for a mixed or incomplete table and an unknown metric.

    >>> table = pd.DataFrame({"model": "m", "task": "textvqa", "keep": 0,
    ...     "sample": ["a", "a", "a", "b", "b", "b"], "layer": [0, 1, 2] * 2,
    ...     "score": [0.0, 1.0, 1.0, 0.0, 0.6, 0.6]})
    >>> found = cliff_layer(table)
    >>> found.layer, found.low, found.high, found.baseline
    (1, 1, 1, 0.8)
    """
    n_resamples = doors.count("n_resamples", n_resamples, least=1)
    confidence = doors.number("confidence", confidence, above=True, most=1)
    seed, margin = doors.count("seed", seed), doors.number("margin", margin)
    task, layers, counts = _counts(table)
    size = next(iter(counts.values())).shape[-1]
    metric = metric or MAIN[task]

    def values(index=None):  # [layer], or [layer, resample] for index [resample, draw]
        weights = None if index is None else _times_drawn(index, size)
        return _pooled(task, counts, metric, weights=weights)

    def cliff(value):  # position of the cliff among layers, for value [layer, ...]
        cost = value - value[-1] if metric in LOWER_IS_BETTER else value[-1] - value
        within = cost <= margin + 1e-9  # 0.01 as a difference of fractions is not exact
        within[-1] = True
        return len(layers) - np.logical_and.accumulate(within[::-1]).sum(0).astype(float)

    drawn = bootstrap(
        (np.arange(size),),
        lambda index, axis: cliff(values(index)),
        n_resamples=n_resamples,
        confidence_level=confidence,
        method="percentile",
        batch=200,
        vectorized=True,
        rng=seed,
    )
    low, high = np.quantile(
        drawn.bootstrap_distribution,
        [(1 - confidence) / 2, (1 + confidence) / 2],
        method="inverted_cdf",  # a layer that occurs, not a mean of two
    ).astype(int)
    value = values()
    at = int(cliff(value))
    return Cliff(
        metric=metric,
        layer=layers[at],
        low=layers[low],
        high=layers[high],
        baseline=float(value[-1]),
        at_cliff=float(value[at]),
        n=_size(counts, metric),
    )


@dataclass(frozen=True)
class Change:
    """What hiding the image from `layer` on does to a `metric`: `baseline` becomes `truncated`.

    `gain` is their difference in the direction in which the metric is better (lower for CHAIR),
    `low`..`high` its interval; all are fractions, `n` the samples that the metric counts.
    """

    metric: str
    layer: int
    baseline: float
    truncated: float
    gain: float
    low: float
    high: float
    n: int


def change_at(
    table: pd.DataFrame,
    *,
    layer: int,
    metric: str | None = None,
    n_resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Change:
    """The `Change` of a pooled metric between the untouched model and `layer`.

    `table` is that of `sweep`, for one model, task and keep, with that layer and the untouched
    model, its largest. Meant for other samples than those that the layer was chosen on: on its own
    ones a cliff looks better than it is. The interval is a paired percentile bootstrap over
    samples, the metric pooled anew. `metric` defaults to the task's main one. Raises `ValueError`
    for a mixed or incomplete table, a layer that it does not have and an unknown metric.

    >>> table = pd.DataFrame({"model": "m", "task": "textvqa", "keep": 0,
    ...     "sample": ["a", "a", "b", "b"], "layer": [9, 12] * 2, "score": [1.0, 1.0, 0.3, 0.6]})
    >>> change = change_at(table, layer=9)
    >>> round(change.gain, 3), round(change.low, 3), change.high, change.n
    (-0.15, -0.3, 0.0, 2)
    """
    n_resamples = doors.count("n_resamples", n_resamples, least=1)
    confidence = doors.number("confidence", confidence, above=True, most=1)
    seed, layer = doors.count("seed", seed), doors.count("layer", layer)
    task, layers, counts = _counts(table)
    size = next(iter(counts.values())).shape[-1]
    metric = metric or MAIN[task]
    if layer not in layers:
        raise ValueError(
            f"asked for the change at layer {layer}, found the layers {layers}; sweep that one too"
        )
    at = layers.index(layer)
    drawn = np.random.default_rng(seed).multinomial(size, np.full(size, 1 / size), n_resamples)
    value = _pooled(task, counts, metric)
    sign = -1 if metric in LOWER_IS_BETTER else 1
    resampled = _pooled(task, counts, metric, weights=drawn)
    tail = 50 * (1 - confidence)
    low, high = np.nanpercentile(sign * (resampled[at] - resampled[-1]), [tail, 100 - tail])
    return Change(
        metric=metric,
        layer=layer,
        baseline=float(value[-1]),
        truncated=float(value[at]),
        gain=float(sign * (value[at] - value[-1])),
        low=float(low),
        high=float(high),
        n=_size(counts, metric),
    )


def _pooled(task, counts, metric, *, weights=None):
    """The metric, `[layer]` or `[layer, resample]`; refuses one that the task does not have."""
    found = pooled(task, counts, weights=weights)
    if metric not in found:
        raise ValueError(
            f"asked for the metric {metric!r} of {task}, found {sorted(found)}; use one of them"
        )
    return found[metric]


def _size(counts, metric):
    """The samples that a metric counts."""
    first = next(iter(counts.values()))
    return int(counts["has_image"][0].sum()) if metric == "SQA IMG Acc" else first.shape[-1]


def _counts(table):
    """Task, layers, and the count columns as `{name: [layer, sample]}`; refuses a mixed table."""
    for column in ("model", "task", "keep"):
        if (found := table[column].unique().tolist()) and len(found) > 1:
            raise ValueError(
                f"asked for one cliff layer, found several of {column!r} in the table: {found}; "
                f"select one, or group the table by {column!r}"
            )
    grid = table.pivot(index="layer", columns="sample", values="score")
    if grid.isna().any(axis=None) or grid.shape[0] < 2 or grid.shape[1] < 2:
        raise ValueError(
            f"asked for the cliff layer, found {grid.shape[0]} layers x {grid.shape[1]} samples "
            f"with {int(grid.isna().sum().sum())} cells missing; give every sample at every layer, "
            "at least two of each"
        )
    numbers = table.select_dtypes("number").columns.difference(["layer", "keep"])
    counts = {
        name: table.pivot(index="layer", columns="sample", values=name).to_numpy(float)
        for name in numbers
    }
    return table["task"].iloc[0], grid.index.tolist(), counts


def _times_drawn(index, size):
    """How often each resample drew each sample: `[resample, sample]` from `[resample, draw]`."""
    index = np.atleast_2d(index)
    flat = index + size * np.arange(len(index))[:, None]
    return np.bincount(flat.ravel(), minlength=len(index) * size).reshape(len(index), size)
