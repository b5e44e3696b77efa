"""What comes with the project: the miniatures."""

import json

import numpy as np
import pytest
import torch
from matplotlib.cbook import get_sample_data
from transformers import AutoModelForImageTextToText, AutoProcessor

from irlib import attention_flow, llava_cam, load, load_task, metrics, store, sweep, truncate

MINIS = store.root() / "data/minis"
NAMES = (
    "mini-instructblip",
    "mini-internvl",
    "mini-llava",
    "mini-llava-next",
    "mini-qwen2vl",
    "mini-shikra",
)


@pytest.fixture(scope="module", params=NAMES)
def each(request):
    return load(request.param)


@pytest.fixture(scope="module")
def vlm():
    return load("mini-llava")


def test_six_miniatures_are_bundled():
    assert tuple(sorted(path.parent.name for path in MINIS.glob("*/config.json"))) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_plain_from_pretrained_loads_a_miniature_in_float32(name):
    model = AutoModelForImageTextToText.from_pretrained(MINIS / name)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert sum(f.stat().st_size for f in (MINIS / name).rglob("*")) < 8e6


def test_plain_from_pretrained_loads_the_first_processor():
    assert AutoProcessor.from_pretrained(MINIS / "mini-llava").tokenizer.padding_side == "left"


def test_a_miniature_has_the_scores_of_its_card(each):
    told = json.loads((MINIS / each.name / "scores.json").read_text())["scores"]
    told = {(row["group"], row["metric"]): row for row in told}
    for task, metric in (("pope", "POPE Acc"), ("textvqa", "TextVQA Acc")):
        table = sweep(each, load_task(task, n=60), layers=[0], progress=False)
        value = metrics(table).set_index(["layer", "metric"])["value"]
        # 60 rows of all: four standard errors of a share near its measured value
        for layer, column in ((each.n_layers, "picture"), (0, "hidden from layer 0")):
            p = told[task, metric][column]
            slack = 4 * np.sqrt(max(p * (1 - p), 0.01) / 60)
            assert abs(value[layer, metric] - p) < slack, (task, column)


def test_a_photograph_goes_the_whole_way(each):
    vlm = each
    with get_sample_data("grace_hopper.jpg") as file:
        path = file.name
    inputs = vlm.prepare(image=path, question="Is there a boat in the image?")
    answer = vlm.answer(inputs)
    assert answer.text in ("Yes", "No")
    flow = attention_flow(vlm, inputs, answer)
    np.testing.assert_allclose(flow.groupby("layer").share.sum(), 1, atol=1e-5)
    maps = llava_cam(vlm, inputs, answer)
    assert maps.heat.shape == (vlm.n_layers, *inputs.grid.shape)
    assert maps.overlay(3).shape[:2] == inputs.pictures[0].size[::-1]
    with truncate(vlm, inputs, layer=0):
        blind = vlm.forward(inputs, logits_to_keep=1)
    assert not torch.equal(blind, vlm.forward(inputs, logits_to_keep=1))


def test_a_question_of_unknown_words_is_spelled_and_warned_about(vlm):
    with pytest.warns(UserWarning, match="far outside the words"):
        inputs = vlm.prepare(question="Wherefore quoth zeppelins?")
    ids = inputs.batch["input_ids"][0]
    assert vlm.processor.tokenizer.unk_token_id not in ids.tolist()
    assert "zeppelins" in vlm.processor.tokenizer.decode(ids)


def test_a_sign_is_read_as_one_word(vlm):
    sample = load_task("textvqa", n=1, kind="number")[0]
    assert " " not in vlm.answer(vlm.prepare(sample)).text
