"""What hiding the image from one layer on does to a score, on other pictures than chose it."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from irlib import doors
from irlib.evidence.bounds import estimate
from irlib.evidence.costs import costs
from irlib.evidence.means import mean_effect
from irlib.evidence.units import ONE, one, units


@dataclass(frozen=True)
class Change:
    """What hiding the image from `layer` on does to a `metric`: `baseline` becomes `truncated`.

    `baseline_low`..`baseline_high` is the interval of the untouched score. `gain` is their
    difference in the direction in which the metric is better (lower for CHAIR), `low`..`high` its
    interval; all are fractions. `n` answers about `units` pictures are counted.
    """

    metric: str
    layer: int
    baseline: float
    baseline_low: float
    baseline_high: float
    truncated: float
    gain: float
    low: float
    high: float
    n: int
    units: int


def change_at(
    table: pd.DataFrame, *, layer: int, metric: str | None = None, confidence: float = 0.95
) -> Change:
    """The `Change` of a pooled metric between the untouched model and `layer`.

    `table` is that of `sweep`, for one model, task and keep, with that layer and the untouched
    model, its largest. Meant for other pictures than those that the layer was chosen on: on its own
    ones a cliff looks better than it is. Intervals are those of `bounds.estimate` on each picture's
    contribution: for the untouched score with one more that is all wrong or all right (or the worst
    or best of those seen, where a ratio's parts lie beyond). At the untouched model's own layer
    there is no change and no doubt. `metric` defaults to the task's main one. Raises `ValueError`
    for a mixed or incomplete table, a layer that it does not have and an unknown metric.

    >>> table = pd.DataFrame({"model": "m", "task": "textvqa", "keep": 0, "picture": "",
    ...     "sample": ["a", "a", "b", "b"], "layer": [9, 12] * 2, "score": [1.0, 1.0, 0.3, 0.6]})
    >>> change = change_at(table, layer=9)
    >>> round(change.gain, 3), change.n, change.units
    (-0.15, 2, 2)
    """
    confidence = doors.number("confidence", confidence, above=True, most=1)
    layer = doors.count("layer", layer)
    found = costs(table, metric)
    if layer not in found.layers:
        raise ValueError(
            f"asked for the change at layer {layer}, found the layers {found.layers}; sweep that "
            "one too"
        )
    at = found.layers.index(layer)
    gain = estimate(-found.values[at], step=found.step, confidence=confidence)
    parts = found.untouched
    within = (min(0.0, parts.min()), max(1.0, parts.max()))  # a ratio's parts may lie beyond it
    before = estimate(parts, within=within, confidence=confidence)
    untouched = layer == found.layers[-1]
    return Change(
        metric=found.metric,
        layer=layer,
        baseline=float(found.metrics[-1]),
        baseline_low=max(0.0, before.low),
        baseline_high=min(1.0, before.high),
        truncated=float(found.metrics[at]),
        gain=0.0 if untouched else gain.value,
        low=0.0 if untouched else gain.low,
        high=0.0 if untouched else gain.high,
        n=found.n,
        units=gain.units,
    )


def since_untouched(table: pd.DataFrame) -> pd.DataFrame:
    """Return a sweep's rows with `changed` and `lost`, without those of the untouched model.

    `changed` is 1 where the answer is another than the untouched model's, else 0; `lost` the nats
    of log-probability that the change took from the untouched answer. `table` is that of one model,
    task and change, with `sweep(..., logprob=True)`.

    >>> rows = {"sample": ["1", "1"], "layer": [0, 2], "answer": ["no", "yes"],
    ...         "logprob": [-2.0, -0.5]}
    >>> since_untouched(pd.DataFrame(rows))[["layer", "changed", "lost"]].values.tolist()
    [[0.0, 1.0, 1.5]]
    """
    one(table, [name for name in ONE if name != "layer"])
    last = table["layer"].max()
    before = table[table["layer"] == last].set_index("sample")
    rows = table[table["layer"] < last]
    whole = before.loc[rows["sample"]]
    changed = (rows["answer"].to_numpy() != whole["answer"].to_numpy()).astype(float)
    return rows.assign(changed=changed, lost=whole["logprob"].to_numpy() - rows["logprob"])


def by_layer(table: pd.DataFrame, *, by: Sequence[str]) -> pd.DataFrame:
    """Return the means of `since_untouched` over pictures: a row a group of `by` and measure.

    Columns `by, measure, value, low, high, n`: of `changed`, a share of answers, the interval is
    exact, of `lost` Student's t, NaN for fewer than two pictures; n counts pictures.

    >>> rows = {"sample": ["1", "2"], "picture": ["a", "b"], "layer": 0, "changed": 0.0,
    ...         "lost": [0.1, 0.3]}
    >>> by_layer(pd.DataFrame(rows), by=["layer"])[["measure", "value", "high"]].round(2).values
    array([['changed', 0.0, 0.84],
           ['lost', 0.2, 1.47]], dtype=object)
    """
    made = []
    for group, rows in table.groupby(list(by), sort=False):
        each = rows.groupby(units(rows))[["changed", "lost"]].mean()
        found = {"changed": estimate(each["changed"], within=(0, 1))}
        found["lost"] = mean_effect(each["lost"])
        made += [(*group, name, e.value, e.low, e.high, e.units) for name, e in found.items()]
    return pd.DataFrame(made, columns=[*by, "measure", "value", "low", "high", "n"])
