"""transformers' registry of attentions, and an attention of one's own in a decoder's place.

The only module that touches the two private names of transformers that irlib needs: the registry's
`_global_mapping`, from which nothing public takes a name away again, and a config's
`_attn_implementation`, which nothing public tells.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

OWN = "irlib_attend"  # its name in transformers' registries


def attention_of(model: nn.Module) -> str:
    """The name of the attention that a model of transformers computes with, "sdpa" or another."""
    return _told(model.config, "_attn_implementation")


def registered(name: str) -> Callable | None:
    """The attention of that name in transformers' registry; None for one of each model's own."""
    return _told(AttentionInterface, "_global_mapping").get(name)


def register(name: str, attention: Callable | None) -> None:
    """Let transformers' registry have this attention under the name; None takes the name away."""
    if attention is None:
        del _told(AttentionInterface, "_global_mapping")[name]
    else:
        AttentionInterface.register(name, attention)


@contextmanager
def own_attention(decoder: nn.Module) -> Iterator[None]:
    """Inside the block the decoder's attention is what its modules are called with, as
    `irlib_attention`: `hooks.attend` passes it on."""
    register(OWN, _own_attention)
    AttentionMaskInterface.register(OWN, sdpa_mask)  # without it every mask would be None
    before = attention_of(decoder)
    decoder.set_attn_implementation(OWN)
    try:
        yield
    finally:
        decoder.set_attn_implementation(before)


def _told(home, name):
    """What stands under a private name of transformers'."""
    if not hasattr(home, name):
        raise RuntimeError(
            f"asked transformers for {name} of {home!r:.60}, found that this version has no such "
            "name; install the versions of constraints.txt, or mend irlib/hooks/registry.py"
        )
    return getattr(home, name)


def _own_attention(module, query, key, value, attention_mask, *, irlib_attention, **kwargs):
    if kwargs.get("softcap") is not None:
        raise ValueError(
            "asked for an attention of one's own, found a model that caps its attention scores; "
            "use a model without softcapping"
        )
    scaling = kwargs.get("scaling") or query.shape[-1] ** -0.5
    output = irlib_attention(module.layer_idx, query, key, value, attention_mask, scaling)
    return output.transpose(1, 2).contiguous(), None
