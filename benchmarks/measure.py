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

import torch

from benchmarks.agreements import short
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


def compare(
    contenders: Sequence[Contender],
    *,
    runs: int,
    device: str,
    clock: str,
    until: float = float("inf"),
) -> dict:
    """Agreements and times of several ways, the first of which is irlib's own.

    Each is run once as a whole; `runs` rounds of all in turn follow, fewer but one at least where
    another would not end by `until` of `time.monotonic()`. Ratios are their time over ours in the
    same round, as median, lowest and highest. Raises `ValueError` where the numbers do not agree:
    there is no ratio then.
    """
    gc.collect()
    gc.freeze()  # what is there already is not searched again before each round
    try:
        return _compared(contenders, runs, device, clock, until)
    finally:
        gc.unfreeze()


def _compared(contenders, runs, device, clock, until):
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
        begun = time.monotonic()
        for contender in contenders:
            gc.collect()
            _, (cpu, wall) = clocked(contender.timed or contender.whole, device)
            spent[contender.name].append(
                {"cpu": cpu * contender.scale, "wall": wall * contender.scale}
            )
        if 2 * time.monotonic() - begun > until:
            break
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
                "runs": [{key: short(value) for key, value in time.items()} for time in times],
                "whole_once": first[contender.name],
                "ratio": dict(
                    zip(
                        ("median", "lowest", "highest"),
                        map(short, (statistics.median(ratios), ratios[0], ratios[-1])),
                        strict=True,
                    )
                ),
                "token_layers": short(contender.count),
                "counted": short(contender.count / own.count),
                "target": contender.target,
                "cost": contender.cost,
            }
        )
    return {"agreements": agreements, "rows": rows}


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
    """One run: what it gives, its seconds, and how much memory was in use at most, and beyond
    before."""
    gc.collect()
    before = _reset_peak(device)
    value, (cpu, wall) = clocked(run, device)
    told = {"cpu_s": short(cpu), "wall_s": short(wall), "peak_mb": None, "in_use_mb": None}
    if before is not None:
        most = _peak(device)
        told["peak_mb"] = round(max(0.0, (most - before) / 1e6), 1)
        told["in_use_mb"] = round(most / 1e6, 1)
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
    return short(statistics.median(values))
