"""The benchmarks on two layers: they run, and every way gives irlib's numbers."""

import json
import platform
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import hooks_on

from benchmarks import (
    agreements,
    alternatives,
    command,
    counts,
    libraries,
    measure,
    models,
    readme,
    run,
    size,
    tables,
)
from benchmarks.settings import QUICK, Settings
from irlib import store

SETTINGS = Settings(**QUICK)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The results of all comparisons, as a quick run writes them."""
    folder = tmp_path_factory.mktemp("results")
    command.run(run.SCRIPTS, SETTINGS, folder=folder)
    return folder


@pytest.fixture(scope="module")
def told(folder):
    """What these files hold, by the comparison's name."""
    files = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    return {one["comparison"]: one for one in files}


@pytest.fixture(scope="module")
def subject():
    return models.random_subject(models.SHAPES["tiny"])


def test_each_comparison_writes_a_file_of_its_name(folder):
    names = {path.name for path in folder.iterdir()}
    assert names == {f"{name}-tiny.json" for name in run.SCRIPTS} | {
        "size-tiny.csv",
        "size-tiny.png",
    }


@pytest.mark.parametrize("name", ["sweep", "answers", "knockout", "cam", "attention", "size"])
def test_every_way_but_the_bare_pass_is_held_to_irlibs_numbers(told, name):
    for one in told[name]["comparisons"]:
        agreed = {agreement["with"] for agreement in one["agreements"]}
        bare = {row["name"] for row in one["rows"] if "no map" in row["name"]}
        bare |= {row["name"] for row in one["rows"] if "no shares" in row["name"]}
        assert agreed == {row["name"] for row in one["rows"][1:]} - bare
        assert all(a["apart"] <= a["tolerance"] and a["why"] for a in one["agreements"])


def test_hiding_the_image_moves_what_the_sweep_compares(told):
    (one,) = told["sweep"]["comparisons"]
    (agreed,) = one["agreements"]
    assert agreed["hiding_moves"] > 100 * agreed["tolerance"]


def test_a_results_file_tells_the_machine_and_neither_its_name_nor_a_path(folder, told):
    for one in told.values():
        assert set(one["machine"]) == {"cpu", "cores", "threads", "memory_gib"}
        assert {"python", "torch", "transformers"} <= set(one["versions"])
    text = "".join(path.read_text() for path in folder.glob("*.json"))
    assert str(store.root()) not in text
    assert f'"{platform.node()}"' not in text


def test_the_random_prompt_has_35_words_before_the_image_and_25_behind(subject):
    assert subject.told["tokens"] == {"system": 35, "image": 36, "user": 25}
    spans = subject.inputs.spans
    ids = subject.inputs.batch["input_ids"]
    assert torch.equal(spans.image, ids == subject.vlm.image_token_id)
    assert spans.system[0, :35].all()
    assert spans.user[0, -25:].all()
    assert subject.inputs.grid.shape == (6, 6)


def test_a_random_model_is_the_same_each_time_and_never_ends_an_answer(subject):
    again = models.random_subject(models.SHAPES["tiny"])
    assert torch.equal(subject.answer.ids[0], again.answer.ids[0])
    said = subject.vlm.model.generate(
        **subject.vlm.encode(subject.inputs).batch, max_new_tokens=40, min_new_tokens=0
    )
    assert said.shape[1] == subject.inputs.length + 40


def test_the_naive_sweeps_last_layer_is_the_untouched_model(subject):
    vlm, inputs = subject.vlm, subject.inputs
    found = alternatives.naive_sweep(vlm, inputs, range(3))
    with torch.no_grad():
        assert torch.equal(found[2, 0], vlm.forward(inputs, logits_to_keep=1)[0, -1])
    assert not torch.allclose(found[0], found[2], atol=0.1)


def test_alternatives_leave_the_model_as_it_was(subject):
    model, before = subject.vlm.model, subject.vlm.decoder.config._attn_implementation
    arguments = (subject.vlm, subject.inputs, subject.answer)
    alternatives.output_attentions(*arguments)  # transformers leaves hooks of its own behind
    hooks = hooks_on(model)
    alternatives.separate_cam(*arguments, [0])
    libraries.captum_cam(*arguments, [0])
    libraries.authors_cam(*arguments, [0])
    libraries.library_cam(*arguments)
    assert hooks_on(model) == hooks
    assert not any(weight.requires_grad or weight.grad is not None for weight in model.parameters())
    assert subject.vlm.decoder.config._attn_implementation == before
    assert not any(isinstance(m, libraries._ChannelsFirst) for m in model.modules())


def test_other_numbers_are_refused_and_no_ratio_is_made():
    ours, theirs = np.ones((2, 3)), np.ones((2, 3))
    assert agreements.agreement("heat", ours, theirs, tolerance=0, why="")["apart"] == 0
    for other in (theirs + 0.01, theirs * np.nan, np.ones((1, 3))):
        with pytest.raises(ValueError, match="no ratio"):
            agreements.agreement("heat", ours, other, tolerance=1e-3, why="")

    def refuse(ours, theirs):
        return agreements.agreement("number", [ours], [theirs], tolerance=0, why="")

    ways = [
        measure.Contender("ours", lambda: 1.0, 1),
        measure.Contender("other", lambda: 2.0, 1, agrees=refuse),
    ]
    with pytest.raises(ValueError, match="asked for the same number"):
        measure.compare(ways, runs=1, device="cpu", clock="wall")


