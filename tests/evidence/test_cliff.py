"""The cliff's reading and its certified limits: a loop and exact binomials as oracles."""

import numpy as np
import pandas as pd
import pytest
from swept import by_rate, make_table

from irlib.evidence.bounds import estimate, resolves
from irlib.evidence.cliff import certify, cliff_layer
from irlib.scores import pooled


def test_cliff_is_the_smallest_layer_from_which_on_all_stay_within_the_margin():
    cliff = cliff_layer(make_table(by_rate([0.2, 0.8, 0.5, 0.79, 0.81, 0.8])), margin=0.01)
    assert (cliff.layer, cliff.baseline, cliff.at_cliff, cliff.n) == (3, 0.8, 0.79, 100)
    assert cliff.metric == "TextVQA Acc"


def test_margin_is_five_points_unless_told_otherwise():
    assert cliff_layer(make_table(by_rate([0.2, 0.74, 0.8]))).layer == 2
    assert cliff_layer(make_table(by_rate([0.2, 0.75, 0.8]))).layer == 1
    assert cliff_layer(make_table(by_rate([0.2, 0.8]))).margin == 0.05


def test_margin_counts_a_difference_of_just_as_much():
    table = make_table(by_rate([0.2, 0.75, 0.8]))
    assert cliff_layer(table, margin=0.05).layer == 1
    assert cliff_layer(table, margin=0.04).layer == 2


def test_better_than_the_baseline_is_within():
    assert cliff_layer(make_table(by_rate([0.2, 0.9, 0.8]))).layer == 1


def test_baselines_own_layer_when_no_other_qualifies():
    cliff = cliff_layer(make_table(by_rate([0.2, 0.3, 0.8])))
    assert cliff.layer == 2
    assert cliff.at_cliff == cliff.baseline


def test_lower_is_better_for_hallucination():
    mentions = np.full((3, 50), 4.0)
    hallucinated = np.stack([np.full(50, 2.0), np.zeros(50), np.full(50, 1.0)])
    table = make_table(
        hallucinated == 0, task="chair", mentions=mentions, hallucinated=hallucinated,
        found=mentions - hallucinated, objects=np.full((3, 50), 5.0),
    )  # fmt: skip
    cliff = cliff_layer(table)
    assert (cliff.metric, cliff.layer, cliff.baseline, cliff.at_cliff) == ("CHAIRi", 1, 0.25, 0.0)
    assert cliff_layer(table, metric="CHAIR recall").layer == 1


def test_metric_is_pooled_and_no_mean_of_rows():
    rng = np.random.default_rng(0)
    is_yes = np.tile(rng.integers(2, size=60), (3, 1))
    said = np.stack([np.ones(60), rng.integers(2, size=60), is_yes[0]])
    table = make_table(said == is_yes, task="pope", said_yes=said, is_yes=is_yes)
    cliff = cliff_layer(table, metric="POPE F1", margin=0.4)
    counts = {"score": said == is_yes, "said_yes": said, "is_yes": is_yes}
    f1 = pooled("pope", {k: np.asarray(v, float) for k, v in counts.items()})["POPE F1"]
    assert cliff.baseline == f1[-1] == 1.0
    assert cliff.at_cliff == f1[cliff.layer]


# certified limits


def naive(scores, *, margin, alpha=0.025):
    """Oracle: a loop over layers from the deepest up, each by the interval of its own costs."""
    cost = scores[-1] - scores[:-1]
    high = len(cost)
    while high > 0 and estimate(cost[high - 1], step=1, confidence=1 - 2 * alpha).high <= margin:
        high -= 1
    low = 0
    for layer, one in enumerate(cost):
        if estimate(one, step=1, confidence=1 - 2 * alpha / len(cost)).low > margin:
            low = layer + 1
    return low, high


def noisy(n=200, seed=5):
    """Scores that rise over eight layers, each sample by chance but never lost again."""
    rng = np.random.default_rng(seed)
    ease = rng.random(n)
    rates = [0.2, 0.5, 0.62, 0.75, 0.78, 0.84, 0.85, 0.86]
    return np.array([(ease < rate) ^ (rng.random(n) < 0.01) for rate in rates], float)


