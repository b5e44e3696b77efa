"""Run the benchmarks and print their tables: `python -m benchmarks.run`.

Each comparison first checks that all ways give the same numbers, and writes
benchmarks/results/NAME.json. On a GPU, `--device cuda --shape 7b` takes a model of LLaVA-1.5-7B's
shape with random weights in bfloat16; that has not been run yet.
"""

import argparse
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks import answers, attention, cam, measure, prefill, size, sweep, tables
from benchmarks.settings import QUICK, Settings

SCRIPTS = {
    "sweep": sweep, "answers": answers, "cam": cam, "attention": attention, "prefill": prefill,
    "size": size,
}  # fmt: skip
RESULTS = Path(__file__).parent / "results"


def run(settings: Settings, *, names: Sequence[str], folder: Path | None) -> list[dict]:
    """Measure the named comparisons one after another; `folder` None writes no file."""
    before, found = torch.get_num_threads(), []
    torch.set_num_threads(settings.threads)
    try:
        for name in names:
            told = {
                "comparison": name,
                "title": SCRIPTS[name].TITLE,
                "clock": settings.clock,
                "runs": settings.runs,
                "settings": asdict(settings),
                **measure.machine(settings.device),
                "comparisons": SCRIPTS[name].measured(settings),
            }
            told = json.loads(json.dumps(told))
            found.append(told)
            if folder:
                _write(told, folder, f"{name}{settings.suffix}")
            print(tables.text(told), end="\n\n", flush=True)
    finally:
        torch.set_num_threads(before)
    return found


def _write(told, folder, stem):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{stem}.json").write_text(json.dumps(told, indent=1) + "\n")
    if told["comparison"] == "size":
        size.save(told["comparisons"], folder, stem, told["clock"])


def main(arguments: Sequence[str] | None = None, *, only: str | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=SCRIPTS, default=[only] if only else None)
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
    names, quick, out = asked.pop("only") or list(SCRIPTS), asked.pop("quick"), asked.pop("out")
    if quick:
        settings = Settings(threads=asked["threads"], device=asked["device"], **QUICK)
    else:
        settings = Settings(**asked | {"minis": tuple(asked["minis"])})
    logging.getLogger("transformers").setLevel(logging.ERROR)
    os.environ.setdefault("TQDM_DISABLE", "1")
    found = run(settings, names=names, folder=out or (None if quick else RESULTS))
    print(
        tables.markdown([told for told in found if told["comparison"] not in ("prefill", "size")])
    )


if __name__ == "__main__":
    main()
