"""Intervals that know doubt: of a mean over units, and of a proportion, at small n and at 0 of n.

An interval is the spread of the mean when each unit could have counted a little more or less
(weights), with one unit more, as bad as a unit can be: at the top for the upper end, at the bottom
for the lower. So 0 of n never has an interval without width; for zeros and ones it is Clopper and
Pearson's exact one (1934). For means of other numbers it is Gaffke's (2005; Learned-Miller and
Thomas, arXiv:1905.06208): it is known to cover less than it promises for no distribution, which is
proven for few. Bonett and Price's (2012), with a pseudo-unit either way, is shorter and clears too
much where answers flip one way (benchmarks/coverage.py).
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.stats import binomtest

from irlib import doors
from irlib.evidence.weights import mean_above

SIDES = ("both", "low", "high")


@dataclass(frozen=True)
class Estimate:
    """A `value` and its interval `low`..`high`, from `n` answers about `units` pictures."""

    value: float
    low: float
    high: float
    n: int
    units: int

    def __str__(self) -> str:
        told = f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"
        return f"{told}, n = {self.n}" + f" on {self.units} units" * (self.units != self.n)


def estimate(
    effects,
    *,
    step: float | None = None,
    within: tuple[float, float] | None = None,
    n: int | None = None,
    confidence: float = 0.95,
    side: str = "both",
) -> Estimate:
    """The mean of `effects`, one number a unit, and its interval; NaN says the unit has none.

    Say what a unit that was not seen could be: `within` are the least and the most that a number
    can be, or `step` is what one answer more or less does to a unit's number (1 for a difference of
    one answer, 1/k for the mean of k). With `within` the interval covers what it promises; with
    `step` the added unit is the worst of those seen, at least one step from zero: the same where a
    unit is one answer, measured but not proven elsewhere (a picture whose answers all flip at once
    is reckoned with only when one was seen). A `side` of "low" or "high"
    puts all doubt there; the other end is then that of `within`, or infinite. `n` are the answers
    behind the units. Raises ValueError where no unit has a number, or one lies outside `within`.

    >>> print(estimate([0.0] * 50, step=1))
    0 [-0.0711, 0.0711], n = 50
    >>> print(estimate([1.0, 1.0, 0.0, float("nan"), 1.0], within=(0, 1)))
    0.75 [0.194, 0.994], n = 4
    """
    values, ends = _values(effects), _ends(step, within)
    confidence = doors.number("confidence", confidence, above=True, most=1)
    if side not in SIDES:
        raise ValueError(f"asked for the side {side!r} of an interval; take one of {SIDES}")
    if within and (values.min() < ends[0] or values.max() > ends[1]):
        raise ValueError(
            f"asked for the mean of numbers within {within}, found {values.min():g} to "
            f"{values.max():g}; give the range that they can have"
        )
    alpha = (1 - confidence) / (2 if side == "both" else 1)
    low, high = within or (-math.inf, math.inf)
    if side != "high":
        low = -_upper(-values, -ends[0], alpha)
    if side != "low":
        high = _upper(values, ends[1], alpha)
    return Estimate(
        value=float(values.mean()), low=low, high=high, units=len(values),
        n=len(values) if n is None else doors.count("n", n, least=1),
    )  # fmt: skip


def proportion(hits: int, n: int, *, confidence: float = 0.95, side: str = "both") -> Estimate:
    """The share of `hits` among `n` and its exact interval (Clopper and Pearson 1934, of scipy).

    It is what `estimate` gives for as many ones and zeros within 0..1.

    >>> print(proportion(0, 60))
    0 [0, 0.0596], n = 60
    """
    n = doors.count("n", n, least=1)
    hits = doors.count("hits", hits, most=n)
    confidence = doors.number("confidence", confidence, above=True, most=1)
    kinds = dict(zip(SIDES, ("two-sided", "greater", "less"), strict=True))
    if side not in kinds:
        raise ValueError(f"asked for the side {side!r} of an interval; take one of {SIDES}")
    tested = binomtest(hits, n, alternative=kinds[side])
    found = tested.proportion_ci(confidence_level=confidence, method="exact")
    return Estimate(value=hits / n, low=float(found.low), high=float(found.high), n=n, units=n)


def resolves(units: int, *, step: float = 1.0, confidence: float = 0.95) -> float:
    """The smallest loss that so many units can rule out, when not one of them shows any.

    That is the upper end of `estimate` of that many zeros.

    >>> round(resolves(50), 4), round(resolves(300), 4)
    (0.0711, 0.0122)
    """
    units, step = doors.count("units", units, least=1), doors.number("step", step, above=True)
    confidence = doors.number("confidence", confidence, above=True, most=1)
    return step * (1 - ((1 - confidence) / 2) ** (1 / units))


def units_for(margin: float, *, step: float = 1.0, confidence: float = 0.95) -> int:
    """How many units it takes to rule out a loss of `margin`, when not one shows any.

    >>> [units_for(margin) for margin in (0.01, 0.02, 0.05, 0.1)]
    [368, 183, 72, 36]
    """
    step = doors.number("step", step, above=True)
    margin = doors.number("margin", margin, above=True, most=step)
    confidence = doors.number("confidence", confidence, above=True, most=1 - 1e-9)
    if margin == step:
        return 1
    return math.ceil(math.log((1 - confidence) / 2) / math.log1p(-margin / step))


def _upper(values, end, alpha):
    """The mean that is exceeded with probability `alpha`, one unit at `end` or above added."""
    values = np.append(values, max(end, values.max()))
    kinds, counts = np.unique(values, return_counts=True)
    low, high = float(kinds[0]), float(kinds[-1])
    if low == high or alpha == 0:
        return high
    span = high - low
    found = brentq(
        lambda at: float(mean_above((kinds - low) / span, at, counts=counts)) - alpha, 0, 1,
        xtol=1e-12,
    )  # fmt: skip
    return low + span * found


def _values(effects):
    values = np.asarray(effects, float)
    if values.ndim != 1 or np.isinf(values).any() or np.isnan(values).all():
        raise ValueError(
            f"asked for the mean of an array of shape {values.shape}, found no finite number a "
            "unit in it; give one number a unit, NaN where a unit has none"
        )
    return values[~np.isnan(values)]


def _ends(step, within):
    if (step is None) == (within is None):
        raise ValueError(
            "asked for an interval, found "
            f"{'neither' if step is None else 'both of'} step and within; say what one answer does "
            "to a unit's number, or the least and the most that it can be"
        )
    if within is None:
        step = doors.number("step", step, above=True)
        return -step, step
    low, high = map(float, within)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(
            f"asked for numbers within {within}; give two finite ones, the least first"
        )
    return low, high