@pytest.mark.parametrize("margin", [0.02, 0.05, 0.1])
@pytest.mark.parametrize("seed", range(4))
def test_limits_are_those_of_a_loop_over_layers(margin, seed):
    scores = noisy(seed=seed)
    found = cliff_layer(make_table(scores), margin=margin)
    assert (found.low, found.high) == naive(scores, margin=margin)
    assert found.low <= found.layer <= found.high


def test_limits_widen_with_confidence():
    sure, unsure = (cliff_layer(make_table(noisy()), confidence=c) for c in (0.999, 0.5))
    assert sure.low < unsure.low <= unsure.high < sure.high
    assert sure.layer == unsure.layer


@pytest.mark.parametrize(("n", "high"), [(71, 3), (72, 1)])
def test_a_margin_takes_as_many_flip_free_questions_as_the_exact_binomial(n, high):
    """(1 - .05)^72 < .025 < (1 - .05)^71: with fewer, no layer but the untouched one is clear."""
    found = cliff_layer(make_table(by_rate([0, 1, 1, 1], n)), margin=0.05)
    assert (found.low, found.layer, found.high) == (1, 1, high)
    assert (found.resolves <= 0.05) == (n == 72)
    assert found.resolves == resolves(n)


def test_equal_answers_about_one_picture_are_not_evidence_many_times():
    scores = by_rate([0, 1, 1, 1], 100)
    table = make_table(scores)
    apart = cliff_layer(table)
    together = cliff_layer(table.assign(picture=table["sample"].str[-2:].str[0]))  # ten pictures
    assert (apart.units, together.units) == (100, 10)
    assert (apart.n, together.n) == (100, 100)
    assert (apart.layer, apart.low, apart.high) == (together.layer, together.low, together.high)
    # one answer of ten is the step there: the margin that they resolve is nearly the same
    assert together.resolves == pytest.approx(resolves(10, step=0.1))
    # answers that flip by picture are one flip each, not ten
    flips = scores.copy()
    flips[2, :20] = 0
    table = make_table(flips)
    apart = cliff_layer(table, margin=0.3)
    together = cliff_layer(table.assign(picture=table["sample"].str[-2:].str[0]), margin=0.3)
    assert (apart.layer, apart.high) == (1, 1)
    assert (together.layer, together.high) == (1, 3)


def test_questions_asked_twice_count_once():
    table = make_table(noisy(80))
    table["asked"] = table["sample"].str[1:]
    again = table.assign(sample="again " + table["sample"])
    assert cliff_layer(pd.concat([table, again])) == cliff_layer(table)
    other = again.assign(asked="other " + again["asked"])
    assert cliff_layer(pd.concat([table, other])).n == 160


def test_a_ratio_is_certified_as_its_jackknife_is():
    """Oracle: F1 pooled anew without each of 3000 questions, and the normal interval of that."""
    rng, n = np.random.default_rng(0), 3000
    truth = (rng.random(n) < 0.5).astype(float)
    rates = [0.5, 0.1, 0.03, 0.02, 0.0]
    said = np.array([np.abs(truth - (rng.random(n) < rate)) for rate in rates])
    counts = {"score": (said == truth) * 1.0, "said_yes": said, "is_yes": np.tile(truth, (5, 1))}
    without = pooled("pope", counts, weights=1 - np.eye(n))["POPE F1"]
    cost = pooled("pope", counts)["POPE F1"] @ (np.eye(5)[-1:].T - np.eye(5))[:, :4]
    error = (without[-1:] - without[:4]).std(-1) * (n - 1) / np.sqrt(n)
    table = make_table(task="pope", scores=counts.pop("score"), **counts)
    for margin in (0.015, 0.022, 0.025, 0.028, 0.035, 0.05):
        found = cliff_layer(table, margin=margin, metric="POPE F1")
        high = 4 - np.logical_and.accumulate((cost + 1.96 * error <= margin)[::-1]).sum()
        low = 1 + np.flatnonzero(cost - 2.498 * error > margin)[-1]  # .025 over four layers
        assert (found.low, found.high) == (low, high)


def test_a_score_that_rises_when_hidden_is_no_cost():
    found = cliff_layer(make_table(by_rate([0.9, 0.95, 0.8], 200)))
    assert (found.low, found.layer, found.high) == (0, 0, 0)


