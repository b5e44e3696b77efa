"""Dask workers: the in-process table bit for bit, though one of them is killed in the middle."""

import logging
import os
import signal
import subprocess
import sys

import pytest
from conftest import make_sample, noise_picture
from pandas.testing import assert_frame_equal

from irlib import cli
from irlib.reproduce import runner
from irlib.sweeps import engines, filling
from irlib.sweeps.table import sweep

QUESTIONS = ("What is in the picture?", "Is there a red cat?", "Describe it.")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("IRLIB_RESULTS", str(tmp_path / "results"))
    monkeypatch.delenv("IRLIB_FRESH", raising=False)
    monkeypatch.delenv("IRLIB_SCHEDULER", raising=False)


@pytest.fixture(scope="module")
def cluster():
    """A scheduler and two worker processes of one thread and one GPU's tag, on this machine."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1",
        dashboard_address=None, resources={"GPU": 1}, silence_logs=logging.CRITICAL,
    ) as running:  # fmt: skip
        yield running


def test_two_workers_give_the_table_of_this_process_though_one_is_killed_in_the_middle(
    tiny_llava, cluster, monkeypatch, tmp_path
):
    many = [
        make_sample(noise_picture(40 + i, 50, seed=i), QUESTIONS[i % 3], f"s{i}") for i in range(24)
    ]
    wanted = sweep(tiny_llava, many, batch_size=2, progress=False, store=False)
    workers = cluster.scheduler_info["workers"]
    assert len(workers) == 2
    assert all(address.startswith("tcp://127.0.0.1:") for address in workers)
    victim, kept, real = next(iter(cluster.workers.values())).pid, [], filling._keep

    def keep_and_kill(*args):
        kept.append(1)
        if len(kept) == 3:
            os.kill(victim, signal.SIGKILL)
        return real(*args)

    monkeypatch.setattr(filling, "_keep", keep_and_kill)
    monkeypatch.setenv("IRLIB_SCHEDULER", cluster.scheduler_address)  # as notebooks are told
    found = sweep(tiny_llava, many, batch_size=2, progress=False)
    assert_frame_equal(found, wanted, check_exact=True)
    assert len(kept) == 12
    with pytest.raises(ProcessLookupError):
        os.kill(victim, 0)  # it did die, and another process has its place
    broken = make_sample(tmp_path / "nowhere.png", key="lost")
    with pytest.raises(ValueError, match=r"found 1 that could not be had \(24 are kept") as told:
        sweep(tiny_llava, [*many, broken], batch_size=2, progress=False)
    assert "pope lost: FileNotFoundError" in str(told.value)


def test_a_worker_with_a_gpu_is_asked_for_it(cluster):
    with engines.connect(cluster.scheduler_address) as executor:
        assert executor._kwargs["resources"] == {"GPU": 1}


def test_a_scheduler_that_does_not_answer_is_told_before_a_notebook_runs(monkeypatch, capsys):
    monkeypatch.setattr(runner, "_run_one", lambda *_: pytest.fail("a notebook was run"))
    with pytest.raises(ConnectionError, match="start one with `dask scheduler"):
        engines.reach("tcp://127.0.0.1:9", timeout=0.5)
    with pytest.raises(ConnectionError, match=r"asked for the scheduler at nonsense://x"):
        engines.reach("nonsense://x", timeout=0.5)
    reach = engines.reach
    monkeypatch.setattr(engines, "reach", lambda address: reach(address, timeout=0.5))
    order = ["reproduce", "fig1_information_flow", "--scheduler", "tcp://127.0.0.1:9"]
    assert cli.main(order) == 1
    assert "asked for the scheduler at tcp://127.0.0.1:9" in capsys.readouterr().err


def test_without_the_extra_the_package_is_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "distributed", None)
    order = ["reproduce", "fig1_information_flow", "--scheduler", "tcp://127.0.0.1:9"]
    assert cli.main(order) == 1
    assert "found no package distributed; install the extra" in capsys.readouterr().err


def test_notebooks_are_told_the_scheduler_and_go_one_at_a_time(monkeypatch, tmp_path):
    seen = []

    def pretend(job, setting, _):
        seen.append((setting["IRLIB_SCHEDULER"], setting["OMP_NUM_THREADS"]))
        return runner.Outcome(stem=job.stem, minutes=0)

    monkeypatch.setenv("IRLIB_FIGURES", str(tmp_path))
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(runner, "_run_one", pretend)
    monkeypatch.setattr(engines, "reach", lambda address: None)
    job = runner.Job(
        notebook=tmp_path / "a.ipynb", copy=tmp_path / "a/a.ipynb", parameters={}, outputs=()
    )
    runner.run([job], scheduler="tcp://127.0.0.1:8786")
    runner.run([job])
    assert seen == [("tcp://127.0.0.1:8786", "8"), ("", "2")]


def test_an_executor_that_is_given_goes_before_the_scheduler(monkeypatch):
    monkeypatch.setenv("IRLIB_SCHEDULER", "tcp://127.0.0.1:9")
    mine = object()
    with engines.given(mine) as executor:
        assert executor is mine


def test_nothing_of_dask_is_loaded_unless_it_is_asked_for():
    load = "import sys; from irlib.sweeps import engines, filling"
    order = f"{load}; sys.exit('distributed' in sys.modules)"
    subprocess.run([sys.executable, "-c", order], check=True)


@pytest.mark.parametrize("address", ["", "127.0.0.1:8786"])
def test_an_address_that_is_none_is_refused(address, capsys):
    assert cli.main(["reproduce", "fig9_no_picture_needed", "--scheduler", address]) == 1
    assert "found no address in it; give the one that" in capsys.readouterr().err
