"""An attention of one's own in the place of a decoder's, by way of transformers' registry."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

OWN = "irlib_attend"  # its name in transformers' registries


@contextmanager
def own_attention(decoder: nn.Module) -> Iterator[None]:
    """Inside the block the decoder's attention is what its modules are called with, as
    `irlib_attention`: `hooks.attend` passes it on."""
    AttentionInterface.register(OWN, _own_attention)
    AttentionMaskInterface.register(OWN, sdpa_mask)  # without it every mask would be None
    before = decoder.config._attn_implementation
    decoder.set_attn_implementation(OWN)
    try:
        yield
    finally:
        decoder.set_attn_implementation(before)


def _own_attention(module, query, key, value, attention_mask, *, irlib_attention, **kwargs):
    if kwargs.get("softcap") is not None:
        raise ValueError(
            "asked for an attention of one's own, found a model that caps its attention scores; "
            "use a model without softcapping"
        )
    scaling = kwargs.get("scaling") or query.shape[-1] ** -0.5
    output = irlib_attention(module.layer_idx, query, key, value, attention_mask, scaling)
    return output.transpose(1, 2).contiguous(), None
