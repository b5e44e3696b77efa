"""Several models side by side: each judged at its own cliffs, and the cliffs held together."""

import json
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from irlib import store
from irlib.evidence.change import change_at
from irlib.evidence.cliff import cliff_layer
from irlib.evidence.judging import Verdict, judge
from irlib.sweeps.table import sweep
from irlib.tasks.samples import Sample


def judge_cliffs(
    vlm,
    finding: Mapping[str, Sequence[Sample]],
    judging: Mapping[str, Sequence[Sample]],
    *,
    columns: Mapping[str, tuple[str, str]],
    margin: float = 0.05,
) -> pd.DataFrame:
    """What a model loses at its cliff: a row a column of the table, `columns[name] = task, metric`.

    The cliff of a task is that of its main metric on the samples in `finding`; the metrics are
    pooled on those in `judging`, untouched and with the image hidden from `layer` on: the cliff, or
    the last layer where there is no cliff (then it costs what the last layer does). Columns `model,
    task, column, metric, baseline, at_cliff, change, change_low, change_high, n, units, layer,
    cliff, low, high, n_layers, n_cliff, units_cliff, margin, resolves`; fractions, 0-based layers,
    a change for the better is positive; `n, units` are the answers and pictures that the change
    stands on, `n_cliff, units_cliff` those that the cliff does, with the smallest margin that so
    many resolve. Answers are kept as `sweep` does. Raises `ValueError` where it, `cliff_layer` and
    `change_at` do.
    """
    rows = []
    for task in dict.fromkeys(task for task, _ in columns.values()):
        samples, others = finding[task], judging[task]
        swept = sweep(vlm, samples)  # figures 5 and 9 leave these answers in the store
        cliff = cliff_layer(swept, margin=margin)
        layer = min(cliff.layer, vlm.n_layers - 1)
        tested = sweep(vlm, others, layers=[layer])
        for column, (where, metric) in columns.items():
            if where != task:
                continue
            change = change_at(tested, layer=layer, metric=metric)
            rows.append({
                "model": vlm.name, "task": task, "column": column, "metric": metric,
                "baseline": change.baseline, "at_cliff": change.truncated, "change": change.gain,
                "change_low": change.low, "change_high": change.high, "n": change.n,
                "units": change.units, "layer": layer, "cliff": cliff.layer, "low": cliff.low,
                "high": cliff.high, "n_layers": vlm.n_layers, "n_cliff": cliff.n,
                "units_cliff": cliff.units, "margin": margin, "resolves": cliff.resolves,
            })  # fmt: skip
    return pd.DataFrame(rows)


def cost_verdicts(table: pd.DataFrame, *, loss: float) -> list[Verdict]:
    """For each model: does no column of the table of `judge_cliffs` lose `loss` or more?

    The verdict is that of the worst column: it agrees where all are sure to lose less, disagrees
    where one is sure to lose more. Its value is what is left of `loss`.
    """
    found = []
    for name, rows in table.groupby("model", sort=False):
        left = loss + rows[["change", "change_low", "change_high"]].min()
        worst = rows.sort_values("change_low")["column"].iloc[0]
        claim = f"{name}: from its cliffs on no score loses {100 * loss:g} points (worst: {worst})"
        numbers = dict(zip(("value", "low", "high"), left, strict=True))
        found.append(judge(claim, **numbers, n=rows["n"].min()))
    return found


def gap_verdicts(table: pd.DataFrame, *, apart: float, group: str = "all models") -> list[Verdict]:
    """For each task: do the cliffs of all models in the table lie within `apart` of the depth?

    Layers are taken as a share of each model's depth. The value is the distance between the first
    and the last cliff, its interval the widest that the cliffs' own allow; where all intervals
    overlap it reaches down to 0. `group` names the models; a model that needs the image to the
    end is counted at the whole depth, and the claim says how many these are. No verdict for fewer
    than two models.
    """
    cliffs = table.drop_duplicates(["model", "task"])
    found = []
    for task, rows in cliffs.groupby("task", sort=False):
        if len(rows) < 2:  # one model is at no distance from itself
            continue
        depth = rows[["cliff", "low", "high"]].div(rows["n_layers"], axis=0)
        first, last = depth.min(), depth.max()
        none = int((rows["cliff"] == rows["n_layers"]).sum())
        never = f" ({none} of them without a cliff)" if none else ""
        found.append(
            judge(
                f"{task}: the cliffs of {group} lie within {100 * apart:g} % of the depth{never}",
                value=last["cliff"] - first["cliff"],
                low=max(0.0, last["low"] - first["high"]),
                high=1.0 if none == len(rows) else last["high"] - first["low"],
                n=rows["n_cliff"].min(),
                expect="zero",
                margin=apart + 1e-9,  # a quarter of twelve layers is not exact
            )
        )
    return found


def inherited(names: Iterable[str]) -> dict[str, str]:
    """The models among `names` whose decoder started from another's, and from which.

    Read from `decoder` in data/minis/<name>/scores.json; a model without it has its own.

    >>> inherited(["mini-llava", "some/model"])
    {}
    """
    names, found = list(names), {}
    for name in names:
        path = store.root() / "data/minis" / name / "scores.json"
        if path.is_file():
            told = json.loads(path.read_text(encoding="utf-8")).get("decoder", "")
            told = told.replace(name, "")
            parents = [other for other in names if other != name and other in told]
            found |= {name: max(parents, key=len)} if parents else {}
    return found
