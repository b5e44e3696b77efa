"""First-token logits with the image hidden from every layer: irlib against one prefill a layer."""

import torch

from benchmarks import alternatives, counts
from benchmarks.measure import Contender, agreement, closeness, compare
from benchmarks.models import Subject, subjects
from benchmarks.settings import Settings
from irlib import staircase

TITLE = "Truncation at every layer, the first token's logits"


def logits_by_layer(vlm, inputs, layers) -> torch.Tensor:
    """Logits `[layer, row, vocabulary]` as irlib makes them."""
    ours = getattr(staircase, "logits_by_layer", alternatives.batched_sweep)
    return ours(vlm, inputs, layers=layers)


def measured(settings: Settings) -> list[dict]:
    """One comparison for each subject."""
    return [measure(subject, settings) for subject in subjects(settings)]


def measure(subject: Subject, settings: Settings) -> dict:
    """The comparison on one model."""
    vlm, inputs = subject.vlm, subject.vlm.encode(subject.inputs)
    layers, n = range(vlm.n_layers + 1), vlm.n_layers
    user = int(inputs.spans.user.sum())

    def agrees(ours, theirs):
        ours, theirs = (logits.float().cpu() for logits in (ours, theirs))
        moved = float((theirs[0] - theirs[-1]).abs().max() / theirs.abs().max())
        told = agreement("logits", ours, theirs, **closeness(vlm))
        return told | {"hiding_moves": round(moved, 4)}  # what would be missed if nothing were hid

    contenders = [
        Contender(
            "irlib, every layer at once",
            lambda: logits_by_layer(vlm, inputs, layers),
            count=counts.shared_sweep(n, inputs.length, user, layers),
        ),
        Contender(
            "one prefill a layer, columns masked (FastV, the authors)",
            lambda: alternatives.naive_sweep(vlm, inputs, layers),
            count=counts.naive_sweep(n, inputs.length, n + 1),
            agrees=agrees,
            target=14 if subject.aimed else None,
        ),
    ]
    return subject.told | compare(
        contenders, runs=settings.runs, device=settings.device, clock=settings.clock
    )


if __name__ == "__main__":
    from benchmarks.run import main

    main(only="sweep")
