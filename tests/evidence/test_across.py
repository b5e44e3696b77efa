"""Models side by side: scores at each one's own certified cliff."""

import json
from dataclasses import replace

import pytest

from irlib import store
from irlib.evidence import across
from irlib.evidence.cliff import cliff_layer
from irlib.scores import metrics
from irlib.sweeps import blocks
from irlib.sweeps.table import sweep
from irlib.tasks.loading import load_task

SPELLED = "ignore:the question .* takes"  # the tiny model knows few words
COLUMNS = {"Acc": ("pope", "POPE Acc"), "F1": ("pope", "POPE F1"), "i": ("chair", "CHAIRi")}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("IRLIB_RESULTS", str(tmp_path))
    monkeypatch.delenv("IRLIB_FRESH", raising=False)


@pytest.mark.filterwarnings(SPELLED)
def test_scores_are_those_at_the_certified_limit_of_the_models_own_cliff(tiny_llava):
    counts = {"pope": 12, "chair": 4}
    samples = {task: load_task(task, n=n, per_picture=1) for task, n in counts.items()}
    for rows in samples.values():
        rows[:] = [replace(sample, max_new_tokens=2) for sample in rows]
    table = across.at_cliffs(tiny_llava, samples, columns=COLUMNS, margin=0.6)
    assert table["column"].tolist() == list(COLUMNS)
    for _, row in table.iterrows():
        swept = sweep(tiny_llava, samples[row["task"]], progress=False)
        cliff = cliff_layer(swept, margin=0.6)
        assert (row["cliff"], row["low"], row["high"]) == (cliff.layer, cliff.low, cliff.high)
        assert row["layer"] == min(cliff.high, 3)
        naive = metrics(swept).query("metric == @row.metric").set_index("layer")["value"]
        assert row["baseline"] == pytest.approx(naive[4], nan_ok=True)
        assert row["at_cliff"] == pytest.approx(naive[row["layer"]], nan_ok=True)
        assert row["n"] == row["units"] == len(samples[row["task"]])


@pytest.mark.filterwarnings(SPELLED)
def test_one_sweep_serves_figure_5_and_the_table(tiny_llava, monkeypatch):
    samples = {"pope": load_task("pope", n=3, per_picture=1)}
    sweep(tiny_llava, samples["pope"], progress=False)
    monkeypatch.setattr(blocks, "answers_by_layer", lambda *_, **__: pytest.fail("asked again"))
    across.at_cliffs(tiny_llava, samples, columns={"Acc": ("pope", "POPE Acc")})


def test_a_decoder_that_came_from_another_is_told_by_the_models_scores(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "root", lambda: tmp_path)
    for name, told in {
        "mini-llava": {}, "mini-llava-next": {"decoder": "started from mini-llava"},
        "mini-shikra": {"decoder": "mini-llava-next's, itself from mini-llava"},
        "mini-internvl": {"decoder": "mini-internvl's own, from scratch"},
    }.items():  # fmt: skip
        (tmp_path / "data/minis" / name).mkdir(parents=True)
        (tmp_path / "data/minis" / name / "scores.json").write_text(json.dumps(told))
    names = ["mini-llava", "mini-llava-next", "mini-shikra", "mini-internvl", "hub/model"]
    assert across.inherited(names) == {
        "mini-llava-next": "mini-llava",
        "mini-shikra": "mini-llava-next",
    }
    told = across.inherited(["mini-shikra", "mini-internvl"])  # its parent is not among them
    assert told == {"mini-shikra": "mini-llava-next"}
