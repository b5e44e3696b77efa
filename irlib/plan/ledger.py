"""A plan as text: what runs, what it costs, and what that was taken from."""

import pandas as pd

from irlib.plan.draws import BUNDLED_ANSWERS, ON_HUB, TOKEN
from irlib.plan.planning import BATCH, Plan

COUNTS = ["rows", "kept", "passes", "naive", "PFLOP", "hours", "decoding"]


def tell(plan: Plan, *, tflops: float, bandwidth: float) -> str:
    """The plan in minutes and gigabytes, a line a figure, at so many TFLOP/s reached and GB/s.

    Minutes are those of operations and, behind them, of reading weights for each token of answers.

    >>> from irlib.reproduce import jobs
    >>> from irlib.plan.planning import estimate
    >>> told = tell(estimate(jobs.plan(["fig9_no_picture_needed"])), tflops=0.1, bandwidth=20)
    >>> told.splitlines()[0].split("  ")[0]
    'fig9_no_picture_needed'
    """
    table = _hours(plan, tflops, bandwidth)
    table["time"] = table["hours"] + table["decoding"]
    lines = [
        f"{stem:26} {_minutes(rows['time'].sum()):>14} {_gigabytes(rows['peak'].max()):>12}   "
        f"{_counted(rows['model'].nunique(), 'model')}, {_counted(rows['rows'].sum(), 'row')}"
        for stem, rows in table.groupby("stem", sort=False)
    ]
    weights = sum(shape.weights for shape in plan.shapes.values())
    lines.append(
        f"\nin all {_minutes(table['time'].sum())} at {tflops:g} TFLOP/s and {bandwidth:g} GB/s "
        f"(--tflops, --bandwidth), {_gigabytes(weights)} of weights; loading and drawing come on "
        "top. --details: by model and task, and what this is taken from."
    )
    return "\n".join([*lines, *(f"\n{warning}" for warning in plan.warnings)])


def _minutes(hours: float) -> str:
    """A time in whole minutes, two digits of it told.

    >>> [_minutes(hours) for hours in (1e-6, 0.126, 2.53, 31)]
    ['under 1 min', '8 min', '150 min', '1900 min']
    """
    minutes = 60 * hours
    return "under 1 min" if minutes < 1 else f"{_two(minutes)} min"


def _gigabytes(size: float) -> str:
    """Bytes in whole gigabytes, two digits of it told.

    >>> [_gigabytes(size) for size in (2e7, 14.12e9, 92.4e9)]
    ['under 1 GB', '14 GB', '92 GB']
    """
    return "under 1 GB" if size < 1e9 else f"{_two(size / 1e9)} GB"


def _two(number: float) -> int:
    """A number from 1 up, rounded to two digits, to a whole one below ten."""
    return int(float(f"{round(number):.2g}"))


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _hours(plan: Plan, tflops: float, bandwidth: float) -> pd.DataFrame:
    """The plan's lines with their PFLOP, hours of operations and of reading."""
    table = pd.DataFrame([vars(line) for line in plan.lines])
    table["PFLOP"] = table["flops"] / 1e15
    table["hours"] = table["flops"] / (tflops * 3.6e15)
    table["decoding"] = table["read"] / (bandwidth * 3.6e12)
    return table


def details(plan: Plan, *, tflops: float, bandwidth: float) -> str:
    """The plan as a table for each model and a sum, and what its numbers are taken from.

    >>> from irlib.reproduce import jobs
    >>> from irlib.plan.planning import estimate
    >>> told = details(estimate(jobs.plan(["fig9_no_picture_needed"])), tflops=0.1, bandwidth=20)
    >>> told.splitlines()[0]
    'mini-llava: 12 layers, 64 tokens a picture, 0.0144 GB of weights'
    """
    table = _hours(plan, tflops, bandwidth)
    parts = [_model(name, rows, plan) for name, rows in table.groupby("model", sort=False)]
    total = table[COUNTS].sum()
    weights = sum(shape.weights for shape in plan.shapes.values())
    parts.append(
        f"In all: {len(plan.shapes)} models, {weights / 1e9:.3g} GB of weights, "
        f"{total['rows']:.0f} rows, {total['kept']:.0f} of them answered before; "
        f"{total['passes']:.0f} passes ({total['naive']:.0f} without sharing), "
        f"{total['PFLOP']:.4g} PFLOP: {total['hours']:.3g} hours at {tflops:g} TFLOP/s; "
        f"decoding alone at least {total['decoding']:.3g} hours at {bandwidth:g} GB/s"
    )
    return "\n\n".join([*parts, *plan.warnings, _granted()])


def _model(name: str, rows: pd.DataFrame, plan: Plan) -> str:
    """One model's head line, its notebooks and tasks, and their sum."""
    shape = plan.shapes[name]
    lines = rows.groupby(["stem", "task"], sort=False)[COUNTS].sum().reset_index()
    peaks = rows.groupby(["stem", "task"], sort=False)["peak"].max().to_numpy() / 1e9
    lines["peak GB"] = peaks
    total = lines[COUNTS].sum().to_dict() | {"stem": "sum", "task": "", "peak GB": peaks.max()}
    lines = pd.concat([lines, pd.DataFrame([total])], ignore_index=True)
    whole = dict.fromkeys(["rows", "kept", "passes", "naive"], "{:.0f}".format)
    text = lines.to_string(
        index=False,
        formatters=whole
        | dict.fromkeys(["PFLOP", "hours", "decoding", "peak GB"], "{:.3g}".format),
    )
    head = f"{name}: {shape.n_layers} layers, {plan.tokens[name]} tokens a picture, "
    return f"{head}{shape.weights / 1e9:.3g} GB of weights\n{text}"


def _granted() -> str:
    """What the numbers are taken from."""
    hub = "; ".join(
        f"{name} {task.rows} rows, {100 * task.pictured:.0f} % with a picture, prompts of "
        f"{task.chars:g} characters, answers of {task.new} tokens"
        for name, task in ON_HUB.items()
    )
    answers = ", ".join(f"{name} {new}" for name, new in BUNDLED_ANSWERS.items())
    width, height = next(iter(ON_HUB.values())).size
    return "\n".join([
        "rows: drawn; kept: of them answered by a sweep above, whose answers are read again;",
        "passes: whole passes over a prompt, a backward is one; naive: without what sweeps share;",
        "PFLOP: 1e15 operations, two a multiply-add; hours: by operations alone;",
        "decoding: hours to read weights, keys and values for every token of the answers, of one",
        f"sample at a time, of {BATCH} in a sweep; peak GB: weights and what one sample needs,",
        "in a sweep with the keys and values of every variant.",
        f"Taken for granted: {TOKEN} characters a token; pictures of the hub {width} x {height}; "
        f"on the hub {hub}; answers of the bundle in tokens: {answers}; a cliff is judged at "
        "layer 0, the dearest.",
    ])  # fmt: skip
