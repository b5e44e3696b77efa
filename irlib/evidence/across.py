"""Several models side by side: the certified cliff of each task, and what it costs from there."""

import json
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from irlib import store
from irlib.evidence.change import change_at
from irlib.evidence.cliff import cliff_layer
from irlib.sweeps.table import sweep
from irlib.tasks.samples import Sample


def at_cliffs(
    vlm,
    samples: Mapping[str, Sequence[Sample]],
    *,
    columns: Mapping[str, tuple[str, str]],
    margin: float = 0.05,
) -> pd.DataFrame:
    """What scores are from the certified cliff on: a row a column, `columns[name] = task, metric`.

    The cliff of a task is that of its main metric. `layer` is its certified upper limit, from which
    on no layer loses the margin; where no layer is certified, the last. The metrics are those of
    the untouched model and with the image hidden from `layer` on. Columns `model, task, column,
    metric, baseline, baseline_low, baseline_high, at_cliff, change, change_low, change_high, n,
    units, layer, cliff, low, high, n_layers, margin, resolves`; fractions, 0-based layers, a change
    for the better is positive; `n` answers about `units` pictures are those that the metric counts.
    Answers are kept as `sweep` does. Raises `ValueError` where it, `cliff_layer` and `change_at`
    do.
    """
    rows = []
    for task in dict.fromkeys(task for task, _ in columns.values()):
        swept = sweep(vlm, samples[task])
        cliff = cliff_layer(swept, margin=margin)
        layer = min(cliff.high, vlm.n_layers - 1)
        for column, (where, metric) in columns.items():
            if where != task:
                continue
            change = change_at(swept, layer=layer, metric=metric)
            rows.append({
                "model": vlm.name, "task": task, "column": column, "metric": metric,
                "baseline": change.baseline, "baseline_low": change.baseline_low,
                "baseline_high": change.baseline_high, "at_cliff": change.truncated,
                "change": change.gain, "change_low": change.low, "change_high": change.high,
                "n": change.n, "units": change.units, "layer": layer, "cliff": cliff.layer,
                "low": cliff.low, "high": cliff.high, "n_layers": vlm.n_layers, "margin": margin,
                "resolves": cliff.resolves,
            })  # fmt: skip
    return pd.DataFrame(rows)


def inherited(names: Iterable[str]) -> dict[str, str]:
    """The models among `names` whose decoder started from another bundled one's, and from which.

    Read from `decoder` in data/minis/<name>/scores.json; a model without it has its own. Two of the
    same parent agree by inheritance even where that is not among the names.

    >>> inherited(["mini-llava", "some/model"])
    {}
    """
    folder, found = store.root() / "data/minis", {}
    bundled = [path.parent.name for path in folder.glob("*/scores.json")]
    for name in names:
        path = folder / name / "scores.json"
        if path.is_file():
            told = json.loads(path.read_text(encoding="utf-8")).get("decoder", "")
            told = told.replace(name, "")
            parents = [other for other in bundled if other != name and other in told]
            found |= {name: max(parents, key=len)} if parents else {}
    return found
