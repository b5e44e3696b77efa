"""How often certified limits miss the truth: `python -m benchmarks.coverage [--quick]`.

Sweeps with a known cliff are drawn, by chance from curves of several shapes and from real sweeps of
the bundled rows as populations, and each is certified as `cliff_layer` does. Too high a lower limit
and too low an upper one (a false clearance) may each come in .025 of all draws. So many are drawn
that a rate of .028 would be told from .025 in four of five runs. Beside it Bonett and Price's
bounds, which were here before. One process, minutes; --quick draws few, from curves alone.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import norm
from scipy.stats import t as student

from benchmarks import command, shapes
from benchmarks.settings import Settings
from irlib import load, load_task, sweep
from irlib.evidence.bounds import proportion
from irlib.evidence.cliff import certify
from irlib.evidence.costs import tallies
from irlib.evidence.influence import counted
from irlib.scores import LOWER_IS_BETTER, pooled

TITLE = "Coverage of the cliff's certified limits"
LEVEL, ERROR, LIMIT = 0.025, 0.003, 0.03
SIZES, MARGINS = (50, 100, 500), (0.01, 0.05, 0.1)
TOPS = ((0.6, 0.3), (0.85, 0.5), (0.98, 0.5))
REAL = (  # model, task, rows, metric, units drawn by picture
    ("mini-llava", "pope", 1000, "POPE Acc", False),
    ("mini-llava", "pope", 1000, "POPE F1", False),
    ("mini-llava", "pope", 1000, "POPE Acc", True),
    ("mini-llava", "pope", 1000, "POPE F1", True),
    ("mini-internvl", "pope", 500, "POPE Acc", True),
    ("mini-llava", "textvqa", 500, "TextVQA Acc", False),
    ("mini-internvl", "textvqa", 500, "TextVQA Acc", False),
    ("mini-llava", "scienceqa", 500, "SQA IMG Acc", False),
    ("mini-llava", "chair", 300, "CHAIRs", False),
    ("mini-llava", "chair", 300, "CHAIRi", False),
)
PICTURES = (20, 42, 84)


def draws_to_see(error: float, *, level: float = LEVEL, power: float = 0.8) -> int:
    """How many draws show a rate of `level` to be off by `error` (5 %, two-sided) with `power`."""
    return int(np.ceil((norm.ppf(0.975) + norm.ppf(power)) ** 2 * level * (1 - level) / error**2))


def measured(settings: Settings) -> list[dict]:
    """A comparison for curves, for the edge of the margin, and for real sweeps: a cell a row."""
    draws = 200 if settings.quick else draws_to_see(ERROR)
    sizes = SIZES[:1] if settings.quick else SIZES
    rng = np.random.default_rng(0)
    by_shape, at_edge = [], []
    for top, floor in TOPS:
        for name, lost in shapes.curves(top, floor).items():
            for n in sizes:
                drawn = shapes.by_chance(rng, top - lost, n=n, rho=0.98, draws=draws)
                for margin in MARGINS:
                    told = {"what": f"{name}, {top:g} to {floor:g}", "n": n, "margin": margin}
                    by_shape.append(told | cell(drawn, lost[:-1], margin=margin))
    for layers, cliff in ((12, 8), (32, 20)):
        for margin, rho, top in [(m, r, t) for m in MARGINS for r in (0.98, 0.9999)
                                 for t in (0.85, 0.98)]:  # fmt: skip
            for n in sizes:
                lost = shapes.edge(layers, cliff, margin)
                drawn = shapes.by_chance(rng, top - lost, n=n, rho=rho, draws=draws)
                told = {"what": f"{layers} layers, {top:g}, rho {rho:g}", "n": n, "margin": margin}
                at_edge.append(told | cell(drawn, lost[:-1], margin=margin))
    found = [("curves", by_shape), ("just above the margin", at_edge)]
    if not settings.quick:
        found.append(("real sweeps", _real(rng, draws)))
    return [{"model": name, "draws": draws, "cells": cells} for name, cells in found]


def _real(rng, draws):
    tables, cells = {}, []
    for model, task, rows, metric, by_picture in REAL:
        key = model, task, rows
        if key not in tables:
            tables[key] = sweep(load(model), load_task(task, n=rows, seed=0), batch_size=16)
        _, _, counts, pictures = tallies(tables[key])
        kept = counted(metric, counts)
        counts = {name: values[:, kept] for name, values in counts.items()}
        unit = np.unique(pictures[kept], return_inverse=True)[1] if by_picture else None
        value = pooled(task, counts)[metric]
        lost = (value - value[-1]) * (1 if metric in LOWER_IS_BETTER else -1)
        for n in PICTURES if by_picture else SIZES:
            drawn = shapes.from_population(rng, counts, metric=metric, unit=unit, n=n, draws=draws)
            what = f"{model}, {metric}" + ", by picture" * by_picture
            cells += [{"what": what, "n": n, "margin": margin}
                      | cell(drawn, lost[:-1], margin=margin) for margin in MARGINS]  # fmt: skip
    return cells


def cell(drawn: list[shapes.Drawn], lost: np.ndarray, *, margin: float) -> dict:
    """What the limits of drawn sweeps say of a cliff that `lost` `[layer]` tells."""
    within, above, plain, paired = (np.array(one).T for one in zip(
        *(_judged(one, margin, len(drawn)) for one in drawn), strict=True))  # fmt: skip
    true = _from_on(lost[None] <= margin + 1e-9)[0]
    high, point, other = (_from_on(one) for one in (within, plain, paired))
    deepest = above.shape[1] - np.argmax(above[:, ::-1], axis=1)
    low = np.where(above.any(1), deepest, 0)
    return {
        "true": int(true), "bias": round(float((point - true).mean()), 3),
        "covered": round(float(((low <= true) & (true <= high)).mean()), 4),
        "width": round(float((high - low).mean()), 2),
        "low_above": round(float((low > true).mean()), 4),
        "high_below": round(float((high < true).mean()), 4),
        "paired_high_below": round(float((other < true).mean()), 4),
        "surely": bool(_surely(low > true) or _surely(high < true)),
    }  # fmt: skip


def _judged(one: shapes.Drawn, margin: float, layers: int):
    """Of one layer `[draw]`: surely within, surely above, within as read, and by Bonett-Price."""
    step = np.broadcast_to(one.step, len(one.counts))[:, None]
    told = [np.broadcast_to(one.kinds, one.counts.shape), one.counts, step]
    rows, back = np.unique(np.concatenate(told, axis=1), axis=0, return_inverse=True)
    back = back.ravel()
    kinds, counts, step = np.split(rows, [one.counts.shape[1], -1], axis=1)
    n, total = counts.sum(-1), (counts * kinds).sum(-1)
    square = (counts * kinds**2).sum(-1) + 2 * step[:, 0] ** 2
    shrunk = total / (n + 2)
    error = np.sqrt((square / (n + 2) - shrunk**2) / (n + 2))
    paired = shrunk + student.ppf(1 - LEVEL, n + 1) * error <= margin
    below = total / n <= margin
    within, above = below.copy(), ~below  # ten standard errors away that is beyond doubt
    near = np.abs(shrunk - margin) < 10 * error
    for sure, some, level in (
        (within, near & below, 0.95),
        (above, near & ~below, 1 - 0.05 / layers),
    ):
        for part in np.array_split(np.flatnonzero(some), 1 + some.sum() // 4000):
            given = {"step": step[part], "counts": counts[part][:, None], "margin": margin}
            told = certify(kinds[part][:, None], confidence=level, **given)  # a layer at a time
            sure[part] = told[0 if sure is within else 1][:, 0]
    return within[back], above[back], (total / n <= margin + 1e-9)[back], paired[back]


def _from_on(holds: np.ndarray) -> np.ndarray:
    """The first layer `[draw]` from which on all of `holds` `[draw, layer]` are true."""
    return holds.shape[1] - np.logical_and.accumulate(holds[:, ::-1], axis=1).sum(1)


def _surely(missed: np.ndarray) -> bool:
    """Whether a rate is surely above the limit: its exact 95 % interval lies above it."""
    return proportion(int(missed.sum()), len(missed)).low > LIMIT


def text(told: dict) -> str:
    """The results as Markdown: the worst of each group, then every cell."""
    lines = [f"# {told['title']}", "", __doc__.split("\n\n", 1)[1].strip(), ""]
    for one in told["comparisons"]:
        cells = pd.DataFrame(one["cells"])
        worst = cells[["low_above", "high_below", "paired_high_below"]].max()
        lines += [
            f"## {one['model']}: {one['draws']} draws a cell, {len(cells)} cells", "",
            f"Worst lower limit above the truth {worst['low_above']:.4f}, worst upper limit below "
            f"it {worst['high_below']:.4f} (Bonett-Price {worst['paired_high_below']:.4f}); surely "
            f"above {LIMIT}: {int(cells['surely'].sum())} cells.", "",
            f"| {' | '.join(cells)} |", "|---" * len(cells.columns) + "|",
        ]  # fmt: skip
        lines += [f"| {' | '.join(map(str, row))} |" for row in cells.itertuples(index=False)]
        lines.append("")
    return "\n".join(lines)


def save(comparisons: list[dict], folder: Path, stem: str, clock: str) -> None:
    """Write the table beside the json."""
    told = {"title": TITLE, "comparisons": comparisons}
    (folder / f"{stem}.md").write_text(text(told))


if __name__ == "__main__":
    command.main({"coverage": sys.modules[__name__]})
