"""What stands between image tokens and patches, where latents read all patches.

A bridge is a context manager: inside it, a run of the vision tower leaves head-averaged weights by
layer of what reads the patches, `[crop, token, row, col]` with the tower's padding among them. Of a
picture that is one crop of one size, `[row, token, key]`, the patches last.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from irlib.hooks.hooks import edit, rows


def q_former(model: nn.Module):
    """InstructBLIP's Q-Former: some of its layers attend to a class and the patches behind it."""
    layers = enumerate(model.qformer.encoder.layer)
    found = {i: layer.crossattention.attention for i, layer in layers if layer.has_cross_attention}
    return rows(model.qformer, None, reduce=_mean, attentions=found)


@contextmanager
def perceiver(model: nn.Module) -> Iterator[dict[int, Tensor]]:
    """Idefics2's resampler: latents attend to the patches and, behind these, to one another."""
    resampler = model.model.connector.perceiver_resampler
    found = {i: layer.self_attn for i, layer in enumerate(resampler.layers)}
    shape = []

    def note(_, args, kwargs):
        shape.extend(kwargs["patch_attention_mask"].shape[1:])
        return args, kwargs

    with (
        rows(resampler, None, reduce=_mean, attentions=found) as seen,
        edit({"tower": model.model.vision_model}, note, at="input", once=True),
    ):
        yield seen
    for layer, weights in seen.items():
        seen[layer] = weights[..., : shape[0] * shape[1]].unflatten(-1, shape)


@contextmanager
def projector(model: nn.Module) -> Iterator[dict[int, Tensor]]:
    """Aria's projector: one torch attention from queries to the patches, asked for its weights."""
    attention, seen = model.model.multi_modal_projector.cross_attn.multihead_attn, {}

    def note(layer, args, kwargs):
        asked = dict(kwargs, need_weights=True, average_attn_weights=True)
        weights = attention.forward(*args, **asked)[1]
        seen[layer] = weights.unflatten(-1, (math.isqrt(weights.shape[-1]), -1))
        return args, kwargs

    with edit({0: attention}, note, at="input", once=True):
        yield seen


def _mean(weights, _):
    return weights.mean(1)
