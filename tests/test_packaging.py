"""The package: pins, environments, names and what an import costs."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import distribution, version

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import irlib
from irlib import store

PROJECT = tomllib.loads((store.root() / "pyproject.toml").read_text())["project"]
PINS = {
    canonicalize_name(line.split("==")[0]): line.split("==")[1].split(";")[0].strip()
    for line in (store.root() / "constraints.txt").read_text().splitlines()
    if line and not line.startswith("#")
}


def needed(extra: str) -> dict[str, Requirement]:
    """Everything that irlib[extra] brings along on this machine, as its packages tell."""
    found = {}
    waiting = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"][extra]]
    waiting = [(Requirement(text), ("",)) for text in waiting]
    while waiting:
        wanted, extras = waiting.pop()
        if wanted.marker and not any(wanted.marker.evaluate({"extra": e}) for e in extras):
            continue
        name = canonicalize_name(wanted.name)
        if (name, *sorted(wanted.extras)) in found:
            continue
        found[(name, *sorted(wanted.extras))] = wanted
        for text in distribution(name).requires or ():
            waiting.append((Requirement(text), ("", *wanted.extras)))
    return {name: wanted for (name, *_), wanted in found.items()}


@pytest.mark.parametrize("extra", ["test", "site"])
def test_every_package_that_comes_along_is_pinned_to_what_is_tested_here(extra):
    if extra == "site":
        pytest.importorskip("myst_nb", reason="what makes the site is not installed: irlib[site]")
    # a CUDA build of torch brings packages that torch itself pins
    brought = {n for n in needed(extra) if not n.startswith(("nvidia-", "cuda-", "triton"))}
    assert sorted(brought - PINS.keys()) == []
    here = {name: version(name).split("+")[0] for name in brought}
    assert {n: v for n, v in here.items() if PINS[n] != v} == {}


def test_pins_are_exact_and_torch_has_no_local_tag():
    lines = (store.root() / "constraints.txt").read_text().splitlines()
    for line in lines:
        assert line.startswith("#") or re.fullmatch(r"[\w.-]+==[\w.]+(; .+)?", line), line
    assert PINS["torch"] == "2.13.0"
    assert "torchvision" not in PINS


def test_the_users_eight_packages_are_asked_for_by_name():
    asked = {Requirement(text).name for text in PROJECT["dependencies"]}
    eight = "torch transformers jupyterlab ipywidgets matplotlib papermill nbval datasets"
    assert set(eight.split()) <= asked


def test_the_pins_satisfy_what_is_asked_for():
    extras = PROJECT["optional-dependencies"]
    for text in PROJECT["dependencies"] + extras["test"] + extras["site"]:
        wanted = Requirement(text)
        assert wanted.specifier.contains(PINS[canonicalize_name(wanted.name)]), text


def test_the_conda_environment_is_python_pip_and_the_project():
    told = yaml.safe_load((store.root() / "environment.yml").read_text())
    python, pip, packages = told["dependencies"]
    assert PROJECT["requires-python"] == ">=3.11"
    assert (python, pip) == ("python=3.11", "pip")
    assert packages == {"pip": ["-c constraints.txt", "-e .[test]"]}


def test_there_are_at_most_eighteen_public_names_and_each_is_there():
    assert len(irlib.__all__) == len(set(irlib.__all__)) <= 18
    for name in irlib.__all__:
        assert callable(getattr(irlib, name)), name
    with pytest.raises(
        AttributeError, match="irlib has no 'magic'; it has attention_flow, attention_map"
    ):
        irlib.magic  # noqa: B018


def test_importing_irlib_and_scoring_load_neither_torch_nor_matplotlib_nor_nltk():
    heavy = "{'torch', 'transformers', 'matplotlib', 'papermill', 'ipywidgets', 'nltk'}"
    rooms = "irlib, irlib.scores.counting, irlib.tasks.loading"
    code = f"import sys, {rooms}; print({heavy} & sys.modules.keys())"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "set()\n"


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (
            '[ "$1" = --version ] && echo Python 3.10.4',
            "is Python 3.10.4; name another",
        ),
        ('case "$*" in *ensurepip*) exit 1;; esac', "has no venv with pip"),
    ],
)
def test_make_refuses_a_python_that_will_not_do_with_a_sentence(tmp_path, script, message):
    python = tmp_path / "python3"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_bytes((store.root() / name).read_bytes())
    told = subprocess.run(
        ["make", "figures", f"PYTHON={python}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode != 0
    assert message in told.stdout
    assert not (tmp_path / ".venv").exists()


def test_ci_runs_the_commands_of_the_readme():
    script = (store.root() / ".ci/run").read_text()
    called = [line.split()[1] for line in script.splitlines() if line.startswith("make ")]
    assert called == ["test", "figures", "smol-trial", "check-figures"]
    flow = yaml.safe_load((store.root() / ".github/workflows/ci.yml").read_text())
    runs = [step["run"] for step in flow["jobs"]["ci"]["steps"] if "run" in step]
    assert runs == [".ci/run"]


def test_the_floors_are_tried_as_they_stand_in_the_project():
    names = "numpy pandas pillow matplotlib"
    script = (store.root() / ".ci/floors").read_text()
    assert f"python3 .ci/floors.py {names} >" in script
    order = [sys.executable, store.root() / ".ci/floors.py", *names.split()]
    made = subprocess.run(order, capture_output=True, text=True, check=True).stdout.splitlines()
    pins = (store.root() / "constraints.txt").read_text().splitlines()
    asked = {text.replace(">=", "==") for text in PROJECT["dependencies"]}
    moved = [new for new, pin in zip(made, pins, strict=True) if new != pin]
    assert sorted(new.split("==")[0] for new in moved) == sorted(names.split())
    assert set(moved) <= asked
    flow = yaml.safe_load((store.root() / ".github/workflows/ci.yml").read_text())
    runs = [step["run"] for step in flow["jobs"]["floors"]["steps"] if "run" in step]
    assert runs == [".ci/floors"]


def test_ci_counts_what_passed_in_every_step(tmp_path):
    (tmp_path / ".ci").mkdir()
    script = tmp_path / ".ci/run"
    script.write_bytes((store.root() / ".ci/run").read_bytes())
    script.chmod(0o755)
    (tmp_path / "Makefile").write_text(
        "test:\n\t@echo '12 passed, 3 skipped, 1 warning in 65.43s (0:01:05)'\n"
        "\t@echo '11 passed in 2.00s'\n"
        "figures:\n\t@echo '10 passed, 0 failed'\n"
        "smol-trial:\n\t@echo '1 passed, 0 failed'\n"
        "check-figures:\n\t@echo '9 passed, 1 failed'; exit 1\n"
    )
    told = subprocess.run([script], capture_output=True, text=True, check=False)
    assert told.returncode != 0
    assert told.stdout.splitlines()[-1] == "43 passed, 1 failed, 3 skipped"


def test_citation_names_the_paper_and_this_project():
    told = yaml.safe_load((store.root() / "CITATION.cff").read_text())
    assert told["title"] == "irlib"
    assert told["version"] == irlib.__version__
    assert "2406.06579" in told["references"][0]["url"]


def told_by(*command: str) -> str:
    run = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=True)
    return run.stdout


def test_the_command_alone_prints_its_commands_and_the_package_runs_as_it():
    assert "reproduce" in told_by("-m", "irlib")
    assert told_by("-m", "irlib", "--version") == f"irlib {irlib.__version__}\n"
