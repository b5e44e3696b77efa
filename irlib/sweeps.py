"""`sweep`: the answers of many samples with the image hidden from every layer, as one table."""

import os
from collections.abc import Sequence

import pandas as pd
from tqdm.auto import tqdm

from irlib.scores import score
from irlib.staircase import answers_by_layer


def sweep(
    vlm,
    samples: Sequence,
    *,
    layers: Sequence[int] | None = None,
    keep: int = 0,
    batch_size: int = 8,
    max_new_tokens: int | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Answers and scores of every sample with the image hidden from every layer: a tidy table.

    Columns `model, task, kind, sample, layer, keep, answer, score` and the count columns of the
    task's scorer; one row a sample and layer. `layers` are 0-based and default to all that `keep`
    allows; the untouched model, layer n_layers, is always among them as the baseline. Each batch
    holds `batch_size` samples, each as many times as there are layers. Raises `ValueError` for an
    empty list of samples and where `truncate` does.

    >>> from irlib import load, load_task
    >>> table = sweep(load("mini-llava"), load_task("pope", n=1), layers=[0], progress=False)
    >>> len(table), "score" in table
    (2, True)
    """
    if not len(samples):
        raise ValueError("asked to sweep over samples, found none; give at least one")
    layers = range(1 if keep else 0, vlm.n_layers) if layers is None else layers
    layers = sorted({*layers, vlm.n_layers})
    table = []
    quiet = True if not progress or os.environ.get("TQDM_DISABLE") else None
    for first in tqdm(range(0, len(samples), batch_size), desc="sweep", disable=quiet):
        inputs = vlm.prepare(list(samples[first : first + batch_size]))
        answers = answers_by_layer(
            vlm, inputs, layers=layers, keep=keep, max_new_tokens=max_new_tokens
        )
        for row, sample in enumerate(inputs.samples):
            for layer in layers:
                text = answers[layer].texts[row]
                table.append(
                    {
                        "model": vlm.name,
                        "task": sample.task,
                        "kind": sample.kind,
                        "sample": sample.key,
                        "layer": layer,
                        "keep": keep,
                        "answer": text,
                        **score(sample, text),
                    }
                )
    return pd.DataFrame(table)
