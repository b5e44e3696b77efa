"""A segment's states patched at every layer: irlib against one prefill a layer."""

import sys

import torch

from benchmarks import alternatives, command, counts
from benchmarks.agreements import agreement, closeness
from benchmarks.measure import Contender, evenly
from benchmarks.models import Subject, repainted
from benchmarks.settings import Settings
from irlib.interventions.patched import patched_logits

TITLE = "Activation patching of 3 segments, every layer, the first token's logits"
SEGMENTS = ("image", "question", "answer")


def contenders(subject: Subject, settings: Settings) -> list[Contender]:
    """irlib's way and the loop over layers; the donor shows another picture."""
    vlm, n = subject.vlm, subject.vlm.n_layers
    inputs, donor = (vlm.encode(one) for one in (subject.inputs, repainted(subject.inputs)))
    timed = evenly(n, settings.passes)
    counted = [counts.patching(inputs, n, segment) for segment in SEGMENTS]

    def agrees(ours, theirs):
        ours = ours[:, timed].float().cpu()
        return agreement("logits", ours, theirs.float().cpu(), **closeness(vlm)) | {
            "of_layers": timed
        }

    return [
        Contender(
            "irlib, every layer of a segment at once",
            lambda: torch.stack([
                patched_logits(vlm, inputs, donor, segment=segment, layers=range(n))
                for segment in SEGMENTS
            ]),
            count=sum(one["shared"] for one in counted),
        ),
        Contender(
            "the donor once, then one prefill a layer, patched by hooks",
            lambda: alternatives.naive_patching(vlm, inputs, donor, SEGMENTS, timed),
            count=sum(one["naive"] for one in counted),
            agrees=agrees,
            scale=n / len(timed),
            passes="all" if len(timed) == n else f"{len(timed)} of {n} layers",
        ),
    ]  # fmt: skip


if __name__ == "__main__":
    command.main({"patching": sys.modules[__name__]})
