"""Time and memory of several ways to the same numbers, in one process, in alternating rounds."""

import ctypes
import gc
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from irlib.store import provenance

STATUS, REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Contender:
    """One way to the numbers.

    `whole()` gives them all: run once, for the comparison and for the memory. `timed()` is what the
    rounds repeat, all of it if None; it stands for `scale` times its time, `passes` says in words
    how much of it is timed. `count` is in token-layers. `agrees(ours, theirs)` gives one agreement,
    or raises. `target` is the ratio hoped for: their time over ours at least; with `cost`, where
    theirs is what nobody can go below, ours over theirs at most.
    """

    name: str
    whole: Callable[[], object]
    count: float
    agrees: Callable[[object, object], dict] | None = None
    timed: Callable[[], object] | None = None
    scale: float = 1.0
    passes: str = "all"
    target: float | None = None
    cost: bool = False


def compare(contenders: Sequence[Contender], *, runs: int, device: str, clock: str) -> dict:
    """Agreements and times of several ways, the first of which is irlib's own.

    Each is run once as a whole; `runs` rounds of all in turn follow. Ratios are their time over
    ours in the same round, as median, lowest and highest. Raises `ValueError` where the numbers
    do not agree: there is no ratio then.
    """
    gc.collect()
    gc.freeze()  # what is there already is not searched again before each round
    try:
        return _compared(contenders, runs, device, clock)
    finally:
        gc.unfreeze()


def _compared(contenders, runs, device, clock):
    contenders[0].whole()  # what is only made once is not counted as its memory
    ours, first, agreements = None, {}, []
    for contender in contenders:
        value, first[contender.name] = _once(contender.whole, device)
        if contender is contenders[0]:
            ours = value
        elif contender.agrees:
            agreements.append({"with": contender.name} | contender.agrees(ours, value))
        del value
    spent = {contender.name: [] for contender in contenders}
    for _ in range(runs):
        for contender in contenders:
            gc.collect()
            _, (cpu, wall) = clocked(contender.timed or contender.whole, device)
            spent[contender.name].append(
                {"cpu": cpu * contender.scale, "wall": wall * contender.scale}
            )
    own, rows = contenders[0], []
    for contender in contenders:
        times = spent[contender.name]
        pairs = zip(times, spent[own.name], strict=True)
        ratios = sorted(theirs[clock] / mine[clock] for theirs, mine in pairs)
        rows.append(
            {
                "name": contender.name,
                "cpu_s": _median(time["cpu"] for time in times),
                "wall_s": _median(time["wall"] for time in times),
                "timed": contender.passes,
                "runs": [{key: _short(value) for key, value in time.items()} for time in times],
                "whole_once": first[contender.name],
                "ratio": dict(
                    zip(
                        ("median", "lowest", "highest"),
                        map(_short, (statistics.median(ratios), ratios[0], ratios[-1])),
                        strict=True,
                    )
                ),
                "token_layers": _short(contender.count),
                "counted": _short(contender.count / own.count),
                "target": contender.target,
                "cost": contender.cost,
            }
        )
    return {"agreements": agreements, "rows": rows}


def closeness(vlm) -> dict:
    """The tolerance for numbers of this model that were summed in another order, and why."""
    if vlm.dtype == torch.float32:
        return {"tolerance": 1e-3, "why": "float32, sums in another order"}
    return {"tolerance": 0.15, "why": f"{vlm.dtype} through {vlm.n_layers} layers"}


def agreement(what: str, ours, theirs, *, tolerance: float, why: str) -> dict:
    """How far two arrays lie apart, over the largest value; `ValueError` beyond the tolerance."""
    ours, theirs = (np.asarray(array, dtype=np.float64) for array in (ours, theirs))
    found = np.abs(ours - theirs).max() / np.abs(theirs).max()
    if ours.shape != theirs.shape or not found <= tolerance:
        raise ValueError(
            f"asked for the same {what} within {tolerance:g}, found {found:g} between arrays of "
            f"{ours.shape} and {theirs.shape}; repair what differs: no ratio compares other things"
        )
    return {"what": what, "apart": _short(found), "tolerance": tolerance, "why": why}


def same_answers(ours: dict, theirs: dict, *, tolerance: float, why: str) -> dict:
    """Which part of the answers is another one; `ValueError` beyond the tolerance."""
    pairs = [
        (a.tolist(), b.tolist())
        for layer in theirs
        for a, b in zip(ours[layer].ids, theirs[layer].ids, strict=True)
    ]
    found = sum(a != b for a, b in pairs) / len(pairs)
    if not found <= tolerance:
        raise ValueError(
            f"asked for the same answers but for {tolerance:g} of them, found {found:g} of "
            f"{len(pairs)} to differ; repair what differs: no ratio compares other things"
        )
    return {"what": f"{len(pairs)} answers", "apart": _short(found), "tolerance": tolerance,
            "why": why}  # fmt: skip


def clocked(run: Callable[[], object], device: str) -> tuple[object, tuple[float, float]]:
    """What `run()` gives, and the CPU and wall seconds that it took, the device's work included."""
    _wait(device)
    cpu, wall = time.process_time(), time.perf_counter()
    value = run()
    _wait(device)
    return value, (time.process_time() - cpu, time.perf_counter() - wall)


def evenly(total: int, chosen: int) -> list[int]:
    """`chosen` of `range(total)`, evenly spread; all of them for 0 or too many.

    >>> evenly(25, 5), evenly(3, 0)
    ([2, 7, 12, 17, 22], [0, 1, 2])
    """
    if not 0 < chosen < total:
        return list(range(total))
    return [int((index + 0.5) * total / chosen) for index in range(chosen)]


def machine(device: str) -> dict:
    """What the numbers were measured on: processor, cores, threads, memory, GPU, versions."""
    facts = provenance.surroundings()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    told = {
        "cpu": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(memory, 1),
    }
    if device != "cpu":
        gpu = torch.cuda.get_device_properties(device)
        told["gpu"] = f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB"
        facts["versions"]["cuda"] = torch.version.cuda
    return {"machine": told, "versions": facts["versions"]}


def _once(run, device):
    """One run: what it gives, its seconds, and how much memory it took at most, beyond before."""
    gc.collect()
    before = _reset_peak(device)
    value, (cpu, wall) = clocked(run, device)
    peak = None if before is None else max(0.0, (_peak(device) - before) / 1e6)
    told = {"cpu_s": _short(cpu), "wall_s": _short(wall), "peak_mb": peak and round(peak, 1)}
    return value, told


def _reset_peak(device):
    """Bytes in use, the peak set back to them; None where the system does not tell (not Linux)."""
    if device != "cpu":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # what was freed counts as free
    try:
        REFS.write_text("5")
        return _status("VmRSS")
    except OSError:
        return None


def _peak(device):
    return torch.cuda.max_memory_allocated(device) if device != "cpu" else _status("VmHWM")


def _status(name):
    lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    return int(lines[name].split()[0]) * 1024


def _processor():
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _wait(device):
    if device != "cpu":
        torch.cuda.synchronize(device)


def _median(values):
    return _short(statistics.median(values))


def _short(value):
    return float(f"{value:.4g}")
