"""Shares of attention by segment: irlib's probe against a plain forward and output_attentions."""

import sys

import torch

from benchmarks import alternatives, command
from benchmarks.agreements import agreement, closeness
from benchmarks.measure import Contender
from benchmarks.models import Subject
from benchmarks.settings import Settings
from irlib.attention import attention_flow
from irlib.hooks.hooks import rows
from irlib.inputs.spans import SEGMENTS

TITLE = "Attention flow, all layers"


def contenders(subject: Subject, settings: Settings) -> list[Contender]:
    """irlib's way, a plain forward, and transformers' own way."""
    vlm, answer = subject.vlm, subject.answer
    inputs = vlm.encode(subject.inputs)
    whole = inputs.followed_by(answer)
    once = vlm.n_layers * whole.length

    @torch.no_grad()
    def forward():
        return vlm.forward(whole, logits_to_keep=1)

    def eager():
        return alternatives.output_attentions(vlm, inputs, answer)[0]

    def agrees(ours, theirs):
        table = ours.pivot(index=["sample", "layer"], columns="segment", values="share")
        theirs = theirs.reshape(-1, len(SEGMENTS))
        return agreement("shares", table[list(SEGMENTS)], theirs, **closeness(vlm))

    return [
        Contender(
            "irlib, attention flow",
            lambda: attention_flow(vlm, inputs, answer),
            count=once,
        ),
        Contender(
            "one plain forward, no shares",
            forward,
            once,
            target=1.05 if subject.aimed else None,
            cost=True,
        ),
        Contender("eager attention with output_attentions", eager, once, agrees=agrees),
    ]


def memory(subject: Subject, told: dict) -> dict:
    """What the probe leaves behind, beside every attention matrix."""
    vlm, inputs = subject.vlm, subject.vlm.encode(subject.inputs)
    ours, most = probed(vlm, inputs.followed_by(subject.answer))
    _, held = alternatives.output_attentions(vlm, inputs, subject.answer)
    return {
        "irlib_held_mb": ours / 1e6,
        "irlib_one_layer_at_a_time_mb": most / 1e6,
        "output_attentions_mb": held / 1e6,
        "irlib_of_output_attentions": (ours + most) / held,
        "target_at_most": 0.01 if subject.aimed else None,
        "bound": "the answer's rows of one layer at a time: heads x answer tokens x length x 4 "
        "bytes, against layers x heads x length x length x the dtype's",
    }


@torch.no_grad()
def probed(vlm, whole) -> tuple[int, int]:
    """Bytes of attention that the probe leaves behind in all, and of its largest layer's rows."""
    positions = whole.spans.predicting[0].nonzero().flatten()[None]
    sizes = []

    def reduce(weights, visible):
        sizes.append(weights.numel() * weights.element_size())
        return None

    with rows(vlm.decoder, positions, reduce=reduce):
        vlm.forward(whole, logits_to_keep=1)
    left = vlm.n_layers * len(SEGMENTS) * 2 * 4  # shares and uniform shares
    return left, max(sizes)


if __name__ == "__main__":
    command.main({"attention": sys.modules[__name__]})
