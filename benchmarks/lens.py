"""The logit lens at the answer's rows: irlib against a plain forward and all hidden states."""

import sys

import torch

from benchmarks import alternatives, command
from benchmarks.agreements import agreement, closeness
from benchmarks.measure import Contender
from benchmarks.models import Subject
from benchmarks.settings import Settings
from irlib.lens import logit_lens

TITLE = "Logit lens, all layers"


def contenders(subject: Subject, settings: Settings) -> list[Contender]:
    """irlib's way, a plain forward, and the head on every state of every layer."""
    vlm, answer = subject.vlm, subject.answer
    inputs = vlm.encode(subject.inputs)
    whole = inputs.followed_by(answer)
    once = vlm.n_layers * whole.length

    @torch.no_grad()
    def forward():
        return vlm.forward(whole, logits_to_keep=1)

    def agrees(ours, theirs):
        ours = ours.pivot(index=["sample", "layer"], columns="step", values="probability")
        theirs = theirs.reshape(-1, theirs.shape[-1])
        return agreement("probabilities", ours, theirs, **closeness(vlm))

    return [
        Contender("irlib, logit lens", lambda: logit_lens(vlm, inputs, answer), count=once),
        Contender("one plain forward, no lens", forward, once, cost=True),
        Contender(
            "output_hidden_states, the head on every position",
            lambda: alternatives.every_state_read(vlm, inputs, answer),
            once,
            agrees=agrees,
        ),
    ]


if __name__ == "__main__":
    command.main({"lens": sys.modules[__name__]})
