"""What comes with the project: the miniature, its tasks, its figures, and the README about them."""

import json
import re

import numpy as np
import pytest
import torch
from matplotlib.cbook import get_sample_data
from transformers import AutoModelForImageTextToText, AutoProcessor

from irlib import (
    attention_flow,
    llava_cam,
    load,
    load_task,
    metrics,
    store,
    sweep,
    truncate,
)

MINI = store.root() / "data/minis/mini-llava"


@pytest.fixture(scope="module")
def vlm():
    return load("mini-llava")


def test_plain_from_pretrained_loads_the_miniature_in_float32():
    model = AutoModelForImageTextToText.from_pretrained(MINI)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert AutoProcessor.from_pretrained(MINI).tokenizer.padding_side == "left"
    assert sum(f.stat().st_size for f in MINI.iterdir()) < 8e6


def test_the_miniature_has_the_scores_of_its_card(vlm):
    told = json.loads((MINI / "scores.json").read_text())["scores"]
    told = {(row["group"], row["metric"]): row for row in told}
    for task, metric in (("pope", "POPE Acc"), ("textvqa", "TextVQA Acc")):
        table = sweep(vlm, load_task(task, n=60), layers=[0], progress=False)
        value = metrics(table).set_index(["layer", "metric"])["value"]
        # 60 rows of all: four standard errors of a share near its measured value
        for layer, column in ((vlm.n_layers, "picture"), (0, "hidden from layer 0")):
            p = told[task, metric][column]
            slack = 4 * np.sqrt(max(p * (1 - p), 0.01) / 60)
            assert abs(value[layer, metric] - p) < slack, (task, column)


def test_a_photograph_goes_the_whole_way(vlm):
    with get_sample_data("grace_hopper.jpg") as file:
        path = file.name
    inputs = vlm.prepare(image=path, question="Is there a boat in the image?")
    answer = vlm.answer(inputs)
    assert answer.text in ("Yes", "No")
    flow = attention_flow(vlm, inputs, answer)
    np.testing.assert_allclose(flow.groupby("layer").share.sum(), 1, atol=1e-5)
    maps = llava_cam(vlm, inputs, answer)
    assert maps.heat.shape == (vlm.n_layers, 8, 8)
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


def test_the_readme_tells_the_verdicts_of_the_figures():
    text = (store.root() / "README.md").read_text()
    stems = sorted((store.root() / "figures/mini").glob("*.json"))
    assert len(stems) == 10
    for path in stems:
        row = re.search(rf"^\| <img src=\"figures/mini/{path.stem}.png\".*$", text, re.M).group()
        told = json.loads(path.read_text())["verdicts"]
        for verdict in told:
            assert f"{verdict['outcome']}: {verdict['claim']}" in row
        assert len(re.findall(r"agrees: |disagrees: |cannot be told: ", row)) >= len(told)
