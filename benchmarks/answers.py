"""Free answers with the image hidden from every layer: irlib against one generation a layer.

Token-layers are no bound here: one token at a time, a decoder waits for its weights, not for its
arithmetic, and answers of all layers can share them.
"""

import sys

from benchmarks import alternatives, command, counts
from benchmarks.agreements import same_answers
from benchmarks.measure import Contender, evenly
from benchmarks.models import Subject
from benchmarks.settings import Settings
from irlib.interventions.staircase import answers_by_layer

TITLE = "Truncation at every layer, free answers"


def contenders(subject: Subject, settings: Settings) -> list[Contender]:
    """irlib's way, the loop over layers, and what log-probabilities cost besides."""
    vlm, inputs, tokens = subject.vlm, subject.vlm.encode(subject.inputs), settings.tokens
    n = vlm.n_layers
    layers, timed = range(n + 1), evenly(n + 1, settings.passes)
    spoken = len(vlm.answer(inputs, max_new_tokens=tokens).ids[0])  # a miniature stops by itself
    counted = counts.sweep(inputs, n, spoken)

    def agrees(ours, theirs):
        return same_answers(
            ours, theirs, tolerance=0.05 if vlm.dtype.itemsize == 4 else 0.5,
            why="a near tie of two words falls either way",
        )  # fmt: skip

    return [
        Contender(
            f"irlib, every layer at once, up to {tokens} tokens",
            lambda: answers_by_layer(vlm, inputs, layers=layers, max_new_tokens=tokens),
            count=counted["shared"],
        ),
        Contender(
            "one generation a layer, columns masked (FastV, the authors)",
            lambda: alternatives.naive_answers(vlm, inputs, layers, tokens),
            count=counted["naive"],
            agrees=agrees,
            timed=lambda: alternatives.naive_answers(vlm, inputs, timed, tokens),
            scale=(n + 1) / len(timed),
            passes="all" if len(timed) == n + 1 else f"{len(timed)} of {n + 1} layers",
            target=8 if subject.aimed else None,
        ),
        Contender(
            "irlib, with the log-probability of the untouched answer too",
            lambda: answers_by_layer(
                vlm, inputs, layers=layers, max_new_tokens=tokens, logprob=True
            ),
            count=counted["shared"] + (n + 1) * n * (spoken - 1),
            agrees=lambda ours, theirs: same_answers(ours, theirs, tolerance=0, why="the same run"),
        ),
    ]


if __name__ == "__main__":
    command.main({"answers": sys.modules[__name__]})
