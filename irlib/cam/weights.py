"""Slopes of a target where the image enters: in attention weights, and in the embeddings."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from irlib.cam.slopes import check
from irlib.hooks.hooks import attend, edit
from irlib.hooks.probe import weigh
from irlib.inputs.records import Inputs


def image_slopes(
    vlm, inputs: Inputs, at: Sequence[Tensor], total: Callable[[int, Tensor], Tensor]
) -> tuple[dict[int, tuple[Tensor, Tensor]], Tensor]:
    """`(A, dz/dA)` by layer, both `[head, query, token]`, and dz/de `[token, channel]`, in float32.

    Of the only row of `inputs`, from one forward and one backward. A are the attention weights that
    the rows which predict the answer (query) give the image tokens, e what the first decoder layer
    is given of these (what a family adds to them in later layers is not in it), z is `total(0,
    logits)` at the positions `at[0]`. The gradient is that of a zero added: to the weights behind
    the softmax, each a variable of its own, and to the embeddings. Raises `ValueError` for slopes
    that are not finite and for a model that caps its attention scores.
    """
    image, asking = (
        mask[0].nonzero().flatten() for mask in (inputs.spans.image, inputs.spans.predicting)
    )
    weights, zeros = {}, {}

    def attention(layer, query, key, value, mask, scaling):
        each = query.shape[1] // key.shape[1]
        wide = [x.repeat_interleave(each, 1) for x in (key, value)]
        output = scaled_dot_product_attention(
            query, *wide, attn_mask=mask, is_causal=mask is None, scale=scaling
        )
        ((found, _),) = weigh(query, key, mask, asking[None], scaling=scaling)
        weights[layer] = found[0][..., image.to(found.device)]
        zeros[layer] = torch.zeros_like(weights[layer], requires_grad=True)
        seen = wide[1][:, :, image.to(found.device)]
        added = zeros[layer][None].to(seen.dtype) @ seen
        return output.index_add(2, asking.to(output.device), added)

    def add_zero(_, args, kwargs):
        here = image.to(args[0].device)
        zeros["e"] = torch.zeros_like(args[0][0, here].detach(), requires_grad=True)
        return (args[0].detach().index_add(1, here, zeros["e"][None]), *args[1:]), kwargs

    first = int(at[0].min())
    with (
        torch.enable_grad(),
        attend(vlm.decoder, attention),
        edit({0: vlm.decoder.layers[0]}, add_zero, at="input", once=True),
    ):
        logits = vlm.forward(inputs, logits_to_keep=inputs.length - first)
        z = total(0, logits[0, at[0].to(logits.device) - first].float())
        slopes = dict(zip(zeros, torch.autograd.grad(z, list(zeros.values())), strict=True))
    check(vlm, list(slopes.values()))
    embedded = slopes.pop("e").float()
    return {layer: (weights[layer], slopes[layer].float()) for layer in sorted(slopes)}, embedded
