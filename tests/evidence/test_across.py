"""Models side by side: rows kept apart, verdicts of the worst, cliffs as shares of the depth."""

import json

import numpy as np
import pandas as pd
import pytest

from irlib import store
from irlib.evidence import across
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


def cliffs(**rows):
    """A table of cliffs, `name=(cliff, low, high, n_layers)`, one task."""
    table = pd.DataFrame(rows, index=["cliff", "low", "high", "n_layers"]).T
    return table.rename_axis("model").reset_index().assign(task="pope", n_cliff=50)


def changes(*rows):
    """A table of changes, `(model, column, change, low, high)`."""
    names = ["model", "column", "change", "change_low", "change_high"]
    return pd.DataFrame(rows, columns=names).assign(n=100)


@pytest.mark.filterwarnings(SPELLED)
def test_figures_are_those_of_the_other_samples_at_the_models_own_cliff(tiny_llava):
    finding, judging = (
        {task: load_task(task, n=n, part=part) for task, n in counts.items()}
        for part, counts in (
            ("find", {"pope": 12, "chair": 4}),
            ("judge", {"pope": 14, "chair": 5}),
        )
    )
    for rows in (*finding.values(), *judging.values()):
        rows[:] = [sample.__class__(**vars(sample) | {"max_new_tokens": 2}) for sample in rows]
    table = across.judge_cliffs(tiny_llava, finding, judging, columns=COLUMNS)
    assert table["column"].tolist() == list(COLUMNS)
    for _, row in table.iterrows():
        assert row["layer"] == min(row["cliff"], 3)
        naive = sweep(tiny_llava, judging[row["task"]], progress=False)  # every layer
        naive = metrics(naive).query("metric == @row.metric").set_index("layer")["value"]
        assert row["baseline"] == pytest.approx(naive[4], nan_ok=True)
        assert row["at_cliff"] == pytest.approx(naive[row["layer"]], nan_ok=True)
        assert row["n"] == len(judging[row["task"]])
        assert row["n_cliff"] == len(finding[row["task"]])


@pytest.mark.filterwarnings(SPELLED)
def test_the_finding_sweep_is_the_one_that_other_figures_keep(tiny_llava, monkeypatch):
    finding = {"pope": load_task("pope", n=3, part="find")}
    judging = {"pope": load_task("pope", n=2, part="judge")}
    sweep(tiny_llava, finding["pope"], progress=False)
    asked, real = [], blocks.answers_by_layer

    def count(vlm, inputs, *, layers, **options):
        asked.append(([sample.key for sample in inputs.samples], list(layers)))
        return real(vlm, inputs, layers=layers, **options)

    monkeypatch.setattr(blocks, "answers_by_layer", count)
    columns = {"Acc": ("pope", "POPE Acc")}
    table = across.judge_cliffs(tiny_llava, finding, judging, columns=columns)
    others = [sample.key for sample in judging["pope"]]
    assert asked == [(others, [table["layer"][0], 4])]


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [(-0.01, 0.01, "agrees"), (-0.03, 0.0, "cannot be told"), (-0.2, -0.1, "disagrees")],
)
def test_the_worst_column_speaks_for_its_model(low, high, outcome):
    table = changes(
        ("a", "POPE Acc", 0.0, -0.01, 0.01), ("a", "CHAIRi", (low + high) / 2, low, high),
        ("b", "POPE Acc", 0.0, 0.0, 0.0),
    )  # fmt: skip
    a, b = across.cost_verdicts(table, loss=0.02)
    assert (a.outcome, b.outcome) == (outcome, "agrees")
    assert a.value == pytest.approx(0.02 + min(0.0, (low + high) / 2))
    assert outcome == "agrees" or "worst: CHAIRi" in a.claim


@pytest.mark.parametrize(
    ("rows", "outcome", "low", "high"),
    [
        ({"a": (6, 5, 7, 12), "b": (6, 6, 7, 12)}, "agrees", 0, 2 / 12),
        ({"a": (6, 4, 8, 12), "b": (6, 6, 7, 12)}, "cannot be told", 0, 4 / 12),
        ({"a": (2, 1, 3, 12), "b": (10, 9, 11, 12)}, "disagrees", 6 / 12, 10 / 12),
        ({"a": (6, 6, 6, 12), "b": (16, 16, 16, 32)}, "agrees", 0, 0),  # half the depth
        ({"a": (7, 7, 7, 12), "b": (10, 10, 10, 12)}, "agrees", 0.25, 0.25),  # just within
        ({"a": (12, 12, 12, 12), "b": (5, 5, 5, 12)}, "disagrees", 7 / 12, 7 / 12),  # never
    ],
)
def test_cliffs_are_one_where_their_intervals_lie_together(rows, outcome, low, high):
    [found] = across.gap_verdicts(cliffs(**rows), apart=0.25)
    assert found.outcome == outcome
    assert (found.low, found.high) == pytest.approx((low, high))


def test_overlapping_intervals_reach_down_to_no_distance():
    draw = np.random.default_rng(0)
    for _ in range(50):
        spans = np.sort(draw.integers(0, 13, (3, 3)), axis=1)
        rows = {f"m{i}": (middle, low, high, 12) for i, (low, middle, high) in enumerate(spans)}
        [found] = across.gap_verdicts(cliffs(**rows), apart=0.1)
        shared = [layer for layer in range(13) if all(a <= layer <= b for a, _, b in spans)]
        assert (found.low == 0) == bool(shared)


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
    assert across.inherited(["mini-shikra", "mini-internvl"]) == {}  # its parent is not here


def test_one_model_and_models_without_cliffs_tell_nothing():
    row = {"task": "pope", "n_layers": 12, "n_cliff": 50, "low": 12, "high": 12}
    never = pd.DataFrame([row | {"model": name, "cliff": 12} for name in ("a", "b")])
    assert across.gap_verdicts(never[:1], apart=0.25) == []
    (told,) = across.gap_verdicts(never, apart=0.25)
    assert told.outcome == "cannot be told"
    assert "2 of them without a cliff" in told.claim
