"""The cliff layer, from where on the image can be hidden at no cost, with certified limits."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from irlib import doors
from irlib.evidence.bounds import resolves
from irlib.evidence.costs import costs
from irlib.evidence.weights import mean_above


@dataclass(frozen=True)
class Cliff:
    """The cliff `layer` of a `metric` and its certified limits `low`..`high`, 0-based layers.

    `margin` is what the metric may lose, `baseline` and `at_cliff` are the metric of the untouched
    model and with the image hidden from `layer` on, as fractions. `n` answers about `units`
    pictures are counted; `resolves` is the smallest margin that so many could certify, were no
    answer to change: with a smaller `margin`, `high` is the untouched model's own layer.
    """

    metric: str
    layer: int
    low: int
    high: int
    margin: float
    baseline: float
    at_cliff: float
    n: int
    units: int
    resolves: float


def cliff_layer(
    table: pd.DataFrame,
    *,
    metric: str | None = None,
    margin: float = 0.05,
    confidence: float = 0.95,
) -> Cliff:
    """The smallest layer from which on the pooled metric stays within `margin` of the baseline.

    `table` is that of `sweep`, for one model, task and keep; its largest layer is the baseline, and
    the cliff where no smaller one qualifies. Better than the baseline is always within. `metric`
    defaults to the task's main one; each question counts once, and the unit is the picture.

    `layer` is the plain reading, and late on the whole: one noisy layer deep down moves it up.
    `high` and `low` are certified, each wrong in at most (1 - confidence) / 2 of all draws of
    pictures. `high`: the smallest layer from which on every layer's cost is surely within the
    margin; as all of them must pass, none is tested more strictly (an intersection-union test,
    Berger 1982). `low`: one more than the deepest layer whose cost is surely above the margin; as
    one of many would do, each is tested as strictly as there are layers (Bonferroni). A cost is
    that of `bounds.estimate` on each picture's contribution (`influence`); an answer that did not
    flip may flip on the next picture, so small n certifies little.

    Raises `ValueError` for a mixed or incomplete table, an unknown metric, and a sweep whose layers
    are not changed from one on (`kind="upto"`, "single" or "window").

    >>> table = pd.DataFrame([{"model": "m", "task": "textvqa", "keep": 0, "sample": f"{row}",
    ...     "picture": "", "layer": layer, "score": float(layer > 0 or row % 2)}
    ...     for row in range(100) for layer in range(3)])
    >>> found = cliff_layer(table)
    >>> found.layer, found.low, found.high, found.at_cliff, round(found.resolves, 3)
    (1, 1, 1, 1.0, 0.036)
    """
    confidence = doors.number("confidence", confidence, above=True, most=1)
    margin = doors.number("margin", margin)
    if "span" in table and (spans := sorted({*table["span"].dropna()} - {"from"})):
        raise ValueError(
            f"asked for the layer from which on nothing is lost, found a sweep of the kind {spans}"
            '; give one of kind="from"'
        )
    found = costs(table, metric)
    cost, layers = found.values[:-1], found.layers
    within, above = certify(cost, margin=margin, step=found.step, confidence=confidence)
    at = _from_on(cost.mean(-1) <= margin + 1e-9)  # a difference of fractions is not exact
    return Cliff(
        metric=found.metric,
        layer=layers[at],
        low=layers[np.flatnonzero(above)[-1]] + 1 if above.any() else 0,
        high=layers[_from_on(within)],
        margin=margin,
        baseline=float(found.metrics[-1]),
        at_cliff=float(found.metrics[at]),
        n=found.n,
        units=cost.shape[-1],
        resolves=resolves(cost.shape[-1], step=found.step, confidence=confidence),
    )


def certify(
    cost: np.ndarray,
    *,
    margin: float,
    step: float | np.ndarray,
    confidence: float = 0.95,
    counts: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Which layers `[..., layer]` are surely within the margin, and which surely above it.

    `cost` `[..., layer, unit]` is what hiding the image from a layer on takes from each unit, for
    every layer but the untouched one; `step` (`[..., layer]`, or a number) what one answer is in
    it; `counts` how many units each number stands for. The level is (1 - confidence) / 2, for each
    layer within, and for all that are above together.
    """
    level = (1 - confidence) / 2
    there = cost if counts is None else np.where(counts > 0, cost, 0.0)
    worst = np.maximum(there.max(-1), step)[..., None]
    best = np.minimum(there.min(-1), -step)[..., None]
    if counts is not None:
        counts = np.broadcast_to(counts, cost.shape)
        counts = np.concatenate([counts, np.ones_like(worst)], axis=-1)
    above = mean_above(np.concatenate([cost, worst], axis=-1), margin, counts=counts)
    below = mean_above(-np.concatenate([cost, best], axis=-1), -margin, counts=counts)
    return above <= level, below <= level / cost.shape[-2]


def _from_on(holds):
    """The first place from which on all of `holds` `[layer]` are true, one beyond where none is."""
    return len(holds) - int(np.logical_and.accumulate(holds[::-1]).sum())
