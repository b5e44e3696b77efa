"""Tables as sweeps make them, from scores that a test sets."""

import numpy as np
import pandas as pd


def make_table(scores, task="textvqa", **counts):
    """A sweep's table from `scores [layer, sample]` and further counts of the same shape."""
    columns = {"score": np.asarray(scores, float)} | counts
    layers, samples = columns["score"].shape
    return pd.DataFrame(
        {
            "model": "m", "task": task, "kind": "", "keep": 0, "answer": "", "picture": "",
            "layer": np.repeat(np.arange(layers), samples),
            "sample": [f"s{i:04}" for i in range(samples)] * layers,
        }
        | {name: np.asarray(value, float).ravel() for name, value in columns.items()}
    )  # fmt: skip


def by_rate(rates, n=100):
    """Scores `[layer, sample]` with exactly these means."""
    return np.array([[float(i < rate * n) for i in range(n)] for rate in rates])
