"""How far the numbers of two ways lie apart, and how far they may: else there is no ratio."""

import numpy as np
import torch


def closeness(vlm) -> dict:
    """The tolerance for numbers of this model that were summed in another order, and why."""
    if vlm.dtype == torch.float32:
        return {"tolerance": 1e-3, "why": "float32, sums in another order"}
    return {"tolerance": 0.15, "why": f"{vlm.dtype} through {vlm.n_layers} layers"}


def agreement(what: str, ours, theirs, *, tolerance: float, why: str) -> dict:
    """How far two arrays lie apart, over the largest value; `ValueError` beyond the tolerance."""
    ours, theirs = (np.asarray(array, dtype=np.float64) for array in (ours, theirs))
    found = np.abs(ours - theirs).max() / np.abs(theirs).max()
    if ours.shape != theirs.shape or not found <= tolerance:
        raise ValueError(
            f"asked for the same {what} within {tolerance:g}, found {found:g} between arrays of "
            f"{ours.shape} and {theirs.shape}; repair what differs: no ratio compares other things"
        )
    return {"what": what, "apart": short(found), "tolerance": tolerance, "why": why}


def same_answers(ours: dict, theirs: dict, *, tolerance: float, why: str) -> dict:
    """Which part of the answers is another one; `ValueError` beyond the tolerance."""
    pairs = [
        (a.tolist(), b.tolist())
        for layer in theirs
        for a, b in zip(ours[layer].ids, theirs[layer].ids, strict=True)
    ]
    found = sum(a != b for a, b in pairs) / len(pairs)
    if not found <= tolerance:
        raise ValueError(
            f"asked for the same answers but for {tolerance:g} of them, found {found:g} of "
            f"{len(pairs)} to differ; repair what differs: no ratio compares other things"
        )
    return {"what": f"{len(pairs)} answers", "apart": short(found), "tolerance": tolerance,
            "why": why}  # fmt: skip


def short(value: float) -> float:
    """The value in four digits."""
    return float(f"{value:.4g}")
