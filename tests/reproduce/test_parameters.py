"""Every parameter of every notebook has its range, and what lies outside is refused unrun."""

import json

import pytest

from irlib import cli, store
from irlib.reproduce import jobs, runner
from irlib.reproduce.parameters import RANGES, declared, depth

FOLDER = store.root() / "notebooks"
FREE = {
    "model",
    "models",
    "source",
    "profile",
    "published",
    "controls",
    "beside",
    "others",
    "kind",
    "ocr",
    "maps",
    "rankings",
}  # checked as what is there
TOLD = {
    path.stem: {name: value for name, (_, value) in declared(path).items()}
    for path in sorted(FOLDER.glob("*.ipynb"))
}
EACH = [(stem, name) for stem, told in TOLD.items() for name in told]


@pytest.mark.parametrize(("stem", "name"), EACH)
def test_every_parameter_of_every_notebook_states_what_it_may_be(stem, name):
    assert (name in FREE) != (name in RANGES or f"{stem}.{name}" in RANGES)


def outside(stem: str, name: str) -> list[object]:
    """Values just out of a parameter's range, and some that are of no use anywhere."""
    if name in FREE:
        told = TOLD[stem][name]
        wrong = {
            "source": ["bundle", "", " ", "nowhere/rows", "hub:", "hub:x", "Bundled", "/nowhere"],
            "profile": ["../../x", "", "/tmp/x", "a/b", ".."],
            "published": [[], ["LLaVA"] * len(told) if isinstance(told, list) else ""],
            "model": ["", ".", "..", "mini-lava", "nowhere/at/all", "../minis"],
            "models": [[], ["mini-llava"] * 2, [""], ["mini-lava"], [["mini-llava"]]],
            "ocr": ["maybe", "1", "None"],
        }
        return wrong.get(name, [])
    allowed = RANGES.get(f"{stem}.{name}", RANGES.get(name))
    if allowed.choices:
        several = [["pope", "pope"], ["pope", "vqa"], []]
        return several if name == "tasks" else ["vqa", "", "POPE", "pope ", "../pope"]
    top = 12 if allowed.in_model else allowed.most + 1e-9 if allowed.most == 1 else allowed.most + 1
    numbers = [allowed.least - 1, -(10**9), *([top] if top < 1e99 else [])]
    texts = ["1e999", "-1e999", "nan", "inf", "a", "", "None", "True"]
    if isinstance(TOLD[stem][name], list):
        return [[], *([number] for number in numbers), *texts, "1", "[None]", "[True]", "['a']"]
    return [*numbers, *texts, "[1]"]


@pytest.mark.parametrize(("stem", "name"), EACH)
def test_what_lies_outside_is_refused_in_words_before_anything_runs(
    stem, name, monkeypatch, capsys
):
    monkeypatch.setattr(runner, "run", lambda *_, **__: pytest.fail("a notebook was run"))
    for value in outside(stem, name):
        text = value if isinstance(value, str) else json.dumps(value)
        assert cli.main(["reproduce", stem, "--set", f"{name}={text}"]) == 1, value
        told = capsys.readouterr().err
        assert told.startswith("irlib: ")
        assert "Traceback" not in told
        assert told.count("; ") >= 1, told  # asked, found, what to do


@pytest.mark.parametrize(("stem", "name"), [one for one in EACH if one[1] not in FREE])
def test_both_ends_of_a_range_are_let_through(stem, name):
    allowed = RANGES.get(f"{stem}.{name}", RANGES.get(name))
    top = 11 if allowed.in_model else allowed.most if allowed.most < 1e99 else 10**6
    ends = [allowed.least, top] if not allowed.choices else [allowed.choices[-1]]
    for value in ends:
        value = [value] if isinstance(TOLD[stem][name], list) else value
        value = int(value) if type(TOLD[stem][name]) is int else value
        [job] = jobs.plan([stem], settings={name: value})
        assert job.parameters[name] == value


@pytest.mark.parametrize(
    ("order", "told"),
    [
        ("fig6 layer=0", "layer=0; there is nothing to draw then; set layer to 1 to 11 (the model"),
        ("fig6 layer=12", "set layer to 1 to 11 (the model has 12 layers)."),
        ("fig1 shallow=0", "fig1_information_flow was to be run with shallow=0"),
        ("fig1 shallow=12", "set shallow to 1 to 11 (the model has 12 layers)"),
        ("fig3 noise=-0.1", "set noise to 0 to 1"),
        (
            "fig3 seed=a",
            "seed was to be 'a', of type str; it is declared int; give a value of that",
        ),
        ("fig3 seed=-1", "set seed to 0 to 4.29497e+09"),
        ("fig1 n=0", "n=0; there is nothing to draw then; set n to 1 or more."),
        (
            "fig6 source=bundle",
            "no such folder or file; take bundled, hub, hub:OWNER/NAME, or a folder or",
        ),
        ("fig6 task=vqa", "set task to pope, textvqa, scienceqa, chair, each once"),
        ("explore layer=12", "set layer to 0 to 11 (the model has 12 layers)"),
    ],
)
def test_a_refusal_says_what_may_be_set(order, told, capsys):
    stem, setting = order.split()
    assert cli.main(["reproduce", stem, "--set", setting]) == 1
    assert told in capsys.readouterr().err


def test_the_default_of_every_notebook_is_within_its_range_and_every_profile_too():
    assert len(jobs.plan([*TOLD])) == len(TOLD)
    for profile in ("paper", "smol"):
        assert len(jobs.plan(profile=profile)) == len(TOLD) - 1


def test_a_depth_is_read_where_a_configuration_has_it_and_unknown_elsewhere(tmp_path):
    for told, layers in [
        ({"num_hidden_layers": 3}, 3),
        ({"num_hidden_layers": 2, "text_config": {"num_hidden_layers": 5}}, 5),
        ({"llm_config": {"num_hidden_layers": 7}, "vision_config": {"num_hidden_layers": 9}}, 7),
        ({"text_config": "x"}, None),
        ([], None),
    ]:
        (tmp_path / "config.json").write_text(json.dumps(told))
        assert depth(tmp_path) == layers
    (tmp_path / "config.json").write_text("{")
    assert depth(tmp_path) is None
    assert depth(tmp_path / "nowhere") is None
