"""The benchmark for a GPU, on a processor at a tiny shape: that it runs, not how fast it is."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForImageTextToText

from benchmarks import alternatives, gpu, gpu_parts, measure, models, prefill, tables
from benchmarks.settings import Settings, slug
from irlib import store
from irlib.cam.cam import llava_cam
from irlib.interventions.staircase import answers_by_layer

TINY = ["--device", "cpu", "--shape", "tiny", "--runs", "1", "--tokens", "3"]
NAMES = [part.name for part in gpu_parts.PARTS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What the command leaves and prints in a tree that has neither data nor notebooks."""
    tree = tmp_path_factory.mktemp("tree")
    for room in ("irlib", "benchmarks"):
        shutil.copytree(
            store.root() / room,
            tree / room,
            ignore=shutil.ignore_patterns("results", "__pycache__"),
        )
    order = [sys.executable, "-m", "benchmarks.gpu", *TINY, "--prompts", "1", "2"]
    run = subprocess.run(order, cwd=tree, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    (tree / "printed").write_text(run.stdout)
    return tree


@pytest.fixture(scope="module")
def told(folder):
    return json.loads((folder / "benchmarks/results/gpu-cpu-tiny.json").read_text())


@pytest.fixture(scope="module")
def vlm():
    return models.random_llava(models.SHAPES["tiny"])


@pytest.fixture(scope="module")
def subject(vlm):
    inputs = models.prompt(vlm, rows=2)
    return models.Subject(vlm, inputs, vlm.answer(inputs, max_new_tokens=3))


def test_it_runs_without_data_figures_and_notebooks_and_names_its_file_by_device(folder):
    assert {path.name for path in folder.iterdir()} == {"irlib", "benchmarks", "printed"}
    assert [path.name for path in (folder / "benchmarks/results").iterdir()] == [
        "gpu-cpu-tiny.json"
    ]


def test_every_part_is_measured_or_says_why_not(told):
    every = {(name, way, n) for name in NAMES for way in ("sdpa", "flash") for n in (1, 2)}
    done = {(one["part"], one["attention"], one["prompts"]) for one in told["parts"]}
    left = {(one["part"], one["attention"], one["prompts"]) for one in told["left_out"]}
    assert done | left == every
    assert not done & left
    assert {(name, "sdpa", n) for name in NAMES for n in (1, 2)} <= done
    masked = {part.name for part in gpu_parts.PARTS if part.masked}
    assert left == {(name, "flash", n) for name in masked for n in (1, 2)}
    assert {one["why"] for one in told["left_out"]} == {gpu.MASKED}


def test_flash_is_named_by_what_stood_for_it(told):
    kernels = {one["attention"]: one["kernels"] for one in told["parts"]}
    assert "flash_attention_2 was not run" in kernels["flash"]
    assert "flash" not in kernels["sdpa"]


def test_every_loop_is_held_to_irlibs_numbers(told):
    for one in told["parts"]:
        bare = one["part"] == "prefill"
        others = [row["name"] for row in one["rows"][1:] if ", no " not in row["name"] and not bare]
        assert [agreed["with"] for agreed in one["agreements"]] == others
        assert all(agreed["apart"] <= agreed["tolerance"] for agreed in one["agreements"])


def test_rates_and_memory_stand_in_the_file(told):
    parts = {(one["part"], one["attention"], one["prompts"]): one for one in told["parts"]}
    one = parts["free answers at every layer", "sdpa", 2]
    ours = one["rows"][0]
    made = 3 * 2 * 3  # layers and the untouched model, prompts, tokens
    assert one["rates"][ours["name"]][0] == pytest.approx(
        made / ours[f"{told['clock']}_s"], rel=0.01
    )
    assert ours["whole_once"]["in_use_mb"] is None or ours["whole_once"]["in_use_mb"] > 50
    assert parts["prefill", "sdpa", 1]["rates"]["prefill"][1] == "TFLOP/s"
    assert told["formula"] == gpu_parts.FORMULA


def test_goals_are_those_promised_and_printed_with_what_became_of_them(told, folder):
    goals = {
        (one["part"], goal["target"]) for one in told["parts"] for goal in one["goals"]
    }  # fmt: skip
    assert goals == {
        ("prefill", 0.5), ("sweep, logits by layer", 14), ("free answers at every layer", 15),
        ("LLaVA-CAM, all layers", 1.15),
    }  # fmt: skip
    printed = (folder / "printed").read_text()
    for one in told["parts"]:
        for goal in one["goals"]:
            kind = "most" if goal["target"] == 1.15 else "least"
            assert f"at {kind} {goal['target']:g}: {'met' if goal['met'] else 'NOT met'}" in printed


@pytest.mark.parametrize(
    ("cost", "target", "median", "met"),
    [(False, 14, 14.0, True), (False, 14, 13.9, False), (True, 1.15, 1 / 1.15, True),
     (True, 1.15, 1 / 1.16, False)],
)  # fmt: skip
def test_a_goal_is_met_from_its_number_on(cost, target, median, met):
    assert tables.reached({"cost": cost, "target": target, "ratio": {"median": median}}) is met


def test_where_time_is_up_parts_are_left_out_with_what_they_may_take(tmp_path, capsys):
    told = gpu.main([*TINY, "--prompts", "1", "--minutes", "0.01", "--out", str(tmp_path)])
    assert not told["parts"]
    unmasked = [one for one in told["left_out"] if one["why"] != gpu.MASKED]
    assert len(unmasked) == len(NAMES) + 3
    assert all(one["why"].endswith("0.0 s are left") for one in unmasked)
    assert "left out: may take" in capsys.readouterr().out


def test_memory_that_is_out_is_said_and_the_rest_goes_on(tmp_path, monkeypatch, capsys):
    def greedy(subject, settings):
        if len(subject.inputs) > 1:
            raise torch.OutOfMemoryError("of a GPU")
        return gpu_parts.plain(subject, settings)

    one = replace(gpu_parts.PARTS[0], ways=greedy)
    monkeypatch.setattr(gpu_parts, "PARTS", (one, gpu_parts.PARTS[0]))
    told = gpu.main([*TINY, "--prompts", "2", "1", "--out", str(tmp_path)])
    assert [(one["prompts"], one["why"]) for one in told["left_out"]] == [(2, "out of memory")] * 2
    assert [one["prompts"] for one in told["parts"]] == [2, 1, 1] * 2
    assert "left out: out of memory" in capsys.readouterr().out


def test_wrong_numbers_have_no_ratio_and_fail(tmp_path, monkeypatch, capsys):
    def wrong(subject, settings):
        ours, loop = gpu_parts.said(subject, settings)
        layers = range(subject.vlm.n_layers + 1)

        def untouched():
            found = ours.whole()
            return dict.fromkeys(layers, found[subject.vlm.n_layers])

        return [replace(ours, whole=untouched), loop]

    one = replace(gpu_parts.PARTS[4], ways=wrong)
    monkeypatch.setattr(gpu_parts, "PARTS", (one,))
    told = gpu.main([*TINY, "--prompts", "1", "--out", str(tmp_path)])
    assert not told["parts"]
    assert told["left_out"][0]["failed"]
    assert "no ratio compares other things" in told["left_out"][0]["why"]
    assert "FAILED" in capsys.readouterr().out


def test_answers_of_another_layer_are_not_the_best_words(subject):
    n = subject.vlm.n_layers
    said = answers_by_layer(
        subject.vlm, subject.inputs, layers=range(n + 1), max_new_tokens=3
    )  # fmt: skip
    assert gpu_parts.near_best(subject, said)["apart"] == 0
    with pytest.raises(ValueError, match="no ratio"):
        gpu_parts.near_best(subject, {layer: said[n - layer] for layer in said})


def test_prompts_side_by_side_give_what_each_gives_alone(subject):
    vlm, inputs, answer = subject.vlm, subject.inputs, subject.answer
    heat = alternatives.separate_cam(vlm, inputs, answer, [0, 1])
    shares, _ = alternatives.output_attentions(vlm, inputs, answer)
    slopes = alternatives.plain_backward(vlm, inputs, answer)
    assert not torch.equal(*inputs.text["input_ids"])
    for row in range(2):
        alone = inputs.take([row]), answer.take([row])
        # sums in another order
        mine = alternatives.separate_cam(vlm, *alone, [0, 1])[0]
        assert np.allclose(heat[row], mine, atol=1e-4 * mine.max())
        mine = alternatives.output_attentions(vlm, *alone)[0][0]
        assert np.allclose(shares[row], mine, atol=1e-5)
        assert torch.allclose(slopes[row], alternatives.plain_backward(vlm, *alone)[0], atol=1e-4)
        maps = llava_cam(vlm, *alone).heat
        assert np.allclose(inputs.grids[row].lay(heat[row]), maps, atol=1e-4 * maps.max())


def test_the_7b_shape_has_as_many_weights_as_llava_7b():
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(models.config_of(models.SHAPES["7b"]))
    assert sum(weight.numel() for weight in model.parameters()) == 7_063_427_072


def test_operations_of_a_prefill_are_those_that_torch_counts(vlm):
    inputs = vlm.encode(models.prompt(vlm))
    config = vlm.model.config.get_text_config()
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad(), alternatives.attention(vlm, "eager"):
        vlm.forward(inputs, logits_to_keep=1)
    # torch counts the masked half of attention too, and no norms, whose weights are few
    masked = 2 * vlm.n_layers * config.hidden_size * inputs.length**2
    counted = counter.get_total_flops() - masked
    assert prefill.operations(vlm, inputs.length) == pytest.approx(counted, rel=0.01)


def test_rounds_end_with_their_time_but_one_is_always_run():
    ways = [measure.Contender(name, lambda: 1, 1) for name in ("ours", "theirs")]
    few = measure.compare(ways, runs=4, device="cpu", clock="wall", until=0)
    all_of_them = measure.compare(ways, runs=4, device="cpu", clock="wall")
    assert [len(found["rows"][0]["runs"]) for found in (few, all_of_them)] == [1, 4]


def test_a_gpus_file_bears_its_name(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100 80GB HBM3")
    assert slug("cuda") == "nvidia-h100-80gb-hbm3"
    assert Settings(device="cuda", shape="7b").suffix == "-nvidia-h100-80gb-hbm3-7b"


@pytest.mark.parametrize("wrong", [["--prompts", "0"], ["--minutes", "nan"], ["--minutes", "-1"]])
def test_what_cannot_be_measured_is_refused(wrong, capsys):
    with pytest.raises(SystemExit):
        gpu.main([*TINY, *wrong])
    assert "give" in capsys.readouterr().err
