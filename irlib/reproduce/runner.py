"""Run notebooks strictly: checked before anything runs, one process each, their outputs fresh."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tqdm.auto import tqdm

from irlib import doors, store
from irlib.reproduce import copies
from irlib.reproduce.ending import Processes, locked
from irlib.store.files import ready
from irlib.sweeps import engines


@dataclass(frozen=True, kw_only=True)
class Job:
    """One notebook to run: what is set in it, where its copy goes, which files it must write.

    `hub` is what it fetches, `models` how many it loads one after the other.
    """

    notebook: Path
    copy: Path
    parameters: dict
    outputs: tuple[Path, ...]
    hub: tuple[str, ...] = ()
    models: int = 1

    @property
    def stem(self) -> str:
        """The name of everything about a figure."""
        return self.notebook.stem

    @property
    def folder(self) -> Path:
        """Where its figure goes."""
        return self.copy.parent.parent


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a notebook went: minutes, what failed, in words that fit a screen; else where its figure
    is, whether that was left as it was, and the sentences that came out."""

    stem: str
    minutes: float
    failure: str = ""
    figure: Path | None = None
    kept: bool = False
    said: tuple[str, ...] = ()


def run(
    jobs: Sequence[Job],
    *,
    workers: int | None = None,
    fresh: bool = False,
    scheduler: str | None = None,
) -> list[Outcome]:
    """Return how each job went; `workers` at once, each with its share of the processor's threads.

    Those with most models go first, so that the longest is not left alone at the end.
    A job fails on an error in a cell, on cells that never ran, and on an expected file that is
    missing or older than the run. `fresh` ignores the store. With `scheduler`, an address, its dask
    workers compute the sweeps, and jobs go one at a time: a worker has room for one model. However
    this ends, by an interrupt too, no process of a notebook is left. Raises, before anything runs,
    ConnectionError where a job needs the hub or the scheduler and it cannot be reached,
    BlockingIOError where another run draws one of the figures, OSError where results or figures
    cannot be written, ModuleNotFoundError for a scheduler without the extra irlib[dask].
    """
    names = sorted({name for job in jobs for name in job.hub})
    reach(names)
    if scheduler is not None:
        engines.reach(scheduler)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    workers = (1 if scheduler else min(4, cores)) if workers is None else workers
    workers = doors.count("workers", workers, least=1)
    threads = str(max(1, cores // workers))
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if path := os.pathsep.join(filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))):
        inherited["PYTHONPATH"] = path  # without empty entries: these are the current folder
    setting = {
        **inherited,
        **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads),
        **({} if names else {"HF_HUB_OFFLINE": "1"}),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",  # else bars land in the notebooks' outputs
        "IRLIB_FRESH": "1" if fresh else os.environ.get("IRLIB_FRESH", ""),
        "IRLIB_RESULTS": str(ready(store.results()).absolute()),
        "JUPYTER_PREFER_ENV_PATH": "1",  # the kernel of this environment, not the user's own
        "PYTHONHASHSEED": "0",
        engines.SCHEDULER: scheduler or os.environ.get(engines.SCHEDULER, ""),
        "TOKENIZERS_PARALLELISM": "false",
        "TQDM_DISABLE": "1",
    }
    outcomes = {}
    with (
        locked([job.copy.with_suffix(".lock") for job in jobs]) as locks,
        ThreadPoolExecutor(workers) as pool,
        Processes() as processes,
    ):
        longest = sorted(jobs, key=lambda job: -job.models)
        waiting = {pool.submit(_run_one, job, setting, processes): job for job in longest}
        try:
            for done in tqdm(as_completed(waiting), total=len(jobs), unit="notebook", disable=None):
                outcomes[waiting[done].stem] = done.result()
                locks[waiting[done].copy.with_suffix(".lock")].release()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    ordered = [outcomes[job.stem] for job in jobs]
    told = [
        {
            "stem": outcome.stem,
            "minutes": round(outcome.minutes, 2),
            "outcome": "failed" if outcome.failure else "done",
            "workers": workers,
            "threads": int(threads),
        }
        for outcome in ordered
    ]
    for folder in sorted({job.copy.parent for job in jobs}):
        stems = [job.stem for job in jobs if job.copy.parent == folder]
        copies.summarise(folder, [row for row in told if row["stem"] in stems])
    return ordered


def reach(names: Iterable[str]) -> None:
    """Raise ConnectionError unless the hub answers for every model or data set named."""
    import httpx2
    from huggingface_hub import HfApi

    for name in names:
        kind, _, repo = name.partition(":")
        try:
            HfApi().repo_info(repo, repo_type=kind, timeout=10)
        except (OSError, httpx2.HTTPError) as error:
            raise ConnectionError(
                f"the {kind} {repo} was asked for from the hub; it cannot be reached "
                f"({type(error).__name__}: {str(error).splitlines()[0]}); go online, or set model "
                "and source to local folders, or use --profile mini."
            ) from error


def _run_one(job: Job, setting: Mapping[str, str], processes: Processes) -> Outcome:
    """Run a job in a process of its own and look at what it left."""
    before = {path: _stamp(path) for path in job.outputs}
    start, receipt = time.monotonic(), job.copy.with_suffix(".json")
    job.copy.unlink(missing_ok=True)
    receipt.unlink(missing_ok=True)
    told = {"notebook": str(job.notebook), "copy": str(job.copy), "parameters": job.parameters}
    own = {"IRLIB_OUT": str(job.folder), "IRLIB_NOTEBOOK": str(job.notebook)}
    own |= {"IRLIB_SET": json.dumps(job.parameters)}
    own |= {"IRLIB_PDF": "1" if any(path.suffix == ".pdf" for path in job.outputs) else ""}
    code, stderr = processes.run(  # -P: nothing in the current folder is taken for a module
        [sys.executable, "-P", "-m", "irlib.reproduce.execution"],
        setting={**setting, **own},
        input=json.dumps(told),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    saved = {}
    with suppress(OSError, ValueError):
        saved = json.loads(receipt.read_text(encoding="utf-8"))
    named = {job.folder / f"{job.stem}.{kind}" for kind in saved.get("files", ())}
    fresh = [path for path in before if path in named or _stamp(path) != before[path]]
    stale = [path for path in before if path not in fresh or not path.is_file()]
    failure = copies.failure(job.notebook, job.copy, code, stderr, stale)
    return Outcome(
        stem=job.stem,
        minutes=(time.monotonic() - start) / 60,
        failure=failure,
        figure=job.outputs[0] if job.outputs else None,
        kept=saved.get("kept", False),
        said=() if failure else tuple(copies.said(job.copy)),
    )


def _stamp(path: Path) -> tuple[int, int] | None:
    """Return what changes when a file is replaced, whatever the clocks say; None without a file."""
    try:
        return path.stat().st_mtime_ns, path.stat().st_ino
    except FileNotFoundError:
        return None
