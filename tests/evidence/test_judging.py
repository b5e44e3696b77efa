"""Verdicts: the interval decides, and says so."""

import numpy as np
import pytest

from irlib.evidence.judging import judge, verdict


@pytest.mark.parametrize(
    ("expect", "low", "high", "outcome"),
    [
        ("positive", 0.1, 0.2, "agrees"),
        ("positive", -0.2, -0.1, "disagrees"),
        ("positive", -0.1, 0.1, "cannot be told"),
        ("negative", -0.2, -0.1, "agrees"),
        ("negative", 0.1, 0.2, "disagrees"),
        ("negative", -0.1, 0.1, "cannot be told"),
        ("zero", -0.01, 0.01, "agrees"),
        ("zero", 0.06, 0.1, "disagrees"),
        ("zero", 0.01, 0.1, "cannot be told"),
    ],
)
def test_the_interval_decides(expect, low, high, outcome):
    margin = 0.05 if expect == "zero" else 0
    found = judge("c", value=0, low=low, high=high, n=10, expect=expect, margin=margin)
    assert found.outcome == outcome


def test_the_interval_of_a_mean_is_near_its_closed_form():
    effect = np.random.default_rng(0).normal(0.3, 1, 400)
    found = verdict("c", effect)
    half = 1.96 * effect.std() / 20
    assert found.value == pytest.approx(effect.mean())
    # 2000 resamples put a percentile within a few per cent of the interval's width
    assert found.low == pytest.approx(effect.mean() - half, abs=0.02)
    assert found.high == pytest.approx(effect.mean() + half, abs=0.02)


def test_a_handful_of_samples_tells_nothing_however_equal_they_are():
    assert verdict("c", [0.5] * 9).outcome == "cannot be told"
    assert verdict("c", [-0.5] * 9).outcome == "cannot be told"
    assert verdict("c", [0.5] * 10).outcome == "agrees"
    assert verdict("c", [0.5] * 9 + [np.nan] * 9).outcome == "cannot be told"


def test_rows_without_an_effect_are_left_out_of_n():
    assert verdict("c", [1.0, np.nan, 2.0]).n == 2


def test_the_same_seed_gives_the_same_verdict():
    effect = np.random.default_rng(0).normal(size=30)
    assert verdict("c", effect, seed=3) == verdict("c", effect, seed=3)
    assert verdict("c", effect, seed=3) != verdict("c", effect, seed=4)


def test_a_notebook_shows_claim_outcome_value_interval_and_rows():
    shown = verdict("the share falls", [0.5] * 12)._repr_markdown_()
    assert shown == "**agrees**: the share falls (0.5, 95 % interval 0.5 to 0.5, n = 12)"


@pytest.mark.parametrize(
    ("effect", "options", "message"),
    [
        ([], {}, "no finite effect in an array of shape"),
        ([np.nan], {}, "no finite effect"),
        ([1.0], {"expect": "up"}, "knows positive, negative, zero"),
        ([1.0], {"margin": -1}, "margins from 0 up"),
    ],
)
def test_a_claim_that_cannot_be_judged_is_refused(effect, options, message):
    with pytest.raises(ValueError, match=message):
        verdict("c", effect, **options)
