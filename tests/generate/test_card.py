import json

import pytest

from data.generate import card, tasks
from irlib import load, load_task, metrics, sweep


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


def test_the_kept_floors_are_those_of_the_scores():
    for path in card.FOLDER.glob("*/scores.json"):
        told = json.loads(path.read_text())
        floors = card.FIRST if path.parent.name == "mini-llava" else card.FLOORS
        assert [(f["group"], f["metric"], f["bound"]) for f in told["floors"]] == list(floors)
        for floor in told["floors"]:
            lower = floor["metric"] == "CHAIRi"
            least, most = sorted([floor["value"], floor["bound"]])
            assert floor["met"] == ((floor["value"] == least) if lower else floor["value"] == most)
