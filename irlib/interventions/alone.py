"""The same numbers by whole runs, one for each layer: where nothing can be shared."""

from collections.abc import Callable, Sequence

import torch

from irlib.inputs.records import Inputs
from irlib.interventions.changes import Change
from irlib.interventions.likelihood import Changed, divergences, forced


def one_by_one(
    vlm, inputs: Inputs, layers: Sequence[int], change: Change, ask: Callable[[Inputs], object]
) -> dict:
    """What `ask(inputs)` gives with each of the layers changed."""
    inputs, found = vlm.encode(inputs), {}
    for layer in layers:
        with change.inside(vlm, inputs, layer):
            found[layer] = ask(inputs)
    return found


@torch.no_grad()
def answers_one_by_one(vlm, inputs, layers, change, max_new_tokens, logprob) -> dict:
    """`staircase.answers_by_layer` by a generation and a forward or two for each layer."""
    inputs = vlm.encode(inputs)
    before = vlm.forward(inputs, logits_to_keep=1)[:, -1]
    untouched = vlm.answer(inputs, max_new_tokens=max_new_tokens) if logprob else None

    def ask(inputs):
        said = vlm.answer(inputs, max_new_tokens=max_new_tokens)
        kl = divergences(vlm.forward(inputs, logits_to_keep=1)[:, -1], before)
        left = forced(vlm, inputs, untouched) if logprob else ()
        found = {"kl": tuple(kl), "logprob": tuple(left)}
        return Changed(said.ids, said.texts, said.margins, said.reader, **found)

    return one_by_one(vlm, inputs, layers, change, ask)
