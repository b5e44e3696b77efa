"""The official scores of POPE, TextVQA, ScienceQA and CHAIR: rows are counted, counts are pooled.

A row's counts are plain numbers in the columns of a table, so that a corpus figure (F1, CHAIRi) can
be pooled again for every layer and every bootstrap resample; none is a mean of row scores.
"""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import pandas as pd

from irlib.scores import chair, pope, scienceqa, textvqa

PARSERS = ("official", "authors")
MAIN = MappingProxyType(
    {
        "pope": "POPE Acc",
        "textvqa": "TextVQA Acc",
        "scienceqa": "SQA IMG Acc",
        "chair": "CHAIRi",
    }
)
LOWER_IS_BETTER = frozenset({"CHAIRs", "CHAIRi"})
_SCORERS = MappingProxyType(
    {"pope": pope, "textvqa": textvqa, "scienceqa": scienceqa, "chair": chair}
)


def score(sample, text: str, *, parser: str = "official") -> dict[str, float]:
    """Return the counts of one answer: "score" in 0..1 and what the task's pooled figures need.

    pope {score, said_yes, is_yes}; textvqa {score}; scienceqa {score, has_image}; chair {score,
    mentions, hallucinated, found, objects}, whose score is 1 without a hallucination. `sample` has
    `task` and `reference`. `parser="authors"` is the paper's code where it differs (POPE's yes or
    no). Raises ValueError for an unknown task or parser.

    >>> from types import SimpleNamespace
    >>> score(SimpleNamespace(task="pope", reference={"label": "no"}), "No, there is none.")
    {'score': 1.0, 'said_yes': 0.0, 'is_yes': 0.0}
    """
    if parser not in PARSERS:
        raise ValueError(
            f"score was asked for parser {parser!r}; it knows {', '.join(PARSERS)}; take one."
        )
    return _scorer(sample.task).score(sample.reference, text, parser=parser)


def pooled(task: str, counts: Mapping[str, np.ndarray], *, weights=None) -> dict[str, np.ndarray]:
    """Return the task's metrics from counts `[..., sample]`, each `[...]`, as fractions of 1.

    With `weights` `[resample, sample]` (how often a resample drew each sample) every metric is
    `[..., resample]`. Raises ValueError for an unknown task or a count that is missing.

    >>> {k: float(v) for k, v in pooled("textvqa", {"score": np.array([1, 0.3, 0.9])}).items()}
    {'TextVQA Acc': 0.733...}
    """
    scorer = _scorer(task)
    missing = [name for name in scorer.COUNTS if name not in counts]
    if missing:
        raise ValueError(
            f"pooled was asked for {task}; found no {', '.join(missing)} among {sorted(counts)}; "
            "keep every column that score() gave."
        )
    arrays = {name: np.asarray(counts[name], dtype=float) for name in scorer.COUNTS}

    def total(values: np.ndarray) -> np.ndarray:
        return values.sum(-1) if weights is None else values @ np.asarray(weights, dtype=float).T

    return scorer.pool(arrays, total)


def metrics(
    table: pd.DataFrame, *, by: tuple[str, ...] = ("model", "task", "layer", "keep")
) -> pd.DataFrame:
    """Return one row a group and metric: the group's columns, then metric, value (0..1) and n.

    `table` has `task` and the columns of score(); a group is one combination of the columns of
    `by` that it has. n counts the rows the metric stands on (for "SQA IMG Acc" those with a
    picture). Raises ValueError for an empty table or one without tasks.

    >>> metrics(pd.DataFrame({"task": "textvqa", "layer": [0, 0, 1], "score": [0, 1, 0.9]}))
          task  layer       metric  value  n
    0  textvqa      0  TextVQA Acc    0.5  2
    1  textvqa      1  TextVQA Acc    0.9  1
    """
    if "task" not in table or table.empty:
        raise ValueError(
            f"metrics was asked to pool a table with columns {list(table)} and {len(table)} rows; "
            "it needs a column task and at least one row; pass what sweep() returned."
        )
    columns = [name for name in dict.fromkeys((*by, "task")) if name in table]
    rows = []
    for group, part in table.groupby(columns, sort=True, dropna=False):
        place = dict(zip(columns, group, strict=True))
        scorer = _scorer(place["task"])
        counts = {name: part[name].to_numpy() for name in scorer.COUNTS if name in part}
        for metric, value in pooled(place["task"], counts).items():
            n = int(part["has_image"].sum()) if metric == "SQA IMG Acc" else len(part)
            rows.append({**place, "metric": metric, "value": float(value), "n": n})
    return pd.DataFrame(rows)


def _scorer(task: str):
    if task not in _SCORERS:
        raise ValueError(
            f"a score was asked for task {task!r}; the tasks are {', '.join(_SCORERS)}; take one."
        )
    return _SCORERS[task]
