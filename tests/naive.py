"""Slow oracles of the three instruments: masks in full, a backward a layer, loops over tokens."""

from contextlib import ExitStack

import families_two
import numpy as np
import torch
from conftest import eager_attention, with_eager


class Masked:
    """Oracle: each decoder layer gets a mask `[row, query, key]` built in full, by plain hooks."""

    def __init__(self, vlm, masks):
        self.vlm, self.masks = vlm, masks

    def __enter__(self):
        self.stack = ExitStack()
        for layer, mask in zip(self.vlm.decoder.layers, self.masks, strict=True):

            def give(module, args, kwargs, mask=mask):
                return args, dict(kwargs, attention_mask=mask[:, None])

            handle = layer.register_forward_pre_hook(give, with_kwargs=True)
            self.stack.callback(handle.remove)
        return self

    def __exit__(self, *error):
        self.stack.close()


def naive_masks(vlm, inputs, layer):
    """What each layer may see when the image is hidden from `layer` (one a row) on.

    What it sees otherwise is where eager's weights are not zero: causal, both ways, a window.
    """
    visible = eager_attention(vlm, inputs).amax(2) > 0
    image = inputs.spans.image
    masks = []
    for index, mask in enumerate(visible):
        hidden = image[:, None, :] & ~image[:, :, None] & (layer <= index)[:, None, None]
        mask = mask & ~hidden
        mask[~inputs.text["attention_mask"].bool()] = True  # padding: nobody looks at it
        if vlm.decoder.config._attn_implementation == "eager":
            mask = torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)
        masks.append(mask)
    return masks


@torch.no_grad()
def naive_logits(vlm, inputs, layer):
    with Masked(vlm, naive_masks(vlm, inputs, torch.as_tensor(layer))):
        return vlm.forward(inputs)


def separate(vlm, inputs, answer, layer, sign=1, site="post_attention"):
    """Oracle: A and dz/dA at the image, by a forward and a backward for this layer alone."""
    whole, kept = inputs.followed_by(answer), {}

    def start(module, args, output):
        first = output[0] if isinstance(output, tuple) else output
        kept["a"] = first.detach().requires_grad_(True)
        return (kept["a"], *output[1:]) if isinstance(output, tuple) else kept["a"]

    handle = vlm.site(site)[layer].register_forward_hook(start)
    try:
        with torch.enable_grad():
            logits = vlm.forward(whole)[0, inputs.length - 1 : -1]
            z = sign * logits.gather(1, answer.ids[0][:, None]).sum()
            slope = torch.autograd.grad(z, kept["a"])[0]
    finally:
        handle.remove()
    image = whole.spans.image[0]
    return kept["a"].detach()[0, image], slope[0, image]


def naive_heat(features, slope):
    """Oracle: equation (3), a loop over image tokens."""
    alpha = slope.mean(0)
    return np.array([max(float((alpha * row).sum()), 0.0) for row in features], np.float32)


def signed(answer, sign):
    """The answer's logits, or their negative, as a target of llava_cam."""
    return lambda logits: sign * logits.gather(1, answer.ids[0][:, None]).sum()


def laid_through(vlm, inputs):
    """The grid to lay heat on; for InstructBLIP with eager's cross-attention of its Q-Former."""
    if inputs.grid.views:
        return inputs.grid
    if inputs.grid.crops:
        return families_two.laid_through(vlm, inputs)
    model = with_eager(vlm).model
    model.qformer.set_attn_implementation("eager")
    kept = []
    handles = [
        layer.crossattention.attention.register_forward_hook(lambda m, a, out: kept.append(out[1]))
        for layer in model.qformer.encoder.layer[::2]
    ]
    keys = ("pixel_values", "qformer_input_ids", "qformer_attention_mask")
    model.get_image_features(**{key: inputs.batch[key] for key in keys})
    for handle in handles:
        handle.remove()
    weights = torch.stack(kept).mean((0, 2))[0]  # [query, key], a class before the patches
    assert torch.allclose(weights.sum(-1), torch.ones(8))
    return inputs.grid.through(weights[:, 1:])
