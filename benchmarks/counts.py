"""Token-layers: how often a token goes through a decoder layer, the bound on what sharing can save.

A backward pass counts as much as a forward pass for what lies on the way (gradients of the
activations), and as much again where gradients of the weights are made. Attention's part that grows
with the square of the length, the embeddings, the head and the vision tower are not counted. Of
several prompts, which are equally long, it is what one takes.
"""

from collections.abc import Iterable

from irlib.plan.costs import token_layers


def sweep(inputs, n_layers: int, tokens: int = 1) -> dict[str, int]:
    """Every layer's answer of so many tokens, shared and naive; the prompt predicts the first."""
    image, user = int(inputs.spans.image[0].sum()), int(inputs.spans.user[0].sum())
    return token_layers(n_layers, inputs.length - image - user, image, user, new=tokens - 1)


def knockout(inputs, n_layers: int, edge: str) -> dict[str, int]:
    """Every layer's first token with an edge cut from, up to or at it, shared and naive.

    Of each variant only the target and what stands behind it goes up again, from its first layer
    on, and where variants are the same so far one goes for all.
    """
    rows = 1 if edge.endswith(">answer") else int(inputs.spans.user[0].sum())
    naive = n_layers * n_layers * inputs.length
    stairs = n_layers * (n_layers + 1) // 2
    return {"naive": naive, "shared": n_layers * inputs.length + rows * stairs}


def one_backward(layers: int, length: int, *, weights: bool = False) -> int:
    """One forward and one backward through everything, with or without gradients of weights."""
    return layers * length * (3 if weights else 2)


def separate_backwards(layers: int, length: int, chosen: Iterable[int]) -> int:
    """For each layer a forward through all, and a backward through those above it and itself."""
    return sum(layers + layers - layer for layer in chosen) * length
