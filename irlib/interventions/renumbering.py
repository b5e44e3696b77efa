"""Positions moved up by what was removed before them, in chosen layers."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from irlib.hooks.hooks import edit

COUNTED = ("default", "linear", "llama3")
"""Kinds of rotation that hang on the position alone, whatever the length."""


@contextmanager
def renumbered(vlm, removed: Mapping[int, Tensor], now: Mapping) -> Iterator[None]:
    """Inside the block every token's position in a layer is less by what is removed before it.

    `removed[layer]` is a mask `[row, position]`; `now["rows"]` are the rows of a run and
    `now["seen"]` the positions before it, as its first layer tells them.
    """
    moved = {layer: mask.long().cumsum(1) for layer, mask in removed.items() if mask.any()}

    def move(layer, args, kwargs):
        states, place = args[0], kwargs["position_ids"]
        at = torch.arange(now["seen"], now["seen"] + states.shape[1])
        less = moved[layer][now["rows"]][:, at.clamp(max=moved[layer].shape[1] - 1)]
        place = place - less.to(place.device)
        turned = vlm.decoder.rotary_emb(states, place)
        return args, dict(kwargs, position_ids=place, position_embeddings=turned)

    with edit({i: vlm.decoder.layers[i] for i in moved}, move, at="input"):
        yield


def check_renumber(vlm) -> None:
    """Raise `ValueError` for a model whose positions are more than a count of tokens."""
    config, rotary = vlm.decoder.config, getattr(vlm.decoder, "rotary_emb", None)
    kind, why = getattr(rotary, "rope_type", None), ""
    if "mrope_section" in (getattr(config, "rope_parameters", None) or {}):
        why = (
            "three positions a token (time, row, column), of which a picture takes as many as it "
            "has rows or columns: what follows it would not move up by what is removed"
        )
    elif getattr(config, "sliding_window", None):
        why = (
            "layers that see a window of so many positions: moved up, their tokens would see "
            "further back, into what the model has masked"
        )
    elif kind not in COUNTED:
        why = f"positions of the kind {kind!r}, which hang on how long the sequence is"
    if why:
        raise ValueError(
            f"asked to renumber the positions of {vlm.name}, found {why}; leave renumber out, "
            "which keeps positions"
        )
