"""An edge cut from, up to and at every layer: irlib against one prefill for each plan."""

import sys

import torch

from benchmarks import alternatives, command, counts
from benchmarks.agreements import agreement, closeness
from benchmarks.measure import Contender, evenly
from benchmarks.models import Subject
from benchmarks.settings import Settings
from irlib.interventions.staircase import logits_by_layer

TITLE = "Knockout of 3 edges, 3 kinds, every layer, the first token's logits"
EDGES = ("image>question", "image>answer", "question>answer")
KINDS = ("from", "upto", "single")


def contenders(subject: Subject, settings: Settings) -> list[Contender]:
    """irlib's way and the loop over plans."""
    vlm, inputs, n = subject.vlm, subject.vlm.encode(subject.inputs), subject.vlm.n_layers
    timed = evenly(n, settings.passes)
    counted = [counts.knockout(inputs, n, edge) for edge in EDGES for _ in KINDS]

    def agrees(ours, theirs):
        ours, theirs = ours[:, timed].float().cpu(), theirs.float().cpu()
        moved = float((theirs - subject_logits).abs().max() / theirs.abs().max())
        told = agreement("logits", ours, theirs, **closeness(vlm))
        return told | {"of_layers": timed, "cutting_moves": round(moved, 4)}

    with torch.no_grad():
        subject_logits = vlm.forward(inputs, logits_to_keep=1)[:, -1].float().cpu()
    return [
        Contender(
            "irlib, every layer of an edge and kind at once",
            lambda: torch.stack([
                logits_by_layer(vlm, inputs, layers=range(n), edge=edge, kind=kind)
                for edge in EDGES for kind in KINDS
            ]),
            count=sum(one["shared"] for one in counted),
        ),
        Contender(
            "one prefill a plan, cells masked by hooks",
            lambda: alternatives.naive_knockout(vlm, inputs, EDGES, KINDS, timed),
            count=sum(one["naive"] for one in counted),
            agrees=agrees,
            scale=n / len(timed),
            passes="all" if len(timed) == n else f"{len(timed)} of {n} layers",
            target=8 if subject.aimed else None,
        ),
    ]  # fmt: skip


if __name__ == "__main__":
    command.main({"knockout": sys.modules[__name__]})
