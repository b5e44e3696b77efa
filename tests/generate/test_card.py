import json
import shutil
from dataclasses import replace

import pandas as pd
import pytest

from data.generate import card, tasks
from data.generate.fitting.minis import MINIS
from irlib import load, load_task, metrics, sweep
from irlib.scores import score


@pytest.fixture(scope="module")
def vlm():
    return load("mini-llava")


def test_a_card_tells_what_the_instruments_measure(vlm, tmp_path_factory):
    drawn = tmp_path_factory.mktemp("tasks")
    list(tasks.write(drawn, seed=7, rows=10))
    table = card.measure(vlm, drawn).set_index(["group", "metric"])
    swept = sweep(vlm, load_task("pope", source=drawn / "pope"), layers=[0], progress=False)
    pooled = metrics(swept).set_index(["layer", "metric"])["value"]
    for layer, condition in ((vlm.n_layers, "picture"), (0, "hidden from layer 0")):
        for metric in ("POPE Acc", "POPE F1"):
            assert table.loc[("pope", metric), condition] == pooled[layer, metric]
    assert table.loc[("pope", "POPE Acc"), "majority"] == 0.5
    assert table.loc[("scienceqa, text", "SQA Acc"), "n"] == 8


def test_another_picture_is_never_the_rows_own():
    for task, n in (("pope", 240), ("textvqa", 40), ("scienceqa", 60)):
        samples = load_task(task, n=n)
        for sample, other in zip(samples, card.swapped(samples), strict=True):
            assert replace(other, image=sample.image) == sample
            assert (sample.image is None) == (other.image is None)
            if sample.image:
                assert sample.image.tobytes() != other.image.tobytes()


def test_what_is_asked_twice_is_answered_once_and_counted_twice(vlm, monkeypatch):
    samples = load_task("pope", keys=["popular/1", "random/1", "random/2", "adversarial/1"])
    assert len({(s.image.tobytes(), s.prompt) for s in samples}) == 2
    asked, real = [], type(vlm).answer

    def count(model, inputs):
        asked.extend(sample.key for sample in inputs.samples)
        return real(model, inputs)

    monkeypatch.setattr(type(vlm), "answer", count)
    table = card.answers(vlm, samples, "picture")
    assert len(asked) == 2
    assert table["kind"].tolist() == [s.kind for s in samples]
    texts = real(vlm, vlm.prepare(samples)).texts
    assert table["score"].tolist() == [
        score(s, text)["score"] for s, text in zip(samples, texts, strict=True)
    ]


def test_one_task_measured_alone_leaves_the_others_scores(vlm, tmp_path, monkeypatch):
    folder = tmp_path / "mini-llava"
    shutil.copytree(card.FOLDER / "mini-llava", folder)
    path = folder / "scores.json"
    before = json.loads(path.read_text())
    samples = load_task("textvqa", n=6)
    monkeypatch.setattr(card, "load_task", lambda task, **_: {"textvqa": samples}[task])
    card.main([str(folder), "--only", "textvqa"])
    after = json.loads(path.read_text())
    assert {**after, "scores": None, "floors": None} == {**before, "scores": None, "floors": None}
    for old, new in zip(before["scores"], after["scores"], strict=True):
        assert new == old if old["group"] != "textvqa" else new["n"] == 6
    text = (folder / "README.md").read_text()
    card.main([str(folder), "--kept"])
    assert (folder / "README.md").read_text() == text  # a card says what is kept
    assert json.loads(path.read_text()) == after
    kept = pd.DataFrame(before["scores"])
    with pytest.raises(ValueError, match=r"put textvqa among .*; measure all tasks, without --onl"):
        card.merged(kept[kept["group"] != "textvqa"], kept)


def test_the_kept_floors_are_those_of_the_scores():
    for path in (card.FOLDER / name / "scores.json" for name in MINIS):
        told = json.loads(path.read_text())
        floors = card.FIRST if path.parent.name == "mini-llava" else card.FLOORS
        assert [(f["group"], f["metric"], f["bound"]) for f in told["floors"]] == list(floors)
        for floor in told["floors"]:
            lower = floor["metric"] == "CHAIRi"
            least, most = sorted([floor["value"], floor["bound"]])
            assert floor["met"] == ((floor["value"] == least) if lower else floor["value"] == most)