def test_certified_layers_of_many_tables_are_each_by_itself():
    cost = np.stack([noisy(seed=s)[-1] - noisy(seed=s)[:-1] for s in range(3)])
    within, above = certify(cost, margin=0.05, step=1.0)
    for one, inside, outside in zip(cost, within, above, strict=True):
        alone = certify(one, margin=0.05, step=1.0)
        assert (inside.tolist(), outside.tolist()) == tuple(part.tolist() for part in alone)
    kinds = np.array([-1.0, 0.0, 1.0])
    counts = (cost[..., None, :] == kinds[:, None]).sum(-1)
    pooled_ = certify(np.broadcast_to(kinds, counts.shape), margin=0.05, step=1.0, counts=counts)
    assert [part.tolist() for part in pooled_] == [within.tolist(), above.tolist()]


def test_the_next_layer_swept_is_the_upper_limit():
    table = make_table(by_rate([0.2, 0.5, 1, 1, 1], 100))
    found = cliff_layer(table[table["layer"].isin([0, 3, 4])])
    assert (found.low, found.layer, found.high) == (1, 3, 3)


@pytest.mark.parametrize("column", ["model", "task", "keep"])
def test_mixed_table_is_refused(column):
    table = make_table(by_rate([0.2, 0.8]))
    other = table.assign(**{column: {"model": "m2", "task": "pope", "keep": 5}[column]})
    with pytest.raises(ValueError, match=rf"of one {column}, found 2 in the table"):
        cliff_layer(pd.concat([table, other]))


def test_table_with_a_missing_cell_is_refused():
    with pytest.raises(ValueError, match=r"found 2 layers x 100 samples with 1 cells missing"):
        cliff_layer(make_table(by_rate([0.2, 0.8])).iloc[1:])


@pytest.mark.parametrize("shape", [(1, 5), (5, 1)])
def test_one_layer_or_one_sample_is_refused(shape):
    with pytest.raises(ValueError, match=r"at least two of each"):
        cliff_layer(make_table(np.ones(shape)))


def test_unknown_metric_is_refused():
    with pytest.raises(ValueError, match=r"asked for the metric 'F2' of textvqa, found"):
        cliff_layer(make_table(by_rate([0.2, 0.8])), metric="F2")


@pytest.mark.parametrize("confidence", [95, -1, 0, True, "0.95", float("nan")])
def test_a_confidence_that_is_none_is_refused(confidence):
    with pytest.raises(ValueError, match=r"confidence=.*; give a .* above 0 and at most 1"):
        cliff_layer(make_table(noisy()), confidence=confidence)


def test_a_margin_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"margin=-0.1, .*give a finite number of at least 0"):
        cliff_layer(make_table(noisy()), margin=-0.1)


def test_pictures_that_are_not_told_are_refused():
    with pytest.raises(ValueError, match="found no picture"):
        cliff_layer(make_table(noisy()).drop(columns="picture"))


def test_counts_that_are_missing_are_refused():
    counts = dict.fromkeys(("said_yes", "is_yes"), np.where(np.arange(1600) == 7, np.nan, 1.0))
    table = make_table(noisy(), task="pope", **counts)
    with pytest.raises(ValueError, match=r"no number in some rows of \['said_yes', 'is_yes'\]"):
        cliff_layer(table)


def test_a_metric_that_counts_no_answer_is_refused():
    table = make_table(noisy(), task="scienceqa", has_image=np.zeros((8, 200)))
    with pytest.raises(ValueError, match="asked for SQA IMG Acc, found 0 answers that it counts"):
        cliff_layer(table)
    assert cliff_layer(table, metric="SQA Acc").n == 200


def test_near_ties_and_the_order_of_rows_change_no_cliff():
    table = make_table(noisy())
    other = table.assign(near_tie=np.arange(len(table)) % 2 == 0).sample(frac=1, random_state=3)
    assert cliff_layer(other) == cliff_layer(table)


@pytest.mark.parametrize("kind", ["upto", "single", "window"])
def test_a_sweep_that_does_not_change_all_layers_from_one_on_has_no_cliff(kind):
    table = make_table(noisy())
    with pytest.raises(ValueError, match=rf"a sweep of the kind \['{kind}'\]"):
        cliff_layer(table.assign(edge="image>answer", span=kind))
    assert cliff_layer(table.assign(edge="image>answer", span="from")) == cliff_layer(table)
