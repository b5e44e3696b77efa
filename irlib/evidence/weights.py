"""How sure a mean is, if its units could as well have counted a little more or less each."""

import numpy as np

_STEPS, _REACH = 200, 6.0  # of the integral: its last node lies at sinh(6) = 202 widths


def mean_above(
    values: np.ndarray, at: float | np.ndarray, *, counts: np.ndarray | None = None
) -> np.ndarray:
    """The probability `[...]` that a randomly weighted mean of `values [..., unit]` exceeds `at`.

    The weights are uniform over all that add up to 1 (Dirichlet, one each: Rubin's Bayesian
    bootstrap, 1981), so that of zeros and ones the mean is Beta distributed. With `counts` a value
    stands for that many units. Nothing is drawn: it is the chance that a sum of Gamma variables
    with factors `value - at` is positive, an integral of its moment generating function through
    the saddle point, right to 2e-4 of a tail's probability for up to 9,000 units. Raises ValueError
    for a number that is none.

    >>> round(float(mean_above([1.0, 0.0, 0.0, 0.0], 0.5)), 6)  # Beta(1, 3) above a half
    0.125
    """
    factors = np.asarray(values, float) - np.asarray(at, float)[..., None]
    if not np.isfinite(factors).all():
        raise ValueError(
            f"asked how sure a mean is, found {int((~np.isfinite(factors)).sum())} of "
            f"{factors.size} numbers missing or infinite; leave these units out"
        )
    shapes = np.ones(1) if counts is None else np.asarray(counts, float)
    factors, shapes = np.broadcast_arrays(factors, shapes)
    factors = np.where(shapes > 0, factors, 0.0)  # what does not occur weighs nothing
    most, least = factors.max(-1), factors.min(-1)
    mixed = (most > 0) & (least < 0)
    found = np.where(most > 0, 1.0, 0.0)
    if mixed.any():
        factors, shapes = factors[mixed], shapes[mixed]
        turn = np.where((factors * shapes).sum(-1) > 0, -1, 1)  # the smaller tail is the exact one
        factors *= turn[:, None]
        tail = _positive(factors / factors.max(-1, keepdims=True), shapes)
        found[mixed] = np.where(turn < 0, 1 - tail, tail)
    return found


def _positive(factors, shapes):
    """P(sum of factor x Gamma(shape) > 0), `[case]`, for factors `[case, unit]` of at most 1."""
    low, high = np.zeros(len(factors)), np.ones(len(factors))
    for _ in range(24):  # any line in 0..1 gives the same integral; the saddle's does not swing
        line = (low + high) / 2
        slope = (shapes * factors / (1 - line[:, None] * factors)).sum(-1) - 1 / line
        low, high = np.where(slope < 0, line, low), np.where(slope < 0, high, line)
    line = (low + high) / 2
    curve = (shapes * (factors / (1 - line[:, None] * factors)) ** 2).sum(-1) + 1 / line**2
    width, step, total = 1 / np.sqrt(curve), _REACH / _STEPS, np.zeros(len(factors))
    for node in range(_STEPS + 1):
        spot = line + 1j * width * np.sinh(node * step)
        turned = (shapes * np.log(1 - spot[:, None] * factors)).sum(-1) + np.log(spot)
        part = np.exp(-turned).real * width * np.cosh(node * step)
        total += part * (step / 2 if node == 0 else step)
    return np.clip(total / np.pi, 0.0, 1.0)
