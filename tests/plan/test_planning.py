"""A plan is held to the notebooks themselves: each is run, and what it calls is counted."""

import re
from collections import Counter
from dataclasses import replace

import matplotlib.pyplot as plt
import nbformat
import pytest

import irlib
from irlib import cli, interventions, load_task, store
from irlib.evidence import across, claims, heat, kept, readable, restoration, routes, rulers, swaps
from irlib.models.families import VICUNA
from irlib.models.vlm import VLM
from irlib.plan import costs
from irlib.plan.draws import rows_of
from irlib.plan.planning import estimate
from irlib.plan.runs import RUNS, Run, runs
from irlib.reproduce import jobs
from irlib.reproduce.parameters import declared as parameters_of

FOLDER, FIGURES = store.root() / "notebooks", jobs.stems()
SMALL = {
    "n": 3, "few": 2, "captions": 2, "copies": 2, "shown": 1, "seed": 3, "explained": 2,
    "depths": 2,
    "beside": [], "models": ["mini-llava"], "published": ["LLaVA-1.5"],
    "controls": ["mini-instructblip"],  # it reads the words of another: its tokens are the same
}  # fmt: skip


def called(stem, parameters, monkeypatch) -> Counter:
    """What a notebook's cells call, run in this process with these parameters."""
    counts = Counter()

    def counting(place, name, tell):
        inner = getattr(place, name)

        def outer(*args, **kwargs):
            before = counts.copy()
            found = inner(*args, **kwargs)
            counts.clear()  # what an instrument calls inside is its own
            counts.update(before + Counter(tell(args, kwargs)))
            return found

        monkeypatch.setattr(place, name, outer)

    def swept(args, kwargs):
        layers = kwargs.get("layers")
        how = "all" if layers is None else f"{len(layers)} of them"
        return {("sweep", args[1][0].task, how): len(args[1])}

    monkeypatch.setattr(irlib, "save_figure", lambda *_, **__: counts.update({"saved": 1}))
    counting(irlib, "attention_flow", lambda *_: {"flows": 1})
    counting(irlib, "attention_map", lambda *_: {"flows": 1})
    counting(irlib, "llava_cam", lambda _, kwargs: {"cams": kwargs.get("n", 1)})
    counting(VLM, "answer", lambda args, _: {"answers": len(args[1])})
    for place in (irlib, across, routes):
        counting(place, "sweep", swept)

    def made(maps):  # a backward for features, one for weights and embeddings
        slopes = any(" " in name and name in heat.SLOPED for name in maps)
        slopes += bool({"attention x gradient", "gradient norm"} & {*maps})
        return {"answers": 1, "flows": int("attention" in maps), "cams": slopes}

    def explained(args, kwargs):  # of each sample, in and out of each size; all and none
        maps, sizes, layers = args[2], kwargs.get("sizes", (1, 4)), kwargs.get("layers", ())
        rankings = len(maps) + len(layers) * sum(name in heat.LAYERED for name in maps)
        each = made(maps) | {"tested": bool(sizes) * (2 + 2 * len(sizes) * rankings)}
        each["alone"] = maps.count("leave one out")
        return {name: count * len(args[1]) for name, count in each.items() if count}

    def enough(args, kwargs):
        rankings, layers, counts = args[2], kwargs["layers"], kwargs["counts"]
        each = made([name for name in rankings if name != kept.LAST_ROW])
        each["flows"] += kept.LAST_ROW in rankings
        each["tested"] = len(layers) * (len(rankings) * len(counts) + 1)
        return {name: count * len(args[1]) for name, count in each.items() if count}

    counting(rulers, "faithfulness", explained)
    counting(kept, "top_tokens", enough)
    counting(swaps, "own_box", lambda args, _: dict.fromkeys(("answers", "cams"), 2 * len(args[1])))
    ways = {"answers": 1, "tested": 3}  # masked, removed, replaced by an average
    counting(routes, "likely", lambda args, _: {k: len(args[1]) * n for k, n in ways.items()})
    counting(
        readable, "readable", lambda args, _: {"answers": len(args[1]), "flows": 2 * len(args[1])}
    )

    def patched(args, _):  # two runs of each pair; three segments and the image hidden
        both = 2 * len(args[1])
        return {"answers": both, ("sweep", "own", "all"): 4 * both}

    counting(restoration, "restoration", patched)
    for place in (routes, interventions):
        counting(place, "image_means", lambda args, _: {"tested": len(args[1])})
    scope = {"display": lambda *_: None}
    for cell in nbformat.read(FOLDER / f"{stem}.ipynb", as_version=4).cells:
        if cell.cell_type == "code":
            exec(cell.source, scope)
            if "parameters" in cell.metadata.get("tags", ()):
                scope |= parameters
    plt.close("all")
    return counts


