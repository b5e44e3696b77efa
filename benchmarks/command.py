"""The command that every benchmark shares: what it takes, runs, writes and prints.

Each comparison first checks that all ways give the same numbers, and writes
benchmarks/results/NAME.json. On a GPU, `--device cuda --shape 7b` takes a model of LLaVA-1.5-7B's
shape with random weights in bfloat16; that has not been run yet.
"""

import argparse
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import ModuleType

import torch

from benchmarks import measure, tables
from benchmarks.models import subjects
from benchmarks.settings import QUICK, Settings

RESULTS = Path(__file__).parent / "results"
APART = ("prefill", "size", "coverage", "coverage_real", "explore")  # not of the table of speed


def run(
    scripts: Mapping[str, ModuleType], settings: Settings, *, folder: Path | None = None
) -> list[dict]:
    """Measure the comparisons one after another; `folder` None writes no file.

    A script has TITLE and contenders(subject, settings), compared on each subject, with
    memory(subject, comparison) where there is more to tell of it; or measured(settings), which
    gives its comparisons itself. One with save(comparisons, ...) draws them too, one with
    text(results) tells them in its own way.
    """
    before, found = torch.get_num_threads(), []
    torch.set_num_threads(settings.threads)
    try:
        for name, script in scripts.items():
            told = {
                "comparison": name,
                "title": script.TITLE,
                "clock": settings.clock,
                "runs": settings.runs,
                "settings": asdict(settings),
                **measure.machine(settings.device),
                "comparisons": getattr(script, "measured", partial(_compared, script))(settings),
            }
            told = json.loads(json.dumps(told))
            found.append(told)
            if folder:
                _write(told, script, folder, f"{name}{settings.suffix}")
            print(getattr(script, "text", tables.text)(told), end="\n\n", flush=True)
    finally:
        torch.set_num_threads(before)
    return found


def _compared(script, settings) -> list[dict]:
    """The contenders of a script on each subject."""
    found = []
    for subject in subjects(settings):
        ways = script.contenders(subject, settings)
        how = {"runs": settings.runs, "device": settings.device, "clock": settings.clock}
        told = measure.compare(ways, **how)
        told |= {"memory": script.memory(subject, told)} if hasattr(script, "memory") else {}
        found.append(subject.told | told)
    return found


def _write(told, script, folder, stem):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{stem}.json").write_text(json.dumps(told, indent=1) + "\n")
    if hasattr(script, "save"):
        script.save(told["comparisons"], folder, stem, told["clock"])


def main(scripts: Mapping[str, ModuleType], arguments: Sequence[str] | None = None) -> None:
    """Run the scripts as the command line asks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(scripts), default=list(scripts))
    parser.add_argument("--runs", type=int, default=5, help="alternating rounds")
    parser.add_argument("--passes", type=int, default=5, help="timed passes of a loop; 0: all")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--shape", default="ratio", choices=["ratio", "7b", "tiny"])
    parser.add_argument("--minis", nargs="*", default=["mini-llava"])
    parser.add_argument("--tokens", type=int, default=64, help="length of a free answer")
    parser.add_argument("--out", type=Path, help="folder of the results (benchmarks/results)")
    parser.add_argument("--quick", action="store_true", help="two layers, one run, no files")
    asked = vars(parser.parse_args(arguments))
    names, quick, out = asked.pop("only"), asked.pop("quick"), asked.pop("out")
    if quick:
        settings = Settings(threads=asked["threads"], device=asked["device"], **QUICK)
    else:
        settings = Settings(**asked | {"minis": tuple(asked["minis"])})
    logging.getLogger("transformers").setLevel(logging.ERROR)
    os.environ.setdefault("TQDM_DISABLE", "1")
    chosen = {name: scripts[name] for name in names}
    found = run(chosen, settings, folder=out or (None if quick else RESULTS))
    print(tables.markdown([told for told in found if told["comparison"] not in APART]))
