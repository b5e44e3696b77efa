"""Kill a sweep again and again, resume it, and hold its table against an undisturbed run's.

    python -m benchmarks.kill_sweep --kills 20

Every other kill (-9) comes at a random moment, the others while a shard is being written. The last
line tells whether the tables are equal; the exit code is 1 where they are not. Needs fork.
"""

import argparse
import logging
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random

import pandas as pd
import torch
from pyarrow import parquet

from irlib import load, load_task, sweep


def start(vlm, samples, folder: Path, options) -> int:
    """Sweep in a process of its own that keeps its answers in `folder`; return its id."""
    sys.stdout.flush()
    if child := os.fork():
        return child
    status = 1
    try:
        os.environ["IRLIB_RESULTS"] = str(folder)
        table = sweep(vlm, samples, progress=False, **options)
        part = folder / "table.part"
        table.to_parquet(part)
        part.replace(folder / "table.parquet")
        status = 0
    finally:
        os._exit(status)  # nothing of the parent's is closed


def finish(child: int) -> None:
    """Wait for a sweep to end by itself."""
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status:
        raise RuntimeError(f"a sweep that nobody killed ended with {status}; see above")


def parts(folder: Path) -> set[str]:
    """Shards half written, by this process or one that was killed."""
    return {str(path) for path in folder.glob("answers/*/.*.part")}


def kill(child: int, folder: Path, *, writing: bool, patience: float = 10.0) -> bool:
    """Kill -9, `writing` waits for a shard half written; False where the sweep was done before."""
    until, before = time.monotonic() + patience, parts(folder)
    while writing and time.monotonic() < until and not parts(folder) - before:
        if os.waitpid(child, os.WNOHANG)[0]:
            return False
    os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def main() -> int:
    """Run it; 0 where the tables are equal."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--model", default="mini-llava")
    parser.add_argument("--n", type=int, default=160, help="samples")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--layers", type=int, nargs="+", default=[0, 3])
    parser.add_argument("--seed", type=int, default=0, help="draws the moments")
    told = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    torch.set_num_threads(1)  # a forked child has no other threads
    vlm, samples = load(told.model, device="cpu"), load_task("pope", n=told.n)
    options = {"layers": told.layers, "batch_size": told.batch}
    draw = Random(told.seed)
    with tempfile.TemporaryDirectory() as place:
        calm, hunted = Path(place, "calm"), Path(place, "hunted")
        began = time.monotonic()
        finish(start(vlm, samples, calm, options))
        span = time.monotonic() - began
        print(f"undisturbed: {told.n} samples in {span:.1f} s")
        killed = 0
        for turn in range(told.kills):
            child = start(vlm, samples, hunted, options)
            time.sleep(draw.uniform(0, span / told.kills))
            killed += kill(child, hunted, writing=bool(turn % 2))
            shards = len([*hunted.glob("answers/*/*.parquet")])
            cut = len(parts(hunted))
            print(f"kill {turn + 1}: {shards} shards whole, {cut} cut off while being written")
        finish(start(vlm, samples, hunted, options))
        wanted, found = (pd.read_parquet(f / "table.parquet") for f in (calm, hunted))
        rows = Counter()
        for shard in hunted.glob("answers/*/*.parquet"):
            columns = parquet.read_table(shard, columns=["row", "layer"])
            rows.update(zip(*columns.to_pydict().values(), strict=True))
    twice = sum(count > 1 for count in rows.values())
    equal = found.equals(wanted) and not twice
    print(f"{killed} of {told.kills} sweeps were killed; {len(rows)} answers kept, {twice} twice")
    print("the tables are equal" if equal else "the tables are NOT equal")
    return int(not equal)


if __name__ == "__main__":
    sys.exit(main())