def few(stated: claims.Claims) -> claims.Claims:
    """The claims on two rows a table."""
    tables = {name: told | {"mini": 2} for name, told in stated.rows["tables"].items()}
    entries = [
        replace(one, options={**one.options, "pictures": {"mini": 2}}) if one.options else one
        for one in stated.entries
    ]
    return replace(stated, rows={**stated.rows, "tables": tables}, entries=tuple(entries))


@pytest.mark.parametrize("stem", FIGURES)
def test_a_notebook_calls_what_its_entry_says(stem, monkeypatch, tmp_path):
    monkeypatch.setenv("IRLIB_RESULTS", str(tmp_path))
    monkeypatch.chdir(FOLDER)
    declared = parameters_of(FOLDER / f"{stem}.ipynb")
    stated = claims.read(FOLDER / "claims.yaml")
    parameters = {name: value for name, (_, value) in declared.items()}
    parameters |= {name: value for name, value in SMALL.items() if name in declared}
    parameters |= {"seed": 0} if stem == "claims" else {}  # no other rows judge
    monkeypatch.setattr(claims, "read", lambda *_, **__: few(stated))
    told = Counter({"saved": 1})
    for run in runs(stem, parameters):
        rows = len(rows_of(run, parameters["source"])[0])
        kinds = ("answers", "flows", "cams", "tested", "alone")
        told.update({name: rows * getattr(run, name) for name in kinds})
        if run.sweep:
            how = "all" if run.sweep == "all" else "1 of them"
            told[("sweep", run.task, how)] += rows
    assert called(stem, parameters, monkeypatch) == +told


def test_every_figure_is_counted_and_no_other():
    assert list(RUNS) == jobs.stems()
    with pytest.raises(ValueError, match=r"what explore runs; counted are claims.*; name one"):
        runs("explore", {})


def test_rows_of_the_hub_are_drawn_as_rows_that_are_here(monkeypatch):
    from irlib.plan import draws

    run = Run(task="scienceqa", n=7, seed=5, which="all", per_picture=1)
    here = sorted(sample.key for sample in irlib.load_task("scienceqa"))
    known = draws.ON_HUB["scienceqa"]
    like = draws.Task(**vars(known) | {"rows": len(here)})
    monkeypatch.setattr(draws, "ON_HUB", {"scienceqa": like})
    draws._drawn.cache_clear()
    try:
        numbers, _ = rows_of(run, "hub")
        keys, _ = rows_of(run, "bundled")
    finally:
        draws._drawn.cache_clear()
    assert [here[place] for place in numbers] == list(keys)


def test_rows_that_two_notebooks_sweep_are_counted_once():
    stems = ["fig5_truncation", "fig9_no_picture_needed", "table1_generalisation"]
    settings = {"n": 20, "seed": 0}
    plan = estimate(jobs.plan(stems, settings=settings))
    mine = [line for line in plan.lines if line.model == "mini-llava"]
    kept = {(line.stem, line.task, line.rows): line.kept for line in mine}
    assert kept["fig5_truncation", "scienceqa", 20] == 0
    assert kept["fig9_no_picture_needed", "scienceqa", 20] == 20
    assert kept["table1_generalisation", "scienceqa", 20] == 20
    assert all(line.flops == line.read == 0 for line in mine if line.kept == line.rows)
    other = estimate(jobs.plan(["fig9_no_picture_needed"], settings={"n": 20, "seed": 1}))
    assert other.lines[0].flops > 0
    # another number of rows by the same seed: only those are new that were not drawn before
    two = estimate(jobs.plan(stems[:1], settings={"n": 20}) + jobs.plan(stems[1:2]))
    again = two.lines[-1]
    assert again.kept == 20  # of a part the fewer are among the more


def test_a_line_costs_its_rows_times_one_row():
    plan = estimate(jobs.plan(["fig3_cam_scienceqa"], settings={"copies": 5, "n": 10}))
    (line,) = plan.lines
    shape = plan.shapes["mini-llava"]
    samples = irlib.load_task("scienceqa", n=10, kind="food chain")
    after = round(sum(len(s.prompt) for s in samples) / 10 / 4.2) + 6
    before = round(len(VICUNA) / 4.2)
    prompt = costs.Prompt(before=before, image=64, after=after, new=1)
    assert line.rows == 10
    assert line.passes == 10 * (1 + 2 * 5)
    assert line.flops == 10 * (costs.answer(shape, prompt) + 5 * costs.cam(shape, prompt))
    assert line.peak == shape.weights + costs.cam_memory(shape, prompt)


