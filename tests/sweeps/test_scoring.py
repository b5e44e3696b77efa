"""Rows of one's own through the sweep, to a cliff; scored by what counts or by a function."""

import numpy as np
import pandas as pd
import pytest

from irlib import cliff_layer, load, load_task, metrics, rescore, sweep
from irlib.scores import score


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """POPE's rows written down as anybody would, beside their pictures."""
    folder = tmp_path_factory.mktemp("own")
    samples = load_task("pope", n=8)
    rows = []
    for place, sample in enumerate(samples):
        sample.image.open().save(folder / f"{place}.png")
        label = sample.reference["label"]
        rows.append({"image": f"{place}.png", "question": sample.question, "answer": label})
    pd.DataFrame(rows).to_csv(folder / "my.csv", index=False)
    return folder / "my.csv", samples


def test_rows_of_ones_own_have_the_answers_and_the_cliff_of_the_task(own):
    """Oracle: the same rows as POPE; its answers are "Yes" and "No", which EvalAI's form folds."""
    path, samples = own
    vlm, layers = load("mini-llava"), [0, 6]
    table = sweep(vlm, load_task(path), layers=layers, max_new_tokens=8, progress=False)
    wanted = sweep(vlm, samples, layers=layers, progress=False)
    assert set(table["task"]) == {"own"}
    by = ["picture", "layer", "answer", "score"]
    assert sorted(table[by].values.tolist()) == sorted(wanted[by].values.tolist())
    assert cliff_layer(table).layer == cliff_layer(wanted).layer
    found = metrics(table)
    assert set(found["metric"]) == {"Own score"}
    assert found["value"].tolist() == metrics(wanted).query("metric == 'POPE Acc'").value.tolist()


def test_a_function_of_ones_own_scores(own):
    path, _ = own
    samples, vlm = load_task(path), load("mini-llava")
    table = sweep(vlm, samples, layers=[0], progress=False, score=lambda s, text: len(text) / 100)
    assert np.allclose(table["score"], table["answer"].str.len() / 100)
    assert cliff_layer(table).metric == "Own score"


def test_what_cannot_be_scored_is_told_before_anything_is_asked(own):
    path, samples = own

    def never(*_, **__):
        raise AssertionError("the model was asked")

    mute = load_task(path, columns={"answer": None})
    with pytest.raises(ValueError, match=r"without an answer .* sweep\(..., score="):
        sweep(None, mute)
    for value in ("1", None, 1.5, -0.1, float("nan")):
        with pytest.raises(ValueError, match="for row '00001' by a function of your own"):
            sweep(None, mute, score=lambda *_, value=value: value)
    with pytest.raises(ValueError, match="asked to score pope by a function of your own"):
        sweep(None, samples, score=never)
    with pytest.raises(TypeError, match=r"give a function of \(sample, text\)"):
        sweep(None, mute, score="exact")


def test_one_sample_is_rescored_as_a_list_is(own):
    _, samples = own
    table = pd.DataFrame({"task": ["pope"], "sample": [samples[0].key], "answer": ["Yes"]})
    assert rescore(table, samples[0]).equals(rescore(table, samples))
    assert score(samples[0], "Yes")["said_yes"] == 1
