"""Intervals against the exact ones where these are known, and against draws where they are not."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import beta, binomtest

from irlib.evidence.bounds import Estimate, estimate, proportion, resolves, units_for
from irlib.evidence.weights import mean_above


@pytest.mark.parametrize("n", [1, 2, 10, 60, 200])
@pytest.mark.parametrize("tail", [0.1, 0.025, 1e-4])
def test_weights_on_zeros_and_ones_are_beta(n, tail):
    for ones in {0, n // 3, n - 1}:
        at = beta.isf(tail, ones + 1, n - ones)
        found = mean_above([1.0, 0.0], at, counts=[ones + 1, n - ones])
        assert found == pytest.approx(tail, rel=2e-4)  # what the integral promises


@pytest.mark.parametrize("kind", ["normal", "flips", "skewed"])
def test_weights_are_what_draws_of_them_give(kind):
    rng = np.random.default_rng(1)
    values = {
        "normal": rng.normal(size=30),
        "flips": rng.choice([-1.0, 0.0, 0.0, 0.0, 0.6, 1.0], 30),
        "skewed": rng.exponential(size=30),
    }[kind]
    drawn = rng.dirichlet(np.ones(30), 40_000) @ values
    for tail in (0.5, 0.9, 0.975, 0.995):
        at = np.quantile(drawn, tail)
        doubt = 4 * math.sqrt(tail * (1 - tail) / 40_000)  # four standard errors of the draws
        assert mean_above(values, at) == pytest.approx(1 - tail, abs=doubt)


def test_many_tables_at_once_are_each_by_itself_and_counts_are_repeats():
    rng = np.random.default_rng(2)
    values, at = rng.normal(size=(3, 4, 9)), rng.normal(scale=0.3, size=(3, 4))
    found = mean_above(values, at)
    alone = [[mean_above(values[i, j], at[i, j]) for j in range(4)] for i in range(3)]
    assert found == pytest.approx(np.array(alone), abs=1e-12)
    twice = mean_above(np.repeat(values, 2, axis=-1), at)
    assert mean_above(values, at, counts=np.full(9, 2)) == pytest.approx(twice, abs=1e-9)


def test_values_on_one_side_leave_no_doubt():
    assert mean_above([0.2, 0.3], 0.1) == 1
    assert mean_above([0.2, 0.3], 0.4) == 0
    assert mean_above([0.2, 0.2], 0.2) == 0  # equal is not above


@pytest.mark.parametrize("side", ["both", "low", "high"])
@pytest.mark.parametrize(("hits", "n"), [(0, 60), (60, 60), (7, 50), (1, 1)])
def test_zeros_and_ones_get_the_exact_interval(hits, n, side):
    found = estimate([1.0] * hits + [0.0] * (n - hits), within=(0, 1), side=side)
    wanted = proportion(hits, n, side=side)
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=1e-6)
    kind = {"both": "two-sided", "low": "greater", "high": "less"}[side]
    known = binomtest(hits, n, alternative=kind).proportion_ci(method="exact")
    assert (wanted.low, wanted.high) == (known.low, known.high)


def test_losses_alone_get_the_exact_upper_end_and_doubt_below():
    found = estimate([1.0] * 3 + [0.0] * 47, step=1)
    assert found.high == pytest.approx(binomtest(3, 50).proportion_ci().high, abs=1e-6)
    assert found.low < 0  # one gain may hide behind three losses


def test_one_flip_either_way_mirrors():
    effects = np.array([1.0, 0, 0, 0, -0.5, 0, 1, 0])
    here, there = estimate(effects, step=1), estimate(-effects, step=1)
    assert (here.low, here.high) == pytest.approx((-there.high, -there.low))


def test_zeros_alone_are_as_wide_as_one_answer_allows():
    for n, step in ((10, 1.0), (50, 1.0), (50, 0.25)):
        found = estimate(np.zeros(n), step=step)
        assert found.high == pytest.approx(step * (1 - 0.025 ** (1 / n)))
        assert found.low == -found.high
        assert resolves(n, step=step) == pytest.approx(found.high)


def test_a_worse_unit_than_a_step_is_what_may_come_again():
    values = [0.0] * 20 + [3.0]
    assert estimate(values, step=1).high == pytest.approx(estimate(values, within=(-1, 3)).high)


def test_the_margin_asked_for_takes_just_that_many_units():
    for margin in (0.01, 0.02, 0.05, 0.1, 0.3):
        n = units_for(margin)
        assert resolves(n) <= margin < resolves(n - 1)
    assert units_for(1.0) == 1


def test_many_units_come_to_the_normal_interval():
    values = np.random.default_rng(0).choice([-1.0, 0.0, 1.0], 4000, p=[0.2, 0.5, 0.3])
    found = estimate(values, step=1)
    half = 1.96 * values.std() / math.sqrt(4000)
    # the added unit moves an end by at most 1/4000, the skew by less
    assert (found.low, found.high) == pytest.approx(
        (values.mean() - half, values.mean() + half), abs=5e-4
    )


@pytest.mark.parametrize("shift", [0.0, 100.0, -3.0])
def test_an_interval_moves_with_its_numbers(shift):
    values = np.random.default_rng(3).random(30)
    still, moved = (estimate(values + s, within=(s, 1 + s)) for s in (0.0, shift))
    assert (moved.low - shift, moved.high - shift) == pytest.approx((still.low, still.high))


def test_a_unit_without_a_number_is_no_unit():
    effects = pd.Series({"a": 0.5, "b": np.nan, "c": 0.0})
    assert estimate(effects, step=1) == estimate([0.5, 0.0], step=1)
    assert estimate(effects, step=1, n=7).n == 7
    assert estimate(effects, step=1, n=7).units == 2


def test_an_estimate_is_told_in_a_line():
    assert str(Estimate(0.12, 0.031, 0.2, 80, 80)) == "0.12 [0.031, 0.2], n = 80"
    assert str(Estimate(0.12, 0.031, 0.2, 80, 60)) == "0.12 [0.031, 0.2], n = 80 on 60 units"


def test_a_number_that_is_none_has_no_probability():
    for wrong in (np.nan, np.inf):
        with pytest.raises(ValueError, match="1 of 2 numbers missing or infinite"):
            mean_above([0.0, wrong], 0.5)


def test_what_gives_no_interval_is_refused():
    for none in ([], [np.nan], [[1.0]], [np.inf, 0.0], 3.0):
        with pytest.raises(ValueError, match="no finite number a unit"):
            estimate(none, step=1)
    with pytest.raises(ValueError, match="neither step and within"):
        estimate([0.0])
    with pytest.raises(ValueError, match="both of step and within"):
        estimate([0.0], step=1, within=(0, 1))
    with pytest.raises(ValueError, match=r"within \(0, 1\), found 0 to 2"):
        estimate([0.0, 2.0], within=(0, 1))
    with pytest.raises(ValueError, match="the least first"):
        estimate([0.0, 2.0], within=(1, 0))
    with pytest.raises(ValueError, match="side 'left'"):
        estimate([0.0], step=1, side="left")
    with pytest.raises(ValueError, match="side 'left'"):
        proportion(0, 1, side="left")
    for step in (0, -1, True, math.inf, math.nan):
        with pytest.raises(ValueError, match="step="):
            estimate([0.0], step=step)
    with pytest.raises(ValueError, match="hits=3"):
        proportion(3, 2)
