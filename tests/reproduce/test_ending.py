"""Whatever happens to a run: nothing of it goes on, nothing foreign is run, nothing lies twice."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest
from nbformat import v4

from irlib import cli, store
from irlib.reproduce import ending, jobs, runner

KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
FIGURE = """import matplotlib.pyplot as plt, pandas as pd
from irlib import save_figure
from irlib.evidence import mean_effect
figure, axes = plt.subplots()
axes.plot([1, 2])
table = pd.DataFrame({"n": [1.0 / 3 + shift] * 9})
save_figure(figure, "fig1_toy", table, profile=profile, parameters={})
print("the answer is", 42)
print("it holds:", mean_effect(pd.Series([1.0, 2.0] * 5)))
figure"""
PARAMETERS = 'profile: str = "mini"\nshift: float = 0.0'
SLOW = """import subprocess, sys, time
from pathlib import Path
deaf = "import signal, time; signal.signal(2, signal.SIG_IGN); time.sleep(600)"
subprocess.Popen([sys.executable, "-c", deaf], start_new_session=True)
time.sleep(2)  # until it is deaf
Path({ready!r}).write_text("x")
while True:
    try:
        time.sleep(600)
    except KeyboardInterrupt:
        if not {stubborn}:
            raise"""


def write(folder: Path, *code: str, parameters: str = PARAMETERS) -> Path:
    """A notebook of these cells as the only one of a project; the project's notebooks."""
    folder.mkdir(exist_ok=True)
    cells = [v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})]
    cells += [v4.new_code_cell(source) for source in code]
    book = v4.new_notebook(cells=cells, metadata={"kernelspec": KERNEL})
    nbformat.write(book, folder / "fig1_toy.ipynb")
    return folder


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.setenv("IRLIB_FIGURES", str(tmp_path / "figures"))
    monkeypatch.setenv("IRLIB_RESULTS", str(tmp_path / "results"))


def run(folder: Path, **options) -> runner.Outcome:
    [outcome] = runner.run(jobs.plan(notebooks=folder, **options))
    assert outcome.failure == ""
    return outcome


def lying(folder: Path) -> dict[str, tuple[bytes, int]]:
    """The files of the figure that lie in a folder, each by its bytes and its inode."""
    return {path.name: (path.read_bytes(), path.stat().st_ino) for path in folder.glob("fig1*")}


def test_a_figure_is_left_as_it_was_by_a_second_run_and_trials_lie_apart(tmp_path, capsys):
    folder, mini = write(tmp_path / "notebooks", FIGURE), tmp_path / "figures/mini"
    first = run(folder)
    assert not first.kept
    assert first.figure == mini / "fig1_toy.png"
    assert first.said == (
        "the answer is 42",
        "it holds: 1.5 [1.12, 1.88], n = 10",
    )
    there = lying(mini)
    second = run(folder)
    assert second.kept
    assert lying(mini) == there
    trial = run(folder, settings={"shift": "0.000001"})
    assert trial.figure == tmp_path / "figures/trials/fig1_toy.png"
    assert json.loads(trial.figure.with_suffix(".json").read_text())["set"] == {"shift": 1e-6}
    out = run(folder, settings={"shift": "0.1"}, out=tmp_path / "mine", pdf=True)
    assert sorted(lying(tmp_path / "mine")) == [
        f"fig1_toy.{kind}" for kind in ("csv", "json", "pdf", "png")
    ]
    assert lying(mini) == there
    cli._report([second, out])
    told = capsys.readouterr().out
    assert "mini/fig1_toy.png, left as it was: the numbers agree\n    the answer is 42\n" in told
    assert "mine/fig1_toy.png\n" in told


def test_nothing_in_the_current_folder_is_executed_and_what_lies_beside_a_notebook_is(
    tmp_path, monkeypatch
):
    here = tmp_path / "here"
    here.mkdir()
    for name in ("papermill", "jupyter", "random", "json", "nbformat", "irlib", "sitecustomize"):
        (here / f"{name}.py").write_text(f"open({str(tmp_path / 'foreign')!r}, 'w')")
    monkeypatch.chdir(here)
    empty = os.pathsep.join(["", str(store.root()), ""])  # an empty entry is the current folder
    monkeypatch.setenv("PYTHONPATH", empty)
    folder = write(tmp_path / "notebooks", "import beside\nassert beside.N == 3", FIGURE)
    (folder / "beside.py").write_text("N = 3")
    run(folder)
    assert not (tmp_path / "foreign").exists()


