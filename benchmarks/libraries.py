"""LLaVA-CAM as other libraries and the paper's authors make it, each from its published method.

Each gives the same numbers as irlib (benchmarks/cam.py checks it). What only draws is left out.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.alternatives import SITE, attention, heat_of, hooked
from irlib.inputs.records import Answer, Inputs
from irlib.models.vlm import VLM


def captum_cam(vlm: VLM, inputs: Inputs, answer: Answer, layers: Sequence[int]) -> np.ndarray:
    """Heat `[layer, token]` by captum's LayerGradCam, one attribution for each layer.

    LayerGradCam averages slopes over the last axes and sums over the second: each layer's norm is
    given an inner module whose output is `[1, channel, image token]`.
    """
    from captum.attr import LayerGradCam  # of the tests' packages: all else here does without

    whole, image, heat = inputs.followed_by(answer), _image(inputs), []
    batch = whole.batch
    pixels = batch.pop("pixel_values")
    first, ids = _rows(inputs, answer, vlm)

    def total(pixels):
        kept = whole.length - first
        told = vlm.model(**batch, pixel_values=pixels, use_cache=False, logits_to_keep=kept)
        return told.logits[:, :-1].float().gather(2, ids[None, :, None]).sum((1, 2))

    for layer in layers:
        module, name = vlm.decoder.layers[layer], vlm.sites[SITE]
        norm = module.get_submodule(name)
        laid = _ChannelsFirst(norm, image)
        module.set_submodule(name, laid)
        try:
            with torch.enable_grad():
                found = LayerGradCam(total, laid.channels).attribute(pixels, relu_attributions=True)
        finally:
            module.set_submodule(name, norm)
        heat.append(found.detach().float().flatten().cpu().numpy())
    return np.stack(heat)


def authors_cam(vlm: VLM, inputs: Inputs, answer: Answer, layers: Sequence[int]) -> np.ndarray:
    """Heat `[layer, token]` by the procedure of the paper's authors (their demo_grad.py).

    For each layer a forward of the prompt with all attention matrices, every parameter of language
    model and projector wanting a gradient, and a backward from the rows that the code reads; ReLU
    on the slopes. The answer comes from one generation before the loop, which is timed neither here
    nor for irlib. Their prompt grows by the answer at each layer, which is dearer and gives maps of
    different inputs: here it stays as it is.
    """
    image, heat = _image(inputs), []
    with attention(vlm, "eager"):
        ids, start = answer.ids[0].to(vlm.device), inputs.length - len(image) + 1
        with _trainable(vlm.model, but="vision_tower"), torch.enable_grad():
            for layer in layers:
                kept = {}

                def keep(module, args, output, kept=kept):
                    kept["a"] = output
                    output.retain_grad()

                vlm.model.zero_grad()
                with hooked(vlm.site(SITE)[layer].register_forward_hook, keep):
                    model, batch = vlm.family.call(vlm.model, inputs.batch)
                    told = model(**batch, use_cache=True, output_attentions=True)
                at = torch.arange(start, start + len(ids), device=vlm.device)
                told.logits[0, at, ids].sum().backward(retain_graph=True)
                slope = kept["a"].grad[0, image].clamp_min(0)
                heat.append(heat_of(kept["a"].detach()[0, image], slope))
                del told, kept
    return np.stack(heat)


def library_cam(vlm: VLM, inputs: Inputs, answer: Answer) -> np.ndarray:
    """Heat `[layer, token]` as pytorch-grad-cam makes it, every layer a target layer.

    Its procedure (Gildenblat et al., github.com/jacobgil/pytorch-grad-cam: ActivationsAndGradients
    and BaseCAM) without its drawing: hooks keep activations and gradients of the whole sequence of
    each target layer, and one backward goes through everything, parameters too. The library itself
    needs torchvision, OpenCV and scikit-learn for its drawing.
    """
    image, activations, gradients = _image(inputs).cpu(), [], []
    whole = inputs.followed_by(answer)
    first, ids = _rows(inputs, answer, vlm)

    def keep(module, args, output):
        activations.append(output.cpu().detach())
        output.register_hook(lambda slope: gradients.insert(0, slope.cpu().detach()))

    with _trainable(vlm.model), torch.enable_grad():
        vlm.model.zero_grad()
        handles = [site.register_forward_hook(keep) for site in vlm.site(SITE).values()]
        try:
            logits = vlm.forward(whole)[0, first:-1].float()
            logits.gather(1, ids[:, None]).sum().backward(retain_graph=True)
        finally:
            for handle in handles:
                handle.remove()
    pairs = zip(activations, gradients, strict=True)
    return np.stack([heat_of(a[0, image], slope[0, image]) for a, slope in pairs])


class _ChannelsFirst(nn.Module):
    """A norm whose output at the image positions passes through `channels` as `[1, channel, n]`."""

    def __init__(self, norm, image):
        super().__init__()
        self.norm, self.channels, self.image = norm, nn.Identity(), image

    def forward(self, states):
        states = self.norm(states)
        laid = self.channels(states[:, self.image].transpose(1, 2))
        return states.index_copy(1, self.image, laid.transpose(1, 2))


def _image(inputs) -> Tensor:
    """The positions of the image tokens of the only row."""
    return inputs.spans.image[0].nonzero().flatten()


def _rows(inputs, answer, vlm):
    """The first position whose logits predict the answer, and the answer's ids."""
    return inputs.length - 1, answer.ids[0].to(vlm.device)


@contextmanager
def _trainable(model, but: str = "\0") -> Iterator[None]:
    """Every parameter wants a gradient, as in a model that was just loaded."""
    parameters = [weight for name, weight in model.named_parameters() if but not in name]
    for weight in parameters:
        weight.requires_grad_(True)
    try:
        yield
    finally:
        for weight in parameters:
            weight.requires_grad_(False)
            weight.grad = None
