"""How often certified limits miss the truth: `python -m benchmarks.coverage [--quick]`.

Sweeps with a known cliff are drawn, by chance from curves of several shapes ("coverage") and from
real sweeps of the bundled rows as populations ("coverage_real"), and each is certified as
`cliff_layer` does. Too high a lower limit and too low an upper one (a false clearance) may each
come in .025 of all draws. From curves so many are drawn that a rate of .028 would be told from .025
in four of five runs, from populations for one of .0315. `n` are units: answers, or pictures where
it says so. `paired` is Bonett and Price's bound (2012, a pseudo-unit of an answer either way).
One process, some minutes; --quick draws few.
"""

import sys
from pathlib import Path
from types import SimpleNamespace

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
LEVEL, ERROR, COARSE, LIMIT = 0.025, 0.003, 0.0065, 0.03
SIZES, MARGINS = (50, 100, 500), (0.01, 0.05, 0.1)
TOPS = ((0.6, 0.3), (0.85, 0.5), (0.98, 0.5))
REAL = (  # model, task, rows, metric, units drawn by picture
    ("mini-llava", "pope", 1000, "POPE Acc", False),
    ("mini-llava", "pope", 1000, "POPE F1", False),
    ("mini-llava", "pope", 1000, "POPE Acc", True),
    ("mini-llava", "pope", 1000, "POPE F1", True),
    ("mini-llava", "textvqa", 500, "TextVQA Acc", False),
    ("mini-internvl", "textvqa", 500, "TextVQA Acc", False),
    ("mini-llava", "scienceqa", 500, "SQA IMG Acc", False),
    ("mini-llava", "chair", 300, "CHAIRs", False),
    ("mini-llava", "chair", 300, "CHAIRi", False),
)
PICTURES = (20, 84)


def draws_to_see(error: float, *, level: float = LEVEL, power: float = 0.8) -> int:
    """How many draws show a rate to be `error` above `level` (5 %, two-sided) with this `power`."""
    spread, other = (np.sqrt(rate * (1 - rate)) for rate in (level, level + error))
    return int(np.ceil(((norm.ppf(0.975) * spread + norm.ppf(power) * other) / error) ** 2))


def measured(settings: Settings) -> list[dict]:
    """A comparison for curves and one for the edge of the margin: a cell a row."""
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
            for n in sizes if layers == 12 else sizes[:2]:
                lost = shapes.edge(layers, cliff, margin)
                drawn = shapes.by_chance(rng, top - lost, n=n, rho=rho, draws=draws)
                told = {"what": f"{layers} layers, {top:g}, rho {rho:g}", "n": n, "margin": margin}
                at_edge.append(told | cell(drawn, lost[:-1], margin=margin))
    found = [("curves", by_shape), ("just above the margin", at_edge)]
    return [{"model": name, "draws": draws, "cells": cells} for name, cells in found]


def resampled(settings: Settings) -> list[dict]:
    """The same of real sweeps of the bundled rows, drawn again with replacement."""
    draws = 50 if settings.quick else draws_to_see(COARSE)
    rng, tables, cells = np.random.default_rng(0), {}, []
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
            for margin in MARGINS[1:]:
                told = {"what": f"{model}, {metric}" + ", by picture" * by_picture, "n": n}
                cells.append(told | {"margin": margin} | cell(drawn, lost[:-1], margin=margin))
    return [{"model": "real sweeps", "draws": draws, "cells": cells}]


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
    counts, step, kinds = one.counts, one.step, np.broadcast_to(one.kinds, one.counts.shape)
    n, total = counts.sum(-1), (counts * kinds).sum(-1)
    shrunk, square = total / (n + 2), (counts * kinds**2).sum(-1) + 2 * step**2
    error = np.sqrt((square / (n + 2) - shrunk**2) / (n + 2))
    paired = shrunk + student.ppf(1 - LEVEL, n + 1) * error <= margin
    below = total / n <= margin  # the other side's test cannot pass
    within = _certified(kinds, counts, step, below, margin, 0.95, 0)
    above = _certified(kinds, counts, step, ~below, margin, 1 - 0.05 / layers, 1)
    return [told[one.row] for told in (within, above, total / n <= margin + 1e-9, paired)]


def _certified(kinds, counts, step, some, margin, confidence, which):
    """`certify`, for a layer alone; where its saddle point leaves no question, by that."""
    found, rows, level = np.zeros(len(counts), bool), np.flatnonzero(some), (1 - confidence) / 2
    for part in np.array_split(rows, 1 + len(rows) // 4000):
        sign, ours = (1, -1)[which], np.where(counts[part] > 0, kinds[part], 0.0)
        worst = np.maximum((sign * ours).max(-1), step[part])[:, None]
        shifted = np.append(sign * (ours - margin), worst - sign * margin, axis=1)
        times = np.append(counts[part], np.ones_like(worst), axis=1)
        chance = saddle(np.where(times > 0, shifted, 0.0), times)
        found[part] = chance <= level
        near = part[np.abs(np.log(np.maximum(chance, 1e-12) / level)) < 0.3]
        if len(near):
            given = {"step": step[near, None], "counts": counts[near][:, None], "margin": margin}
            found[near] = certify(kinds[near][:, None], confidence=confidence, **given)[which][:, 0]
    return found


def saddle(factors: np.ndarray, shapes: np.ndarray) -> np.ndarray:
    """P(sum of factor x Gamma(shape) > 0) `[row]`, roughly: Lugannani and Rice (1980)."""
    most, least = factors.max(-1), factors.min(-1)
    mean = (factors * shapes).sum(-1)
    easy = (mean >= 0) | (most <= 0) | (least >= 0)  # half or more, never, always
    low, high = np.zeros(len(factors)), 1 / np.where(most > 0, most, 1.0)
    for _ in range(30):
        at = (low + high) / 2
        slope = (shapes * factors / (1 - at[:, None] * factors)).sum(-1)
        low, high = np.where(slope < 0, at, low), np.where(slope < 0, high, at)
    at = np.where(easy, 0.0, (low + high) / 2)
    rest = 1 - at[:, None] * factors
    root = np.sqrt(np.maximum(2 * (shapes * np.log(rest)).sum(-1), 1e-12))
    other = np.maximum(at * np.sqrt((shapes * (factors / rest) ** 2).sum(-1)), 1e-6)
    tail = norm.sf(root) + norm.pdf(root) * (1 / other - 1 / root)
    return np.where(most <= 0, 0.0, np.where(easy, 1.0, tail))


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
    title = TITLE + ", real sweeps" * stem.startswith("coverage_real")
    told = {"title": title, "comparisons": comparisons}
    (folder / f"{stem}.md").write_text(text(told))


if __name__ == "__main__":
    real = SimpleNamespace(TITLE=f"{TITLE}, real sweeps", measured=resampled, text=text, save=save)
    command.main({"coverage": sys.modules[__name__], "coverage_real": real})