def marked(mark: str) -> list[psutil.Process]:
    """Every process that has the mark in its environment and is no zombie."""
    found = []
    for one in psutil.process_iter():
        try:
            if one.environ().get("TEST_MARK") == mark and one.status() != psutil.STATUS_ZOMBIE:
                found.append(one)
        except psutil.Error:
            continue
    return found


SCRIPT = """import sys
from pathlib import Path
from irlib import cli
from irlib.reproduce import jobs
jobs.plan.__kwdefaults__["notebooks"] = Path({folder!r})
sys.exit(cli.main(["reproduce", "fig1"]))"""


@pytest.mark.parametrize(
    ("number", "stubborn"),
    [(signal.SIGINT, False), (signal.SIGTERM, True)],  # a kernel that obeys, and one that does not
)
def test_a_signal_ends_the_notebooks_their_kernels_and_all_that_these_started(
    number, stubborn, tmp_path
):
    ready, mark = tmp_path / "ready", str(tmp_path)
    folder = write(tmp_path / "notebooks", SLOW.format(ready=str(ready), stubborn=stubborn))
    order = [sys.executable, "-c", SCRIPT.format(folder=str(folder))]
    setting = {**os.environ, "TEST_MARK": mark, "PYTHONPATH": str(store.root())}
    with subprocess.Popen(order, env=setting, stderr=subprocess.PIPE, text=True) as run:
        try:
            patience = time.monotonic() + 120
            while not ready.exists() and run.poll() is None and time.monotonic() < patience:
                time.sleep(0.1)
            assert len(marked(mark)) >= 4  # the command, a notebook, its kernel, its own child
            run.send_signal(number)
            told = run.communicate(timeout=120)[1]
            assert run.returncode == 128 + number
            assert marked(mark) == []
        finally:
            for one in marked(mark):
                one.kill()
    name = signal.Signals(number).name
    assert told.splitlines()[-1].startswith(f"irlib: stopped by {name}; no process of it is left")
    assert "Traceback" not in told


def test_a_second_run_of_a_figure_is_told_of_the_first_and_nothing_is_run(tmp_path, monkeypatch):
    folder = write(tmp_path / "notebooks", FIGURE)
    planned = jobs.plan(notebooks=folder)
    monkeypatch.setattr(runner, "_run_one", lambda *_: pytest.fail("a notebook was run"))
    with (
        ending.locked([planned[0].copy.with_suffix(".lock")]),
        pytest.raises(BlockingIOError, match=r"fig1_toy was to be drawn into .*; another run is"),
    ):
        runner.run(planned)
    others = jobs.plan(notebooks=folder, out=tmp_path / "other")
    monkeypatch.setattr(
        runner, "_run_one", lambda job, *_: runner.Outcome(stem=job.stem, minutes=0)
    )
    assert len(runner.run(others) + runner.run(planned)) == 2  # elsewhere, and after it ended


def test_a_lock_is_let_go_of_as_soon_as_its_figure_is_there_and_after_an_interrupt(
    tmp_path, monkeypatch
):
    folder = write(tmp_path / "notebooks", FIGURE)
    (folder / "fig2_toy.ipynb").write_bytes((folder / "fig1_toy.ipynb").read_bytes())
    first, second = planned = jobs.plan(notebooks=folder)

    def pretend(job, *_):
        if job == second:
            patience = time.monotonic() + 30
            while time.monotonic() < patience:
                try:
                    with ending.locked([first.copy.with_suffix(".lock")]):
                        raise KeyboardInterrupt
                except BlockingIOError:
                    time.sleep(0.05)
        return runner.Outcome(stem=job.stem, minutes=0)

    monkeypatch.setattr(runner, "_run_one", pretend)
    with pytest.raises(KeyboardInterrupt):
        runner.run(planned, workers=1)
    with ending.locked([job.copy.with_suffix(".lock") for job in planned]):
        pass


@pytest.mark.parametrize("name", ["results", "figures"])
def test_a_folder_that_cannot_be_made_is_told_before_anything_runs(name, tmp_path, monkeypatch):
    (tmp_path / name).write_text("a file is in the way")
    monkeypatch.setattr(runner, "_run_one", lambda *_: pytest.fail("a notebook was run"))
    planned = jobs.plan(notebooks=write(tmp_path / "notebooks", FIGURE))
    with pytest.raises(OSError, match=rf"asked to write .*{name}.*; choose|make room or choose"):
        runner.run(planned)


def test_signals_are_as_they_were_after_a_command(capsys):
    before = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    assert cli.main(["list", "figures"]) == 0
    assert [
        signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    ] == before
