import numpy as np
import pandas as pd
import pytest

from irlib.evidence.cliff import change_at, cliff_layer
from irlib.scores import pooled


def make_table(scores, task="textvqa", **counts):
    """A sweep's table from `scores [layer, sample]` and further counts of the same shape."""
    columns = {"score": np.asarray(scores, float)} | counts
    layers, samples = columns["score"].shape
    return pd.DataFrame(
        {
            "model": "m", "task": task, "kind": "", "keep": 0, "answer": "",
            "layer": np.repeat(np.arange(layers), samples),
            "sample": [f"s{i:04}" for i in range(samples)] * layers,
        }
        | {name: np.asarray(value, float).ravel() for name, value in columns.items()}
    )  # fmt: skip


def by_rate(rates, n=100):
    """Scores `[layer, sample]` with exactly these means."""
    return np.array([[float(i < rate * n) for i in range(n)] for rate in rates])


def test_cliff_is_the_smallest_layer_from_which_on_all_stay_within_the_margin():
    cliff = cliff_layer(make_table(by_rate([0.2, 0.8, 0.5, 0.79, 0.81, 0.8])))
    assert (cliff.layer, cliff.baseline, cliff.at_cliff, cliff.n) == (3, 0.8, 0.79, 100)
    assert cliff.metric == "TextVQA Acc"


def test_margin_is_one_point_unless_told_otherwise():
    assert cliff_layer(make_table(by_rate([0.2, 0.78, 0.8]))).layer == 2
    assert cliff_layer(make_table(by_rate([0.2, 0.79, 0.8]))).layer == 1


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


def naive_interval(scores, *, margin, n_resamples, seed):
    """Oracle: a loop over resamples, each scanned from the top down."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(n_resamples):
        means = scores[:, rng.integers(scores.shape[1], size=scores.shape[1])].mean(1)
        layer = len(means) - 1
        while layer > 0 and means[-1] - means[layer - 1] <= margin + 1e-9:
            layer -= 1
        found.append(layer)
    return np.quantile(found, [0.025, 0.975], method="inverted_cdf")


def test_interval_equals_that_of_a_naive_paired_bootstrap():
    rng = np.random.default_rng(1)
    ability = rng.random(80)
    rates = [0.2, 0.45, 0.6, 0.66, 0.7, 0.71, 0.7]
    scores = np.array([ability < rate + 0.05 * rng.standard_normal(80) for rate in rates], float)
    cliff = cliff_layer(make_table(scores), n_resamples=4000, seed=5)
    low, high = naive_interval(scores, margin=0.01, n_resamples=4000, seed=7)
    assert (cliff.low, cliff.high) == (low, high)
    assert low < high


def test_pairing_keeps_the_interval_of_equal_layers_narrow():
    """Layers 2 to 5 answer alike: drawn anew for each layer they would differ by more than 0.01."""
    same = np.random.default_rng(2).integers(2, size=100)
    cliff = cliff_layer(make_table([same * 0, same * 0, same, same, same, same]))
    assert (cliff.low, cliff.layer, cliff.high) == (2, 2, 2)


def test_same_seed_gives_the_same_interval():
    scores = np.random.default_rng(3).integers(2, size=(6, 40))
    assert cliff_layer(make_table(scores), seed=4) == cliff_layer(make_table(scores), seed=4)


@pytest.mark.parametrize("column", ["model", "task", "keep"])
def test_mixed_table_is_refused(column):
    table = make_table(by_rate([0.2, 0.8]))
    other = table.assign(**{column: {"model": "m2", "task": "pope", "keep": 5}[column]})
    with pytest.raises(ValueError, match=rf"one cliff layer, found several of '{column}'"):
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


# the change at a layer


def test_change_of_an_accuracy_is_the_mean_difference_with_its_paired_interval():
    draw = np.random.default_rng(0)
    whole = (draw.random(400) < 0.9).astype(float)
    cut = np.where(draw.random(400) < 0.1, 1 - whole, whole)
    change = change_at(make_table([cut, whole]), layer=0, n_resamples=4000)
    gain = cut - whole
    half = 1.96 * gain.std() / 20
    assert (change.baseline, change.truncated) == pytest.approx((whole.mean(), cut.mean()))
    assert change.gain == pytest.approx(gain.mean())
    # 4000 resamples put a percentile within a few per cent of the interval's width
    assert change.low == pytest.approx(gain.mean() - half, abs=0.005)
    assert change.high == pytest.approx(gain.mean() + half, abs=0.005)
    assert (change.n, change.layer, change.metric) == (400, 0, "TextVQA Acc")


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


def noisy(n=40):
    """Scores that rise over eight layers, each sample by chance: a cliff that moves."""
    rng = np.random.default_rng(5)
    rates = [0.2, 0.5, 0.6, 0.62, 0.66, 0.68, 0.7, 0.7]
    return make_table([(rng.random(n) < rate).astype(float) for rate in rates])


def test_another_seed_draws_other_samples_and_the_same_seed_the_same():
    table, seeds = noisy(), [0, 1, 2, 3, 4, np.int64(5)]
    settings = {"n_resamples": 3, "margin": 0.02}  # so few that the draws are felt
    found = [cliff_layer(table, seed=seed, **settings) for seed in seeds]
    assert len({(one.low, one.high) for one in found}) > 1
    assert len({one.layer for one in found}) == 1
    assert found == [cliff_layer(table, seed=seed, **settings) for seed in seeds]
    changes = [change_at(table, layer=1, n_resamples=12, seed=seed) for seed in seeds]
    assert len({(one.low, one.high) for one in changes}) > 1
    assert changes == [change_at(table, layer=1, n_resamples=12, seed=seed) for seed in seeds]


def test_interval_of_a_seed_is_that_of_a_loop_over_its_draws():
    """Oracle: the draws of scipy's bootstrap of that seed, each counted by hand."""
    table, seed = noisy(), 7
    scores = table.pivot(index="layer", columns="sample", values="score").to_numpy()
    rng, layers = np.random.default_rng(seed), []
    for draw in rng.integers(0, 40, (60, 40)):
        value = scores[:, draw].mean(1)
        layers.append(next(i for i in range(8) if (value[i:] >= value[-1] - 0.02 - 1e-9).all()))
    wanted = np.quantile(layers, [0.025, 0.975], method="inverted_cdf")
    found = cliff_layer(table, seed=seed, margin=0.02, n_resamples=60)
    assert [found.low, found.high] == wanted.tolist()


