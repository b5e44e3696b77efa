"""The change of a score at one layer, against the plain difference and the normal interval."""

import numpy as np
import pytest
from swept import by_rate, make_table

from irlib.evidence.bounds import estimate, proportion, resolves
from irlib.evidence.change import change_at


def test_change_of_an_accuracy_is_the_mean_difference_with_its_paired_interval():
    draw = np.random.default_rng(0)
    whole = (draw.random(400) < 0.9).astype(float)
    cut = np.where(draw.random(400) < 0.1, 1 - whole, whole)
    change = change_at(make_table([cut, whole]), layer=0)
    gain = cut - whole
    half = 1.96 * gain.std() / 20
    assert (change.baseline, change.truncated) == pytest.approx((whole.mean(), cut.mean()))
    assert change.gain == pytest.approx(gain.mean())
    # the added unit moves an end by up to 1/400, the skew by as much
    assert change.low == pytest.approx(gain.mean() - half, abs=0.005)
    assert change.high == pytest.approx(gain.mean() + half, abs=0.005)
    exact = estimate(gain, step=1)
    assert (change.low, change.high) == pytest.approx((exact.low, exact.high))
    assert (change.n, change.layer, change.metric) == (400, 0, "TextVQA Acc")


def test_the_untouched_score_has_its_exact_interval():
    whole = np.repeat([1.0, 0.0], [47, 3])
    change = change_at(make_table([whole, whole]), layer=0)
    exact = proportion(47, 50)
    assert (change.baseline_low, change.baseline_high) == pytest.approx((exact.low, exact.high))
    sure = change_at(make_table([whole, np.ones(50)]), layer=0)
    assert (sure.baseline, sure.baseline_high) == (1, 1)
    assert sure.baseline_low == pytest.approx(1 - resolves(50))


def test_change_is_pooled_and_a_fall_of_hallucination_is_a_gain():
    mentions = np.array([[2.0, 8.0] * 10, [2.0, 8.0] * 10])
    hallucinated = np.array([[0.0, 1.0] * 10, [2.0, 1.0] * 10])
    table = make_table(
        hallucinated == 0, task="chair", mentions=mentions, hallucinated=hallucinated,
        found=mentions - hallucinated, objects=mentions,
    )  # fmt: skip
    change = change_at(table, layer=0)
    assert (change.baseline, change.truncated, change.gain) == pytest.approx((0.3, 0.1, 0.2))
    assert 0 < change.low < 0.2 < change.high
    assert 0 < change.baseline_low < 0.3 < change.baseline_high < 1
    # per caption it is another figure: all have an invented object, then half of them
    assert change_at(table, layer=0, metric="CHAIRs").gain == pytest.approx(0.5)


def test_change_counts_samples_with_a_picture_where_the_metric_does():
    scores = np.ones((2, 30))
    scores[0, :5] = 0
    has_image = np.tile(np.arange(30) < 20, (2, 1))
    table = make_table(scores, task="scienceqa", has_image=has_image)
    assert change_at(table, layer=0).n == 20
    assert change_at(table, layer=0).gain == pytest.approx(-5 / 20)
    assert change_at(table, layer=0, metric="SQA Acc").gain == pytest.approx(-5 / 30)


def test_change_at_the_untouched_model_is_none():
    change = change_at(make_table(by_rate([0.2, 0.8])), layer=1)
    assert (change.gain, change.low, change.high) == (0, 0, 0)


def test_change_refuses_a_layer_that_was_not_swept():
    with pytest.raises(ValueError, match=r"at layer 7, found the layers \[0, 1\]"):
        change_at(make_table(by_rate([0.2, 0.8])), layer=7)
    with pytest.raises(ValueError, match="metric 'CHAIRi' of textvqa"):
        change_at(make_table(by_rate([0.2, 0.8])), layer=0, metric="CHAIRi")


def test_no_flip_among_few_questions_leaves_doubt():
    change = change_at(make_table([[1.0] * 60, [1.0] * 60]), layer=0)
    assert (change.gain, change.low, change.high) == pytest.approx((0, -resolves(60), resolves(60)))


def test_change_counts_pictures():
    scores = np.ones((2, 40))
    scores[0, :4] = 0
    table = make_table(scores)
    table["picture"] = table["sample"].map({f"s{i:04}": f"p{i // 4}" for i in range(40)})
    change = change_at(table, layer=0)  # one picture of ten lost, with its four questions
    alone = estimate([-1.0] + [0.0] * 9, step=0.25)
    assert (change.n, change.units, change.gain) == (40, 10, pytest.approx(-0.1))
    assert (change.low, change.high) == pytest.approx((alone.low, alone.high))


@pytest.mark.parametrize("confidence", [95, -1, 0, True, "0.95", float("nan")])
def test_a_confidence_that_is_none_is_refused(confidence):
    with pytest.raises(ValueError, match=r"confidence=.*; give a .* above 0 and at most 1"):
        change_at(make_table(by_rate([0.2, 0.8])), layer=0, confidence=confidence)


def test_a_layer_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"layer=1.0, found a float"):
        change_at(make_table(by_rate([0.2, 0.8])), layer=1.0)


def test_near_ties_and_the_order_of_rows_change_nothing():
    table = make_table(by_rate([0.2, 0.6, 0.8]))
    other = table.assign(near_tie=np.arange(len(table)) % 2 == 0).sample(frac=1, random_state=3)
    assert change_at(other, layer=1) == change_at(table, layer=1)
