"""What a backward pass needs kept: how much that is, and how to keep less."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from irlib.hooks.registry import attention_of


@contextmanager
def recompute(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Keep only the inputs of these modules for a backward pass, which computes the rest again.

    Results are the same. The block must hold forward and backward; hooks inside these modules then
    run twice, and must do the same both times. Works in eval mode, where transformers' own gradient
    checkpointing does nothing.

    >>> import torch
    >>> net, x = nn.Linear(2, 3), torch.ones(1, 2, requires_grad=True)
    >>> with recompute([net]):
    ...     torch.autograd.grad(net(x).sum(), x)[0].shape
    torch.Size([1, 2])
    """
    with ExitStack() as stack:
        for module in modules:
            held = vars(module)
            if "forward" in held:  # another library has wrapped it
                stack.callback(held.__setitem__, "forward", held["forward"])
            else:
                stack.callback(held.__delitem__, "forward")
            held["forward"] = partial(checkpoint, module.forward, use_reentrant=False)
        yield


def kept(decoder: nn.Module, length: int, *, first: int = 0, again: bool = False) -> int:
    """Bytes that a backward down to layer `first` needs kept of one row of `length` positions.

    By position and layer, in the decoder's dtype: queries, keys, values and what comes of them (4 x
    heads x their width), the MLP's gate before and behind its activation and what it gates (3 x
    intermediate size; of experts, those that a token goes through, and what each of them gives),
    and a row of a mask (length); what each norm keeps, in float32 as a rule. Under "eager"
    attention, instead of the mask, the weights (heads x length) in float32, and once more where
    the dtype is shorter. With `again`, where layers are recomputed, the inputs of all (hidden size)
    and the rest of one. Within 15 % of what is kept, for rows without padding, which need no mask,
    too high by some more. Logits are not in it.
    """
    config, size = decoder.config, decoder.dtype.itemsize
    heads = config.num_attention_heads
    eager, each = attention_of(decoder) == "eager", []
    shares = length * (heads * (4 + size * (size < 4)) if eager else size)
    for layer in decoder.layers[first:]:
        width = getattr(layer.self_attn, "head_dim", None)  # Gemma 4's layers have their own
        width = width or getattr(config, "head_dim", None) or config.hidden_size // heads
        groups = heads // getattr(layer.self_attn, "num_key_value_groups", 1)
        norms = sum(
            _by_norm(norm, config.hidden_size, decoder.dtype)
            for name, norm in layer.named_children()
            if "norm" in name
        )
        if hasattr(layer.self_attn, "q_norm"):
            norms += 4 * (heads + groups) * width
        each.append(size * (4 * heads * width + _by_mlp(config, layer)) + norms + shares)
    inputs = len(each) * config.hidden_size * size
    return length * (inputs + max(each) if again else sum(each))


def _by_mlp(config, layer) -> int:
    """Channels a position that a layer's MLP keeps: of experts, those that a token goes through."""
    beside = hasattr(layer, "experts")  # Gemma 4's stand beside an MLP
    if not beside and not any(hasattr(part, "experts") for part in layer.children()):
        return 3 * config.intermediate_size

    def told(*names):
        return next((n for name in names if (n := getattr(config, name, None))), 0)

    each = told("num_experts_per_tok", "moe_topk", "top_k_experts") or 1
    shared = told("n_shared_experts", "moe_num_shared_experts")
    width = told("moe_intermediate_size", "intermediate_size")
    dense = 3 * config.intermediate_size * beside
    return dense + 3 * width * (each + shared) + each * config.hidden_size


def _by_norm(norm: nn.Module, width: int, dtype: torch.dtype) -> int:
    """Bytes a position that a norm keeps of its input; its hooks do not run."""
    weights = {weight.untyped_storage()._cdata for weight in norm.parameters()}
    device = next((weight.device for weight in norm.parameters()), None)

    def saved(positions):
        kept = {}

        def note(tensor):
            kept[tensor.untyped_storage()._cdata] = tensor  # held, so that no other takes its place
            return tensor

        states = torch.ones(positions, width, dtype=dtype, device=device, requires_grad=True)
        hooks = torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor)
        with torch.enable_grad(), hooks:
            type(norm).forward(norm, states)
        return sum(kept[key].untyped_storage().nbytes() for key in kept.keys() - weights)

    return saved(2) - saved(1)


def share_out(
    decoder: nn.Module, length: int, memory: float, *, first: int = 0, results: int = 0
) -> tuple[int, bool]:
    """How many rows a forward and backward can take within `memory` GiB, and whether to recompute.

    A row takes what is `kept` of it and `results` bytes. Layers are recomputed only where one row
    would take more than `memory` without; a pass has at least one row.
    """
    budget = memory * 2**30
    again = kept(decoder, length, first=first) + results > budget
    each = kept(decoder, length, first=first, again=again) + results
    return max(1, int(budget / each)), again