def test_answers_that_differ_are_refused(subject):
    said = alternatives.naive_answers(subject.vlm, subject.inputs, [0, 2], 3)
    assert agreements.same_answers(said, said, tolerance=0, why="")["apart"] == 0
    swapped = {0: said[2], 2: said[0]}
    with pytest.raises(ValueError, match="found 1 of 2 to differ"):
        agreements.same_answers(said, swapped, tolerance=0.5, why="")


def test_rounds_alternate_and_a_part_is_scaled_to_the_whole(monkeypatch):
    order = []

    def clocked(call, device):
        return call(), (2.0, 3.0)

    monkeypatch.setattr(measure, "clocked", clocked)
    ways = [
        measure.Contender("ours", lambda: order.append("ours"), 10),
        measure.Contender(
            "loop", lambda: order.append("all"), 50, timed=lambda: order.append("part"), scale=4.0
        ),
    ]
    found = measure.compare(ways, runs=2, device="cpu", clock="cpu")
    assert order == ["ours", "ours", "all", "ours", "part", "ours", "part"]
    ours, loop = found["rows"]
    assert (ours["cpu_s"], loop["cpu_s"], loop["wall_s"]) == (2.0, 8.0, 12.0)
    assert loop["ratio"] == {"median": 4.0, "lowest": 4.0, "highest": 4.0}
    assert loop["counted"] == 5.0


def test_memory_is_the_peak_beyond_what_was_there():
    _, told = measure._once(lambda: torch.ones(25_000_000).sum(), "cpu")  # 100 MB for a moment
    if told["peak_mb"] is None:
        pytest.skip("this system does not tell a process its peak")
    assert 95 < told["peak_mb"] < 130


def test_counts_are_those_of_a_loop_over_tokens_and_layers(subject):
    n, length = 4, 30
    inputs = subject.inputs
    counted = counts.sweep(inputs, 3, 5)
    user = int(inputs.spans.user.sum())
    assert counted["naive"] == 4 * 3 * (inputs.length + 4)
    assert counted["shared"] == 3 * inputs.length + (3 + 2 + 1) * user + 4 * 3 * 4
    above = [n + sum(1 for other in range(n) if other >= layer) for layer in range(n)]
    assert counts.separate_backwards(n, length, range(n)) == sum(above) * length
    assert counts.one_backward(n, length) == 2 * n * length
    assert counts.one_backward(n, length, weights=True) == 3 * n * length


@pytest.mark.parametrize(("total", "chosen"), [(25, 5), (24, 5), (3, 2), (33, 6)])
def test_timed_layers_lie_evenly_among_all(total, chosen):
    layers = measure.evenly(total, chosen)
    assert len(set(layers)) == chosen
    assert set(layers) <= set(range(total))
    assert np.mean(layers) == pytest.approx((total - 1) / 2, abs=0.5)


def test_the_readmes_table_is_made_from_the_files(folder, told):
    text = "before\n<!-- speed -->\nold\n<!-- /speed -->\nafter"
    made = readme.updated(text, readme.speed(folder))
    assert made.startswith("before\n<!-- speed -->\n")
    assert made.endswith("\n<!-- /speed -->\nafter")
    assert "old" not in made
    table = [line for line in made.splitlines() if line.startswith("| ")][1:]
    ways = [row["name"] for name in readme.SHOWN for one in told[name]["comparisons"]
            for row in one["rows"][1:]]  # fmt: skip
    assert [line.split(" | ")[3] for line in table] == ways
    assert len({line.count("|") for line in table}) == 1
    with pytest.raises(ValueError, match="put these two lines"):
        readme.updated("no markers", "table")


def test_a_target_is_told_as_reached_or_not():
    row = {"cost": False, "target": 14, "ratio": {"median": 13.9, "lowest": 12, "highest": 15}}
    assert tables._target(row) == "at least 14: not reached"
    assert tables._ratio(row) == "13.9x [12.0, 15.0]"
    ratio = {"median": 1 / 1.05, "lowest": 1 / 1.2, "highest": 1.0}
    row = {"cost": True, "target": 1.1, "ratio": ratio}  # what irlib costs of the least possible
    assert tables._target(row) == "at most 1.1: reached"
    assert tables._ratio(row) == "irlib takes 1.05 of it [1.00, 1.20]"
    assert tables._target(row | {"target": None}) == ""


def test_the_plot_against_size_shows_both_ways_and_says_what_is_extrapolated(told):
    comparisons = []
    for varied, layers, image in [("layers", 2, 36), ("layers", 4, 36), ("image tokens", 2, 64)]:
        one = json.loads(json.dumps(told["size"]["comparisons"][0]))
        one["rows"][1]["timed"] = f"2 of {layers + 1} layers"
        tokens = one["tokens"] | {"image": image}
        comparisons.append(one | {"varied": varied, "layers": layers, "tokens": tokens})
    figure = size.plot(size.table(comparisons, "cpu"), clock="cpu")
    left, right = figure.axes
    assert [list(line.get_xdata()) for line in left.lines] == [[2, 4]] * 2
    assert [list(line.get_xdata()) for line in right.lines] == [[64]] * 2
    assert "extrapolated" in "".join(text.get_text() for text in figure.texts)


def test_only_one_cpu_thread_is_measured_in_cpu_seconds():
    assert SETTINGS.clock == "cpu"
    assert replace(SETTINGS, threads=2).clock == "wall"
    assert replace(SETTINGS, device="cuda").clock == "wall"


def test_the_command_prints_the_table_and_a_quick_run_leaves_no_file(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(command, "RESULTS", tmp_path / "results")
    command.main(run.SCRIPTS, ["--quick", "--only", "attention"])
    printed = capsys.readouterr().out
    assert "| Attention flow, all layers | random LLaVA, 2 layers, hidden 64 |" in printed
    assert not (tmp_path / "results").exists()