@pytest.mark.parametrize("call", [cliff_layer, lambda t, **s: change_at(t, layer=1, **s)])
@pytest.mark.parametrize(
    "wrong", [{"seed": -1}, {"seed": 0.5}, {"n_resamples": 0}, {"n_resamples": 1e3}, {"seed": True}]
)
def test_seeds_and_resamples_that_are_none_are_refused(call, wrong):
    with pytest.raises(ValueError, match=rf"asked for {next(iter(wrong))}=.*; give a whole number"):
        call(noisy(), **wrong)


@pytest.mark.parametrize("call", [cliff_layer, lambda t, **s: change_at(t, layer=1, **s)])
@pytest.mark.parametrize("confidence", [95, -1, 0, True, "0.95", float("nan")])
def test_a_confidence_that_is_none_is_refused(call, confidence):
    with pytest.raises(ValueError, match=r"confidence=.*; give a .* above 0 and at most 1"):
        call(noisy(), confidence=confidence)


def test_a_margin_that_is_none_and_a_layer_that_is_none_are_refused():
    with pytest.raises(ValueError, match=r"margin=-0.1, .*give a finite number of at least 0"):
        cliff_layer(noisy(), margin=-0.1)
    with pytest.raises(ValueError, match=r"layer=1.0, found a float"):
        change_at(noisy(), layer=1.0)


def test_near_ties_and_the_order_of_rows_change_no_cliff():
    table = noisy()
    wanted = cliff_layer(table), change_at(table, layer=2)
    other = table.assign(near_tie=np.arange(len(table)) % 2 == 0).sample(frac=1, random_state=3)
    assert (cliff_layer(other), change_at(other, layer=2)) == wanted
