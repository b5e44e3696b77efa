"""Token-layers: how often a token goes through a decoder layer, the bound on what sharing can save.

A backward pass counts as much as a forward pass for what lies on the way (gradients of the
activations), and as much again where gradients of the weights are made. Attention's part that grows
with the square of the length, the embeddings, the head and the vision tower are not counted.
"""

from collections.abc import Iterable


def naive_sweep(layers: int, length: int, starts: int) -> int:
    """One prefill of the whole prompt for each layer to hide the image from."""
    return starts * layers * length


def shared_sweep(layers: int, length: int, user: int, starts: Iterable[int]) -> int:
    """One prefill, and for each start the tokens behind the image from that layer on."""
    return layers * length + sum(layers - start for start in starts) * user


def decoding(layers: int, tokens: int, starts: int) -> int:
    """The further tokens of each answer: the first is in the prefill already."""
    return starts * layers * (tokens - 1)


def one_backward(layers: int, length: int, *, weights: bool = False) -> int:
    """One forward and one backward through everything, with or without gradients of weights."""
    return layers * length * (3 if weights else 2)


def separate_backwards(layers: int, length: int, chosen: Iterable[int]) -> int:
    """For each layer a forward through all, and a backward through those above it and itself."""
    return sum(layers + layers - layer for layer in chosen) * length
