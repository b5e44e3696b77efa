"""Does a run agree with a claim of the paper? A sentence, a number and its interval."""

from dataclasses import dataclass

import numpy as np

from irlib import doors

EXPECTATIONS = ("positive", "negative", "zero")
FEWEST = 10
"""Samples below which nothing can be told: a bootstrap of a handful knows no doubt."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A claim and what the numbers say of it; a notebook shows it as one line."""

    claim: str
    outcome: str
    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        interval = f"{self.value:.3g}, 95 % interval {self.low:.3g} to {self.high:.3g}"
        return f"{self.outcome}: {self.claim} ({interval}, n = {self.n})"

    def _repr_markdown_(self) -> str:
        return f"**{self.outcome}**" + str(self).removeprefix(self.outcome)


def verdict(
    claim: str,
    effect,
    *,
    expect: str = "positive",
    margin: float = 0.0,
    statistic=np.mean,
    confidence: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> Verdict:
    """Return whether per-sample effects bear a claim out, by a bootstrap over samples.

    `effect` is one number a sample, `[sample]`, in the direction in which the claim is worded;
    NaN marks a sample that has none. `statistic(values, axis=...)` pools them. With `[low, high]`
    its percentile interval: "positive" agrees when low > margin and disagrees when high < margin;
    "negative" mirrors it (below -margin); "zero" agrees when the interval lies within
    [-margin, margin] and disagrees when it lies outside. Everything else cannot be told, nor can
    anything from fewer than ten samples. Raises ValueError for an unknown expectation, a negative
    margin, or no effect at all.

    >>> verdict("the share falls", [0.31, 0.28, 0.35, 0.30] * 3, expect="positive").outcome
    'agrees'
    >>> verdict("the share falls", [0.31, -0.28, 0.35, -0.30] * 3).outcome
    'cannot be told'
    >>> verdict("the share falls", [0.31, 0.28, 0.35, 0.30]).outcome  # too few
    'cannot be told'
    """
    n_resamples = doors.count("n_resamples", n_resamples, least=1)
    seed = doors.count("seed", seed)
    values = np.asarray(effect, dtype=float)
    if values.ndim != 1 or not np.isfinite(values).any():
        raise ValueError(
            f"verdict was asked about {claim!r}; found no finite effect in an array of shape "
            f"{values.shape}; pass one number a sample."
        )
    values = values[~np.isnan(values)]
    rows = np.random.default_rng(seed).integers(0, len(values), (n_resamples, len(values)))
    tail = (1 - confidence) / 2
    low, high = np.quantile(statistic(values[rows], axis=-1), [tail, 1 - tail])
    value = statistic(values, axis=-1)
    return judge(
        claim, value=value, low=low, high=high, n=len(values), expect=expect, margin=margin
    )


def judge(
    claim: str,
    *,
    value: float,
    low: float,
    high: float,
    n: int,
    expect: str = "positive",
    margin: float = 0.0,
) -> Verdict:
    """Return the verdict on a figure whose interval is known already, by the rule of `verdict`.

    >>> judge("cut at the cliff costs nothing", value=0.0, low=-0.004, high=0.006, n=500,
    ...       expect="zero", margin=0.01).outcome
    'agrees'
    """
    if expect not in EXPECTATIONS or margin < 0:
        raise ValueError(
            f"verdict was asked to expect {expect!r} with margin {margin}; it knows "
            f"{', '.join(EXPECTATIONS)} and margins from 0 up; choose one of them."
        )
    if expect == "negative":
        agrees, disagrees = high < -margin, low > -margin
    elif expect == "positive":
        agrees, disagrees = low > margin, high < margin
    else:
        agrees, disagrees = -margin <= low and high <= margin, low > margin or high < -margin
    known = "agrees" if agrees else "disagrees" if disagrees else "cannot be told"
    outcome = known if n >= FEWEST else "cannot be told"
    numbers = {"value": float(value), "low": float(low), "high": float(high), "n": int(n)}
    return Verdict(claim=claim, outcome=outcome, **numbers)
