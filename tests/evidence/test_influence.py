"""Contributions to pooled scores: their mean is the score, their slopes are finite differences."""

import numpy as np
import pytest

from irlib.evidence.influence import contributions, counted, step
from irlib.scores import MAIN, pooled

LAYERS, ANSWERS, UNITS = 4, 60, 17


def draw(task, seed=0):
    """Counts `[layer, answer]` of a task as they could be."""
    rng = np.random.default_rng(seed)
    shape = LAYERS, ANSWERS
    fixed = rng.random(ANSWERS) < 0.6
    if task == "pope":
        said = (rng.random(shape) < 0.5).astype(float)
        return {
            "score": (said == fixed) * 1.0,
            "said_yes": said,
            "is_yes": np.tile(fixed, (4, 1)) * 1.0,
        }
    if task == "textvqa":
        return {"score": rng.choice([0.0, 0.3, 0.6, 0.9, 1.0], shape)}
    if task == "scienceqa":
        score = (rng.random(shape) < 0.7) * 1.0
        return {"score": score, "has_image": np.tile(fixed, (4, 1)) * 1.0}
    mentions = rng.integers(0, 5, shape).astype(float)
    wrong = rng.binomial(mentions.astype(int), 0.3).astype(float)
    objects = np.tile(rng.integers(1, 6, ANSWERS), (4, 1)).astype(float)
    found = np.minimum(mentions - wrong, objects)
    return {"score": (wrong == 0) * 1.0, "mentions": mentions, "hallucinated": wrong,
            "found": found, "objects": objects}  # fmt: skip


METRICS = [(task, metric) for task in MAIN for metric in pooled(task, draw(task))]
UNIT = np.random.default_rng(9).permutation(np.arange(ANSWERS) % UNITS)


@pytest.mark.parametrize(("task", "metric"), METRICS)
@pytest.mark.parametrize("unit", [None, UNIT], ids=["answers", "pictures"])
def test_their_mean_is_the_score(task, metric, unit):
    counts = draw(task)
    parts = contributions(metric, counts, unit=unit)
    assert parts.shape == (LAYERS, ANSWERS if unit is None else UNITS)
    assert parts.mean(-1) == pytest.approx(pooled(task, counts)[metric], abs=1e-12)


@pytest.mark.parametrize(("task", "metric"), METRICS)
def test_they_are_how_fast_the_score_moves_with_a_unit(task, metric):
    """Oracle: the score pooled anew with one picture's answers weighing a little more or less."""
    counts, tiny = draw(task, seed=1), 1e-5
    parts = contributions(metric, counts, unit=UNIT)
    value = pooled(task, counts)[metric]
    for unit in range(UNITS):
        mine = (unit == UNIT).astype(float)
        more, less = (pooled(task, counts, weights=1 + s * mine[None])[metric][:, 0]
                      for s in (tiny, -tiny))  # fmt: skip
        slope = (more - less) / (2 * tiny)
        # central differences of 1e-5 are right to 1e-10 of a smooth ratio, to 1e-11 by rounding
        assert (parts[:, unit] - value) / UNITS == pytest.approx(slope, abs=1e-8)


@pytest.mark.parametrize(("task", "metric"), METRICS)
def test_they_are_near_what_leaving_a_picture_out_does(task, metric):
    """Oracle: the jackknife's own, which is theirs but for terms of 1/units squared."""
    counts = draw(task, seed=2)
    parts = contributions(metric, counts, unit=UNIT)
    value = pooled(task, counts)[metric]
    without = np.stack([
        pooled(task, {k: v[:, u != UNIT] for k, v in counts.items()})[metric] for u in range(UNITS)
    ], axis=-1)  # fmt: skip
    left_out = UNITS * value[:, None] - (UNITS - 1) * without
    assert np.abs(left_out - parts).max() < 6 / UNITS  # of numbers up to 2
    assert np.corrcoef(left_out.ravel(), parts.ravel())[0, 1] > 0.99


def test_where_nothing_stands_below_the_line_nothing_is_contributed():
    counts = {"score": np.ones((1, 3)), "said_yes": np.zeros((1, 3)), "is_yes": np.ones((1, 3))}
    assert contributions("POPE P", counts).tolist() == [[0, 0, 0]]
    counts = {
        "score": np.ones((1, 2)),
        "hallucinated": np.zeros((1, 2)),
        "mentions": np.zeros((1, 2)),
    }
    assert contributions("CHAIRi", counts).tolist() == [[0, 0]]


@pytest.mark.parametrize("unit", [None, UNIT], ids=["answers", "pictures"])
def test_a_step_is_what_one_answer_does(unit):
    """Oracle: the score of a model that is always right, with one yes turned into a no."""
    is_yes = (np.arange(ANSWERS) % 2).astype(float)
    right = {"score": np.ones(ANSWERS), "said_yes": is_yes, "is_yes": is_yes}
    first = int(np.flatnonzero(is_yes)[0])
    wrong = {name: values.copy() for name, values in right.items()}
    wrong["said_yes"][first] = wrong["score"][first] = 0.0
    size = ANSWERS if unit is None else UNITS
    for metric in ("POPE Acc", "POPE R", "POPE F1"):
        lost = pooled("pope", right)[metric] - pooled("pope", wrong)[metric]
        one = step(metric, right, unit=unit) / size
        assert one == pytest.approx(lost, rel=0.02)  # F1 bends a little over one answer
    one = step("TextVQA Acc", {"score": is_yes}, unit=unit)
    assert one == pytest.approx(1.0 if unit is None else UNITS / ANSWERS)


def test_science_questions_with_a_picture_alone_are_counted():
    counts = draw("scienceqa")
    assert counted("SQA IMG Acc", counts).tolist() == (counts["has_image"][0] == 1).tolist()
    assert counted("SQA Acc", counts).all()


def test_another_metric_is_refused():
    for call in (contributions, step):
        with pytest.raises(ValueError, match="asked for the metric 'F2', found"):
            call("F2", {})