@pytest.mark.parametrize("task", ["pope", "textvqa", "scienceqa", "chair"])
def test_the_tokens_taken_for_granted_are_near_those_of_the_bundle(task):
    from irlib.plan import planning

    vlm = irlib.load("mini-llava", device="cpu")
    run = runs("fig5_truncation", {"n": 12, "captions": 12, "seed": 0})
    rows, facts = rows_of(next(one for one in run if one.task == task), "bundled")
    _, prompt = planning._prompt("mini-llava", facts)
    samples = [s for s in irlib.load_task(task, n=12) if s.image is not None]
    text, said = [], []
    for sample in samples:
        inputs = vlm.prepare(sample)
        text.append(inputs.length - int(inputs.spans.image.sum()))
        said.append(len(vlm.answer(inputs).ids[0]))
    # the text is guessed from its characters; a picture is most of a prompt, and is counted
    assert prompt.length == pytest.approx(prompt.image + sum(text) / len(text), rel=0.15)
    assert prompt.new == pytest.approx(sum(said) / len(said), abs=1.5)
    assert len(rows) == 12


def test_the_paper_profile_is_planned_without_a_network(capsys, monkeypatch):
    import socket

    def refuse(*_, **__):
        raise AssertionError("a plan reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert (
        cli.main(
            ["plan", "--profile", "paper", "--tflops", "100", "--bandwidth", "1000", "--details"]
        )
        == 0
    )
    told = capsys.readouterr().out
    assert "llava-hf/llava-1.5-7b-hf: 32 layers, 576 tokens a picture, 14.1 GB of weights" in told
    assert "In all: 5 models, 92.4 GB of weights" in told
    assert "was to take" not in told  # rows are left to judge every cliff
    twice = jobs.plan((), profile="paper")
    hours = sum(line.flops for line in estimate(twice).lines) / 100e12 / 3600
    assert f"{hours:.3g} hours at 100 TFLOP/s" in told


def test_rows_that_the_hub_does_not_have_are_told_of(capsys):
    order = ["plan", "table1_generalisation", "--profile", "paper", "--set", "captions=501"]
    assert cli.main(order) == 0
    assert "table1_generalisation was to take 501 rows of chair" in capsys.readouterr().out


@pytest.mark.parametrize("speed", ["0", "-1", "fast", "inf", "nan"])
def test_a_speed_that_is_none_is_refused(speed, capsys):
    with pytest.raises(SystemExit):
        cli.main(["plan", "fig6_truncation_diagram", "--tflops", speed])
    assert "is not a number above 0" in capsys.readouterr().err


def test_an_unknown_checkpoint_ends_the_command_with_what_to_do(capsys):
    assert cli.main(["plan", "fig6_truncation_diagram", "--set", "model=nobody/has-this"]) == 1
    assert "download that one file" in capsys.readouterr().err


def test_shapes_of_the_profile_are_package_data():
    import tomllib

    import yaml

    told = yaml.safe_load((FOLDER / "profiles/paper.yaml").read_text())
    names = {told["all"]["model"], *told["table1_generalisation"]["models"]}
    kept = {p.stem.replace("--", "/") for p in (store.root() / "irlib/plan/shapes").glob("*.json")}
    assert names <= kept
    project = tomllib.loads((store.root() / "pyproject.toml").read_text())
    assert "shapes/*.json" in project["tool"]["setuptools"]["package-data"]["irlib.plan"]


def test_a_plan_is_a_line_a_figure_in_whole_minutes_and_gigabytes(capsys):
    order = ["plan", "fig1", "fig5", "--profile", "paper", "--tflops", "100", "--bandwidth", "1000"]
    assert cli.main(order) == 0
    lines = capsys.readouterr().out.splitlines()
    planned = estimate(jobs.plan(["fig1", "fig5"], profile="paper"))
    assert lines[0].startswith("fig1_information_flow ")
    assert lines[1].startswith("fig5_truncation ")
    for line, stem in zip(lines, ("fig1_information_flow", "fig5_truncation"), strict=False):
        mine = [one for one in planned.lines if one.stem == stem]
        seconds = sum(one.flops / 100e12 + one.read / 1000e9 for one in mine)
        told = re.search(r"(\d+) min +(\d+) GB", line)
        assert int(told[1]) == pytest.approx(seconds / 60, rel=0.05, abs=0.5)
        assert int(told[2]) == pytest.approx(max(one.peak for one in mine) / 1e9, rel=0.05)
    assert "--details" in lines[-1]


def test_a_table_of_ones_own_is_planned(tmp_path, capsys):
    rows = load_task("pope", n=4)
    for place, sample in enumerate(rows):
        sample.image.open().save(tmp_path / f"{place}.png")
    told = [f"{place}.png,{sample.question},yes" for place, sample in enumerate(rows)]
    (tmp_path / "my.csv").write_text("image,question,answer\n" + "\n".join(told))
    assert cli.main(["plan", "fig5", "--set", f"source={tmp_path / 'my.csv'}"]) == 0
    told = capsys.readouterr().out
    assert "3 models, 12 rows" in told
    assert "was to take" not in told
