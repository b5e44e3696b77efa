"""What a GPU reaches: one command, minutes, and every instrument against its naive form.

    python -m benchmarks.gpu [--minutes 8] [--prompts 1 4] [--shape 7b|tiny] [--device cuda|cpu]

A LLaVA of LLaVA-1.5-7B's shape is drawn at random in bfloat16 where it runs; no file of weights,
pictures or words is read. Each part is measured while time is left, under sdpa and, where attention
is given no mask, under flash attention; what was left out is said. Written to
benchmarks/results/gpu-DEVICE-SHAPE.json after each part. Ends with 1 where a part failed, as where
numbers do not agree.
"""

import argparse
import gc
import json
import logging
import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers.utils import is_flash_attn_2_available

from benchmarks import alternatives, gpu_parts, measure, models, tables
from benchmarks.command import RESULTS
from benchmarks.settings import Settings, slug

START = 20  # seconds for the interpreter and its imports, before this clock runs
MASKED = "gives attention masks of its own, which flash kernels do not take: measured under sdpa"


def main(arguments: Sequence[str] | None = None) -> dict:
    """Measure, print and write what fits into the minutes."""
    options = _options(arguments)
    device, begun = options.device, time.monotonic() - START
    logging.getLogger("transformers").setLevel(logging.ERROR)
    os.environ.setdefault("TQDM_DISABLE", "1")
    settings = Settings(
        runs=options.runs, passes=options.passes, threads=torch.get_num_threads(), device=device,
        shape=options.shape, minis=(), tokens=options.tokens,
    )  # fmt: skip
    vlm = models.random_llava(models.SHAPES[options.shape], device=device)
    told = {
        "comparison": "gpu", "title": "Every instrument against its naive form",
        "model": vlm.name, "clock": settings.clock, "settings": asdict(settings),
        **measure.machine(device), "formula": gpu_parts.FORMULA, "parts": [], "left_out": [],
    }  # fmt: skip
    path = options.out / f"gpu-{slug(device)}-{options.shape}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    print(f"{vlm!r}: {tables.place(told)}")
    print("Goals are those for a GPU and the shape 7b.", flush=True)
    plans = [
        (part, way, rows)
        for way in ("sdpa", "flash")
        for rows in options.prompts
        for part in gpu_parts.PARTS
    ]
    known = {}
    for number, (part, way, rows) in enumerate(plans):
        left = begun + 60 * options.minutes - time.monotonic()
        name = {"part": part.name, "attention": way, "prompts": rows}
        found = {"why": MASKED}
        if way == "sdpa" or not part.masked:
            # what a part does not use up goes to those after it
            more = sum(way == "sdpa" or not part.masked for part, way, _ in plans[number:])
            until = time.monotonic() + left / more
            found = _tried(vlm, part, way, rows, settings, left, until, known)
        told["left_out" if "why" in found else "parts"].append(name | found)
        told["minutes"] = round((time.monotonic() - begun) / 60, 2)
        path.write_text(json.dumps(told, indent=1) + "\n")
        print(tables.line(name | found, settings.clock), flush=True)
    print(f"\n{told['minutes']} of {options.minutes:g} minutes. Counted: {gpu_parts.FORMULA}.")
    return told


def _tried(vlm, part, way, rows, settings, left, until, known) -> dict:
    """The comparison, or `why` there is none."""
    begun, device = time.monotonic(), settings.device
    try:
        with attending(vlm, way) as name:
            if rows not in known:
                known[rows] = _subject(vlm, rows, device)
            subject, seconds = known[rows]
            needed = seconds * part.prefills(subject, settings)
            if needed > left:
                return {"why": f"may take {needed:.1f} s, {max(0, left):.1f} s are left"}
            found = measure.compare(
                part.ways(subject, settings), runs=settings.runs, device=device,
                clock=settings.clock, until=until,
            )  # fmt: skip
            found = {"kernels": name} | subject.told | found
    except torch.OutOfMemoryError:
        found = {"why": "out of memory"}
    except Exception as error:  # whatever it is, it is said, and the other parts are measured
        found = {"why": f"{type(error).__name__}: {error}", "failed": True}
    gc.collect()
    if device != "cpu":
        torch.cuda.empty_cache()
    if "rows" in found:
        found["rates"] = _rates(part, found, settings)
        found["goals"] = [
            {"against": row["name"], "target": row["target"], "met": tables.reached(row)}
            for row in found["rows"]
            if row["target"] is not None
        ]
    return found | {"seconds": round(time.monotonic() - begun, 1)}


def _subject(vlm, rows, device):
    """So many prompts and answers, and the seconds of a prefill that is warm."""
    inputs = models.prompt(vlm, rows=rows)
    subject = models.Subject(vlm, inputs, vlm.answer(inputs, max_new_tokens=5))
    forward = gpu_parts.plain(subject, Settings(device=device))[0].whole
    forward()
    _, (_, seconds) = measure.clocked(forward, device)
    return subject, seconds


@contextmanager
def attending(vlm, way: str) -> Iterator[str]:
    """Inside the block the decoder attends by sdpa or flash; yields which kernels these are."""
    if way == "sdpa":
        yield "sdpa, the kernels that torch chooses"
    elif vlm.device.type == "cuda" and is_flash_attn_2_available():
        with alternatives.attention(vlm, "flash_attention_2"):
            yield "flash_attention_2"
    else:
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            yield "sdpa's flash kernel alone; flash_attention_2 was not run: it is not installed"


def _rates(part, found, settings) -> dict:
    """Of each way what a user asks for: TFLOP/s of a prefill, tokens a second of answers."""
    if part.name.startswith("prefill"):
        done, unit = found["rows"][0]["token_layers"] / 1e12, "TFLOP/s"
    elif part.name.startswith("free answers"):
        done = (found["layers"] + 1) * found["prompts"] * settings.tokens
        unit = "tokens/s"
    else:
        return {}
    seconds = {row["name"]: row[f"{settings.clock}_s"] for row in found["rows"]}
    return {name: [float(f"{done / one:.4g}"), unit] for name, one in seconds.items() if one}


def _options(arguments):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--shape", default="7b", choices=["7b", "tiny"])
    parser.add_argument("--minutes", type=_positive, default=8, help="of all together, at most")
    parser.add_argument("--prompts", type=_count, nargs="+", default=[1, 4], help="side by side")
    parser.add_argument("--runs", type=_count, default=5, help="alternating rounds at most")
    parser.add_argument("--passes", type=int, default=3, help="timed passes of a loop; 0: all")
    parser.add_argument("--tokens", type=_count, default=64, help="length of a free answer")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    return parser.parse_args(arguments)


def _count(text: str) -> int:
    if (count := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"asked for {text}, found less than 1; give 1 or more")
    return count


def _positive(text: str) -> float:
    if not 0 < (minutes := float(text)) < math.inf:
        raise argparse.ArgumentTypeError(f"asked for {text} minutes; give a number above 0")
    return minutes


if __name__ == "__main__":
    sys.exit(any("failed" in one for one in main()["left_out"]))
