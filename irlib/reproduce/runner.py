"""Run notebooks strictly: checked before anything runs, one process each, their outputs fresh."""

import ast
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

import nbformat
from tqdm.auto import tqdm

from irlib import store
from irlib.reproduce import copies
from irlib.sweeps import engines

KINDS = {"int": (int,), "float": (int, float), "str": (str,), "bool": (bool,)}


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


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a notebook went: minutes, and what failed, in words that fit a screen."""

    stem: str
    minutes: float
    failure: str = ""


def declared(notebook: Path) -> dict[str, tuple[str, object]]:
    """Return the parameters of a notebook: name -> (annotation, default).

    Raises ValueError unless exactly one cell is tagged `parameters` and every line of it reads
    `name: kind = literal  # help`, with a kind of int, float, str, bool or a list of one of them.
    """
    from papermill import inspect_notebook

    cells = nbformat.read(notebook, as_version=4).cells
    tagged = [cell for cell in cells if "parameters" in cell.metadata.get("tags", ())]
    if len(tagged) != 1:
        raise ValueError(
            f"{notebook.name} was to be run; {len(tagged)} of its cells are tagged parameters; tag "
            "exactly one."
        )
    found = {}
    try:
        for line in ast.parse(tagged[0].source).body:
            kind = ast.unparse(line.annotation)
            found[line.target.id] = kind, typed(ast.literal_eval(line.value), kind)
    except (AttributeError, SyntaxError, ValueError) as error:
        raise ValueError(
            f"{notebook.name} was to be run; its parameters cell does not read: {error}; write "
            "every line as `name: int = 3  # help` (int, float, str, bool, or a list of them)."
        ) from error
    if hidden := found.keys() ^ inspect_notebook(str(notebook)).keys():
        raise ValueError(
            f"{notebook.name} was to be run; papermill does not see {', '.join(sorted(hidden))} as "
            "a parameter; write it on one line, without `=` in the default."
        )
    return found


def typed(value: object, kind: str, name: str = "its default") -> object:
    """Return the value as the declared kind, text read as a literal; raise ValueError otherwise."""
    inner = kind.removeprefix("list[").removesuffix("]") if kind.startswith("list[") else None
    if (inner or kind) not in KINDS:
        raise ValueError(f"{name} is annotated {kind}; write int, float, str, bool or list[...].")
    if isinstance(value, str) and kind != "str":
        with suppress(SyntaxError, ValueError):  # other text stays, and is refused below
            value = ast.literal_eval({"true": "True", "false": "False"}.get(value, value))
    items = value if inner and isinstance(value, list) else [value]
    right = KINDS[inner or kind]
    if bool(inner) != isinstance(value, list) or not all(
        isinstance(item, right) and (bool in right or not isinstance(item, bool)) for item in items
    ):
        raise ValueError(
            f"{name} was to be {value!r}, of type {type(value).__name__}; it is declared {kind}; "
            "give a value of that kind."
        )
    return value


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
    workers compute the sweeps, and jobs go one at a time: a worker has room for one model. Raises
    ConnectionError, before anything runs, where a job needs the hub or the scheduler and it cannot
    be reached, ModuleNotFoundError for a scheduler without the extra irlib[dask].
    """
    names = sorted({name for job in jobs for name in job.hub})
    reach(names)
    if scheduler is not None:
        engines.reach(scheduler)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    workers = workers or (1 if scheduler else min(4, cores))
    threads = str(max(1, cores // workers))
    setting = {
        **os.environ,
        **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads),
        **({} if names else {"HF_HUB_OFFLINE": "1"}),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",  # else bars land in the notebooks' outputs
        "IRLIB_FIGURES": str(store.figures(".").absolute()),
        "IRLIB_FRESH": "1" if fresh else os.environ.get("IRLIB_FRESH", ""),
        "IRLIB_RESULTS": str(store.results().absolute()),
        "JUPYTER_PREFER_ENV_PATH": "1",  # the kernel of this environment, not the user's own
        "PYTHONHASHSEED": "0",
        engines.SCHEDULER: scheduler or os.environ.get(engines.SCHEDULER, ""),
        "TOKENIZERS_PARALLELISM": "false",
        "TQDM_DISABLE": "1",
    }
    outcomes = {}
    with ThreadPoolExecutor(workers) as pool:
        longest = sorted(jobs, key=lambda job: -job.models)
        waiting = {pool.submit(_run_one, job, setting): job.stem for job in longest}
        try:
            for done in tqdm(as_completed(waiting), total=len(jobs), unit="notebook", disable=None):
                outcomes[waiting[done]] = done.result()
        except KeyboardInterrupt:
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


def _run_one(job: Job, setting: dict[str, str]) -> Outcome:
    """Run a job in a process of its own and look at what it left."""
    before = {path: _stamp(path) for path in job.outputs}
    start = time.monotonic()
    job.copy.parent.mkdir(parents=True, exist_ok=True)
    job.copy.unlink(missing_ok=True)
    order = {"notebook": str(job.notebook), "copy": str(job.copy), "parameters": job.parameters}
    child = subprocess.run(
        [sys.executable, "-m", "irlib.reproduce.runner"],
        input=json.dumps(order),
        env=setting,
        capture_output=True,
        text=True,
        check=False,
    )
    stale = [path for path, stamp in before.items() if _stamp(path) in (None, stamp)]
    failure = copies.failure(job.notebook, job.copy, child.returncode, child.stderr, stale)
    return Outcome(stem=job.stem, minutes=(time.monotonic() - start) / 60, failure=failure)


def execute(order: Mapping) -> None:
    """Run one notebook by papermill, in its own folder, and put time and commit into its copy."""
    from papermill import execute_notebook
    from traitlets.config import Config

    config = Config()
    config.KernelManager.transport_encryption = "auto"  # else ipykernel warns in every copy
    notebook = Path(order["notebook"])
    started = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    done = execute_notebook(
        str(notebook),
        order["copy"],
        parameters=order["parameters"],
        kernel_name="python3",
        cwd=str(notebook.parent),
        progress_bar=False,
        config=config,
    )
    done.metadata["irlib"] = {"started": started, "commit": copies.commit()}
    store.write(Path(order["copy"]), nbformat.writes(done).encode())


def _stamp(path: Path) -> tuple[int, int] | None:
    """Return what changes when a file is replaced, whatever the clocks say; None without a file."""
    try:
        return path.stat().st_mtime_ns, path.stat().st_ino
    except FileNotFoundError:
        return None


if __name__ == "__main__":
    execute(json.loads(sys.stdin.read()))
