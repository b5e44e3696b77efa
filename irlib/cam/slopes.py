"""Features of decoder layers and the slopes of a target in them: one forward, one backward."""

import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext

import torch
from torch import Tensor

from irlib.cam.saving import recompute
from irlib.hooks.hooks import edit
from irlib.inputs.records import Inputs


def features_and_slopes(
    vlm,
    inputs: Inputs,
    sites: Sequence[str],
    layers: Sequence[int],
    at: Sequence[Tensor],
    total: Callable[[int, Tensor], Tensor],
    reduce: Callable[[Tensor, Tensor], Tensor],
    *,
    again: bool = False,
) -> dict[tuple[str, int], list[Tensor]]:
    """What `reduce(A, dz/dA)`, both `[token, channel]`, makes of each row, by (site, layer).

    A is the output of a site at the image positions, z the sum over rows of `total(row, logits
    [token, vocabulary])` at the positions `at[row]`. All from one forward and one backward: the
    gradient is that of a zero added at the image positions, so that nothing below the first of the
    `layers` is kept for it, and of the weights nothing at all. With `again`, layers keep only their
    inputs and are computed anew in the backward; what comes out is the same. Raises `ValueError`
    for slopes that are not finite; warns where, in few bits, all of them are zero.
    """
    where = inputs.spans.image.nonzero(as_tuple=True)
    features, zeros = {}, {}

    def add_zero(key, output):
        here = tuple(index.to(output.device) for index in where)
        if key not in zeros:  # else the layer is computed again, with the same zero
            features[key] = output.detach()[here]
            zeros[key] = torch.zeros_like(features[key], requires_grad=True)
        return output.index_put(here, zeros[key], accumulate=True)

    modules = {site: vlm.site(site) for site in sites}
    modules = {(site, layer): modules[site][layer] for site in sites for layer in layers}
    upper = list(vlm.decoder.layers)[min(layers) :]
    first = min(int(positions.min()) for positions in at)
    with ExitStack() as stack:
        stack.enter_context(torch.enable_grad())
        stack.enter_context(recompute(upper) if again else nullcontext())
        stack.enter_context(edit(modules, add_zero, once=not again))
        logits = vlm.forward(inputs, logits_to_keep=inputs.length - first)
        z = sum(
            total(row, logits[row, positions.to(logits.device) - first].float())
            for row, positions in enumerate(at)
        )
        slopes = dict(zip(zeros, torch.autograd.grad(z, list(zeros.values())), strict=True))
        zeros.clear()
    check(vlm, list(slopes.values()))
    sizes = inputs.spans.image.sum(1).tolist()
    return {
        key: list(map(reduce, features.pop(key).split(sizes), slopes.pop(key).split(sizes)))
        for key in modules
    }


def by_token(features: Tensor, slopes: Tensor) -> Tensor:
    """sum_k g_k A_k of each token, `[..., token]` from `[..., token, channel]` in float32.

    0 where it is no larger than the rounding of such a sum can be.

    >>> ones = torch.ones(2)
    >>> by_token(torch.stack([ones, ones]), torch.tensor([[1.0, 1.0], [1.0, -1.0]])).tolist()
    [2.0, 0.0]
    """
    parts = features * slopes
    total, rounding = parts.sum(-1), parts.shape[-1] * torch.finfo(parts.dtype).eps
    return total.where(total.abs() > rounding * parts.abs().sum(-1), 0)


def check(vlm, slopes) -> None:
    """Refuse slopes that overflow; where they vanish, few bits are the likely reason but not the
    only one: with the picture hidden from layer 0 on, or at the last layer, a zero is a result."""
    few = vlm.quantization or str(vlm.dtype)
    if not all(slope.isfinite().all() for slope in slopes):
        raise ValueError(
            "asked for gradients of image tokens, found some that are not finite, in a model in "
            f"{few}; load it with dtype=float32 and without quantization"
        )
    if few != "torch.float32" and not any(slope.any() for slope in slopes):
        warnings.warn(
            f"all gradients are zero, in a model in {few}: where the picture is not hidden, load "
            "it with dtype=float32 and without quantization",
            stacklevel=4,
        )
