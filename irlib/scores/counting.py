"""The scores of POPE, TextVQA, ScienceQA, CHAIR and one's own: rows are counted, counts pooled.

A row's counts are plain numbers in the columns of a table, so that a corpus figure (F1, CHAIRi) can
be pooled again for every layer and every bootstrap resample; none is a mean of row scores.
"""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import pandas as pd

from irlib.scores import chair, own, pope, scienceqa, textvqa

PARSERS = ("official", "authors")
MAIN = MappingProxyType(
    {
        "pope": "POPE Acc",
        "textvqa": "TextVQA Acc",
        "scienceqa": "SQA IMG Acc",
        "chair": "CHAIRi",
        "own": "Own score",
    }
)
LOWER_IS_BETTER = frozenset({"CHAIRs", "CHAIRi"})
_SCORERS = MappingProxyType(
    {"pope": pope, "textvqa": textvqa, "scienceqa": scienceqa, "chair": chair, "own": own}
)


def score(sample, text: str, *, parser: str = "official") -> dict[str, float]:
    """Return the counts of one answer: "score" in 0..1 and what the task's pooled figures need.

    pope {score, said_yes, is_yes}; textvqa {score}; scienceqa {score, has_image}; chair {score,
    mentions, hallucinated, found, objects}, whose score is 1 without a hallucination; own {score}.
    `sample` has `task` and `reference`. `parser="authors"` is the paper's code where it differs
    (POPE's yes or no). Raises ValueError for an unknown task or parser.

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


def tallied(task: str) -> tuple[str, ...]:
    """Return the columns of score() that a task's metrics are made of.

    >>> tallied("textvqa")
    ('score',)
    """
    return tuple(_scorer(task).COUNTS)


SWEPT = ("model", "task", "edge", "span", "width", "how", "layer", "keep")


def metrics(table: pd.DataFrame, *, by: tuple[str, ...] = SWEPT) -> pd.DataFrame:
    """Return one row a group and metric: the group's columns, then metric, value (0..1) and n.

    `table` has `task` and the columns of score(); a group is one combination of the columns of
    `by` that it has. n counts the rows the metric stands on (for "SQA IMG Acc" those with a
    picture). With `kind` in `by`, rows of a kind are pooled apart: LLaVA publishes POPE as the mean
    of the three categories' F1. Raises ValueError for an empty table or one without tasks.

    >>> metrics(pd.DataFrame({"task": "textvqa", "layer": [0, 0, 1], "score": [0, 1, 0.9]}))
          task  layer       metric  value  n
    0  textvqa      0  TextVQA Acc    0.5  2
    1  textvqa      1  TextVQA Acc    0.9  1
    >>> pope = {"task": "pope", "kind": ["random", "popular"], "score": [1, 0], "is_yes": 1}
    >>> apart = metrics(pd.DataFrame({**pope, "said_yes": [1, 0]}), by=("task", "kind"))
    >>> apart.query("metric == 'POPE F1'").groupby("task").value.mean()["pope"].item()
    0.5
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


def rescore(table: pd.DataFrame, samples, *, parser: str = "official") -> pd.DataFrame:
    """Return the table with its answers scored again, by another parser or rule; all else stays.

    `table` has task, sample and answer, as sweep() gives it; `samples` are those it was made of.
    Raises ValueError for a row whose sample is not among them, for two samples of one task and key
    that are scored against different things, and for an answer that is no text.

    >>> from types import SimpleNamespace
    >>> sample = SimpleNamespace(task="pope", key="a", reference={"label": "no"})
    >>> table = pd.DataFrame({"task": ["pope"], "sample": ["a"], "answer": ["It isn't."]})
    >>> rescore(table, [sample], parser="authors")[["score", "said_yes"]].values.tolist()
    [[1.0, 0.0]]
    """
    known = {}
    for sample in [samples] if hasattr(samples, "reference") else samples:
        if known.setdefault((sample.task, sample.key), sample).reference != sample.reference:
            raise ValueError(
                f"rescore was asked with two samples {sample.key!r} of {sample.task!r}; their "
                "references differ; give those that the table was made of, and no others."
            )
    counts = []
    for task, key, text in zip(table["task"], table["sample"], table["answer"], strict=True):
        if (task, key) not in known:
            raise ValueError(
                f"rescore was asked for row {key!r} of {task!r}; it is not among the {len(known)} "
                "samples given; give those that the table was made of."
            )
        if not isinstance(text, str):
            raise ValueError(
                f"rescore was asked for row {key!r} of {task!r}; its answer is {text!r}; a csv "
                'reads an empty answer as missing: write it as "".'
            )
        counts.append(score(known[task, key], text, parser=parser))
    return table.assign(**pd.DataFrame(counts, index=table.index))


def _scorer(task: str):
    if task not in _SCORERS:
        raise ValueError(
            f"a score was asked for task {task!r}; the tasks are {', '.join(_SCORERS)}; take one."
        )
    return _SCORERS[task]
