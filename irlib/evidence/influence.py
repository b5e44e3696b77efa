"""What each unit contributes to a pooled score: a number a unit, whose mean is the score.

F1, CHAIRi and their like are ratios of two sums, so a question moves them by what it adds above and
below the line. A unit's contribution is how fast the score would move if that unit counted more
(its influence function: Hampel 1974; the infinitesimal jackknife), shifted so that their mean is
the score itself; with it an interval for a mean serves for a ratio.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

Counts = Mapping[str, np.ndarray]


def _all(counts: Counts) -> np.ndarray:
    return np.ones_like(counts["score"])


def _score(counts: Counts) -> np.ndarray:
    return counts["score"]


def _hits(counts: Counts) -> np.ndarray:
    return counts["said_yes"] * counts["is_yes"]


_PARTS: Mapping[str, tuple[Callable, Callable]] = MappingProxyType({
    "POPE Acc": (_score, _all),
    "POPE P": (_hits, lambda c: c["said_yes"]),
    "POPE R": (_hits, lambda c: c["is_yes"]),
    "POPE F1": (lambda c: 2 * _hits(c), lambda c: c["said_yes"] + c["is_yes"]),
    "POPE yes": (lambda c: c["said_yes"], _all),
    "TextVQA Acc": (_score, _all),
    "SQA IMG Acc": (lambda c: c["score"] * c["has_image"], lambda c: c["has_image"]),
    "SQA Acc": (_score, _all),
    "CHAIRs": (lambda c: np.asarray(c["hallucinated"] > 0, float), _all),
    "CHAIRi": (lambda c: c["hallucinated"], lambda c: c["mentions"]),
    "CHAIR recall": (lambda c: c["found"], lambda c: c["objects"]),
    "Own score": (_score, _all),
})  # fmt: skip
"""Each score of `irlib.scores` as what stands above and below the line, per answer."""


def contributions(metric: str, counts: Counts, *, unit: np.ndarray | None = None) -> np.ndarray:
    """The contributions `[..., unit]` to a metric, from counts `[..., answer]`; their mean is it.

    `unit` `[answer]` numbers each answer's unit from 0; without it each is its own. A score whose
    lower sum is 0 is 0, as `irlib.scores` has it. Raises ValueError for an unknown metric.

    >>> counts = {"hallucinated": np.array([1.0, 0.0]), "mentions": np.array([2.0, 2.0])}
    >>> contributions("CHAIRi", counts).tolist()  # half of two, none of two: 1/4 in all
    [0.5, 0.0]
    """
    above, below = parts(metric, counts, unit=unit)
    total = below.sum(-1, keepdims=True)
    some = np.where(total == 0, 1.0, total)
    ratio = np.where(total == 0, 0.0, above.sum(-1, keepdims=True) / some)
    return ratio + (above - ratio * below) * above.shape[-1] / some


def step(metric: str, counts: Counts, *, unit: np.ndarray | None = None) -> np.ndarray:
    """What one answer more or less does to the contribution of its unit, at most: `[...]`.

    For a plain accuracy 1 over the answers a unit; for CHAIRi and recall the answer counts as one
    object, for F1 a yes that was right becomes a no.
    """
    above, below = parts(metric, counts, unit=unit)
    mean = below.mean(-1)
    some = np.where(mean == 0, 1.0, mean)
    swing = 2 - above.mean(-1) / some if metric == "POPE F1" else 1.0
    return swing / some


def counted(metric: str, counts: Counts) -> np.ndarray:
    """Which answers `[answer]` a metric counts, from counts `[layer, answer]`: for "SQA IMG Acc"
    those with a picture."""
    if metric == "SQA IMG Acc":
        return counts["has_image"][0] > 0
    return np.ones(counts["score"].shape[-1], bool)


def parts(
    metric: str, counts: Counts, *, unit: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """What each unit adds above and below a metric's line, `[..., unit]` each.

    Raises ValueError for an unknown metric.

    >>> above, below = parts("TextVQA Acc", {"score": np.array([1.0, 0.3])})
    >>> above.tolist(), below.tolist()
    ([1.0, 0.3], [1.0, 1.0])
    """
    if metric not in _PARTS:
        raise ValueError(f"asked for the metric {metric!r}, found {list(_PARTS)}; take one of them")
    values = [np.asarray(part(counts), float) for part in _PARTS[metric]]
    if unit is None:
        return values[0], values[1]
    member = unit[:, None] == np.arange(unit.max() + 1)  # [answer, unit]
    return values[0] @ member, values[1] @ member
