"""Sweeps whose cliff is known: drawn by chance from a curve, or from a real sweep as a population.

A drawn sweep is told by how many units behave how: `kinds` of cost and their `counts`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from irlib.evidence.influence import parts
from irlib.scores import LOWER_IS_BETTER

FLIPS = np.array([-1.0, 0.0, 1.0])  # an answer gained, as before, lost


@dataclass(frozen=True)
class Drawn:
    """One layer of many drawn sweeps, each different one once: `kinds` `[row or 1, kind]` of cost
    of a unit, `counts` `[row, kind]` of units, `step` `[row]`, and `row` `[draw]` of each draw."""

    kinds: np.ndarray
    counts: np.ndarray
    step: np.ndarray
    row: np.ndarray


def curves(top: float, floor: float) -> Mapping[str, np.ndarray]:
    """What is lost by layer `[layer]` of thirteen, the last one untouched, in shapes as they come.

    `top` and `floor` are the accuracy of the untouched model and without the image.
    """
    layers, span = np.arange(13), top - floor
    slow = [0.30, 0.25, 0.20, 0.15, 0.10, 0.07, 0.05, 0.035, 0.025, 0.016, 0.008, 0.004, 0]
    dip = np.where(layers < 3, span, 0.0)
    dip[7:9] = 0.02, 0.04
    found = {
        "step at 8": np.where(layers < 8, span, 0.0),
        "step at 2": np.where(layers < 2, span, 0.0),
        "logistic": span * (1 - 1 / (1 + np.exp((6 - layers) / 0.7))),
        "slow slope": np.minimum(slow, span),
        "dip at 8": dip,
        "2 points better": np.where(layers < 4, span, -0.02),
        "3 points to the end": np.where(layers < 8, span, 0.03),
    }
    return {name: np.append(lost[:-1], 0.0) for name, lost in found.items()}


def edge(layers: int, cliff: int, margin: float) -> np.ndarray:
    """What is lost by layer, just more than the margin at the layer before the cliff: the hardest
    case for an upper limit."""
    lost = np.where(np.arange(layers + 1) < cliff - 1, 0.3, 0.0)
    lost[cliff - 1] = margin + 0.002
    return lost


def by_chance(
    rng: np.random.Generator, chance: np.ndarray, *, n: int, rho: float, draws: int
) -> list[Drawn]:
    """Each layer of `draws` sweeps of n questions, right with this `chance` `[layer]`.

    A question's ease is normal and moves by a correlation of `rho` from layer to layer, so that
    deep layers answer nearly as the untouched model.
    """
    cut = norm.ppf(np.clip(chance, 1e-9, 1 - 1e-9)).astype(np.float32)
    lost, gained = (np.zeros((draws, len(chance) - 1), int) for _ in range(2))
    for rows in _chunks(draws, n):
        ease = rng.standard_normal((rows.stop - rows.start, n), dtype=np.float32)
        whole = ease < cut[-1]
        for layer in range(len(chance) - 2, -1, -1):
            fresh = rng.standard_normal(ease.shape, dtype=np.float32)
            ease = np.float32(rho) * ease + np.float32(np.sqrt(1 - rho**2)) * fresh
            right = ease < cut[layer]
            lost[rows, layer] = (whole & ~right).sum(-1)
            gained[rows, layer] = (right & ~whole).sum(-1)
    found = []
    for layer in range(len(chance) - 1):
        told, row = np.unique(gained[:, layer] * (n + 1) + lost[:, layer], return_inverse=True)
        up, down = np.divmod(told, n + 1)
        counts = np.stack([up, n - up - down, down], axis=-1)
        found.append(Drawn(FLIPS[None], counts, np.ones(len(told)), row))
    return found


def from_population(
    rng: np.random.Generator,
    counts: Mapping[str, np.ndarray],
    *,
    metric: str,
    unit: np.ndarray | None,
    n: int,
    draws: int,
) -> list[Drawn]:
    """Each layer of `draws` sweeps of n units, drawn from a population `{name: [layer, answer]}`.

    The contributions are those of `irlib.evidence.influence`, once a kind of unit.
    """
    above, below = parts(metric, counts, unit=unit)
    size = above.shape[1]
    drawn = rng.multinomial(n, np.full(size, 1 / size), draws)
    sign, found = 1 if metric in LOWER_IS_BETTER else -1, []
    for layer in range(len(above) - 1):
        both = np.stack([above[layer], below[layer], above[-1], below[-1]])
        kinds, which = np.unique(both, axis=1, return_inverse=True)
        times = drawn @ (which.ravel()[:, None] == np.arange(kinds.shape[1]))
        times, row = np.unique(times, axis=0, return_inverse=True)
        here, there = (_contributed(kinds[i], kinds[i + 1], times) for i in (0, 2))
        _, ratio, mean = there
        swing = 2 - ratio if metric == "POPE F1" else np.ones_like(ratio)
        found.append(Drawn(sign * (here[0] - there[0]), times, swing / mean, row.ravel()))
    return found


def _contributed(above, below, times):
    """Contributions `[draw, kind]` of units drawn so many `times`, their ratio and mean below."""
    total = times @ below
    some = np.where(total == 0, 1.0, total)
    ratio = times @ above / some
    parts = ratio[:, None] + (above - ratio[:, None] * below) * (times.sum(-1) / some)[:, None]
    return parts, ratio, some / times.sum(-1)


def _chunks(draws: int, n: int) -> Iterator[slice]:
    at = max(1, 400_000 // n)
    for start in range(0, draws, at):
        yield slice(start, min(start + at, draws))
