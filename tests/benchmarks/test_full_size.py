"""The run in full size, tried with one layer: shapes, stages and memory."""

import json
import subprocess
import sys

import pytest
import torch

from benchmarks.full_size import NAME, draw_weights, restore_buffers
from data.generate.fitting.fit import halved
from irlib import load, store
from irlib.plan.skeleton import skeleton


# one layer's widths are the whole model's: bfloat16 on a processor takes seconds for each pass,
# and where it is emulated a quarter of an hour in all
@pytest.mark.skipif(not halved("cpu"), reason="this processor computes no bfloat16 of its own")
def test_one_layer_goes_through_every_instrument_within_three_gigabytes(tmp_path):
    order = ["-m", "benchmarks.full_size", "--device", "cpu", "--layers", "1", "--new", "1"]
    order += ["--together", "2", "--out", str(tmp_path)]
    subprocess.run([sys.executable, *order], cwd=store.root(), check=True, capture_output=True)
    (path,) = tmp_path.iterdir()
    told = json.loads(path.read_text())
    assert path.name == "full_size-cpu-1_layers.json"
    assert told["prompt"]["image"] == 576
    assert told["seen"]["maps"] == [1, 24, 24]
    assert told["seen"]["answers"] == 2
    assert told["seen"]["untouched_is_the_answer"]
    stages = {one["stage"]: one for one in told["stages"]}
    assert list(stages) == ["build", "answer", "flow", "cam", "sweep"]
    weights = told["bytes_of_weights"] / 1e9
    assert weights < stages["build"]["peak_gb"] < weights + 1  # nothing is held twice
    assert max(one["peak_gb"] for one in stages.values()) < 3


def test_the_shape_is_the_published_one():
    model, _, _ = skeleton(NAME)
    assert sum(weight.numel() for weight in model.parameters()) == 7_063_427_072
    assert len(model.get_decoder().layers) == 32


def test_buffers_are_those_of_a_loaded_model():
    loaded = load("mini-llava", device="cpu").model
    model, _, _ = skeleton("mini-llava")
    model.to_empty(device="cpu")
    restore_buffers(model)
    for (name, mine), (other, theirs) in zip(
        model.named_buffers(), loaded.named_buffers(), strict=True
    ):
        assert name == other
        assert torch.equal(mine, theirs)


def test_drawn_rows_differ_and_norms_are_one():
    model, _, _ = skeleton("mini-llava")
    model = model.to_empty(device="cpu")
    draw_weights(model)
    layer = model.get_decoder().layers[3]
    rows = layer.mlp.up_proj.weight.detach()
    assert torch.unique(rows, dim=0).shape == rows.shape
    assert abs(float(rows.std()) - 0.02) < 1e-3
    assert layer.input_layernorm.weight.eq(1).all()
