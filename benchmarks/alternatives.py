"""What irlib's instruments are measured against, each written from its published method.

Each gives the same numbers as irlib (the scripts check it). Where a procedure leaves something
open it is done in the cheaper way, and what only draws (resizing, colouring) is left out.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from captum.attr import LayerGradCam
from torch import Tensor, nn

from irlib.inputs.records import Answer, Inputs
from irlib.interventions.edges import knockout, span
from irlib.interventions.truncation import truncate
from irlib.models.vlm import VLM

SITE = "post_attention"


@torch.no_grad()
def naive_sweep(vlm: VLM, inputs: Inputs, layers: Sequence[int]) -> Tensor:
    """Last logits `[layer, row, vocabulary]` by one full prefill per layer, image columns masked.

    The way of FastV (Chen et al. 2024, arXiv 2403.06764, its masking variant for measuring) and of
    the paper's authors, who edit the layer in the source and run everything again.
    """
    found = []
    for layer in layers:
        with truncate(vlm, inputs, layer=layer):
            found.append(vlm.forward(inputs, logits_to_keep=1)[:, -1])
    return torch.stack(found)


def naive_answers(
    vlm: VLM, inputs: Inputs, layers: Sequence[int], max_new_tokens: int
) -> dict[int, Answer]:
    """The greedy answers, one whole generation per layer inside the same mask."""
    found = {}
    for layer in layers:
        with truncate(vlm, inputs, layer=layer):
            found[layer] = vlm.answer(inputs, max_new_tokens=max_new_tokens)
    return found


@torch.no_grad()
def naive_knockout(
    vlm: VLM, inputs: Inputs, edges: Sequence[str], kinds: Sequence[str], layers: Sequence[int]
) -> Tensor:
    """Last logits `[plan, layer, row, vocabulary]` by one full prefill per plan, cells masked.

    The way of Geva et al. (2023, arXiv 2304.14767) and of those who cut edges of LLaVA since.
    """
    found = []
    for edge in edges:
        for kind in kinds:
            for layer in layers:
                cut = range(*span(kind, layer, window=3, n_layers=vlm.n_layers))
                with knockout(vlm, inputs, edge=edge, layers=cut):
                    found.append(vlm.forward(inputs, logits_to_keep=1)[:, -1])
    return torch.stack(found).unflatten(0, (-1, len(layers)))


def plain_backward(vlm: VLM, inputs: Inputs, answer: Answer) -> Tensor:
    """One teacher-forced forward and one backward to the first layer's input, no instrument."""
    kept = {}

    def begin(module, args, kwargs):
        kept["input"] = args[0].detach().requires_grad_(True)
        return (kept["input"], *args[1:]), kwargs

    with torch.enable_grad(), _hooked(vlm.decoder.layers[0].register_forward_pre_hook, begin, True):
        return torch.autograd.grad(_target(vlm, inputs, answer), kept["input"])[0]


def separate_cam(vlm: VLM, inputs: Inputs, answer: Answer, layers: Sequence[int]) -> np.ndarray:
    """Heat `[layer, token]` of eq. (1)-(3) by one forward and one backward for each layer alone.

    The graph begins at that layer: the cheapest that a loop over layers can be.
    """
    image, heat = _image(inputs), []
    for layer in layers:
        kept = {}

        def begin(module, args, output, kept=kept):
            kept["a"] = output.detach().requires_grad_(True)
            return kept["a"]

        with torch.enable_grad(), _hooked(vlm.site(SITE)[layer].register_forward_hook, begin):
            slope = torch.autograd.grad(_target(vlm, inputs, answer), kept["a"])[0]
        heat.append(_heat(kept["a"].detach()[0, image], slope[0, image]))
    return np.stack(heat)


def captum_cam(vlm: VLM, inputs: Inputs, answer: Answer, layers: Sequence[int]) -> np.ndarray:
    """Heat `[layer, token]` by captum's LayerGradCam, one attribution for each layer.

    LayerGradCam averages slopes over the last axes and sums over the second: each layer's norm is
    given an inner module whose output is `[1, channel, image token]`.
    """
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
    with _attention(vlm, "eager"):
        ids, start = answer.ids[0].to(vlm.device), inputs.length - len(image) + 1
        with _trainable(vlm.model, but="vision_tower"), torch.enable_grad():
            for layer in layers:
                kept = {}

                def keep(module, args, output, kept=kept):
                    kept["a"] = output
                    output.retain_grad()

                vlm.model.zero_grad()
                with _hooked(vlm.site(SITE)[layer].register_forward_hook, keep):
                    model, batch = vlm.family.call(vlm.model, inputs.batch)
                    told = model(**batch, use_cache=True, output_attentions=True)
                at = torch.arange(start, start + len(ids), device=vlm.device)
                told.logits[0, at, ids].sum().backward(retain_graph=True)
                slope = kept["a"].grad[0, image].clamp_min(0)
                heat.append(_heat(kept["a"].detach()[0, image], slope))
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
    return np.stack([_heat(a[0, image], slope[0, image]) for a, slope in pairs])


@torch.no_grad()
def output_attentions(vlm: VLM, inputs: Inputs, answer: Answer) -> tuple[np.ndarray, int]:
    """Shares `[layer, segment]` from every attention matrix, and the bytes that these take.

    transformers' own way: eager attention with output_attentions=True.
    """
    whole = inputs.followed_by(answer)
    masks = torch.stack([mask[0] for mask in vars(whole.spans).values()], -1).float()
    model, batch = vlm.family.call(vlm.model, whole.batch)
    with _attention(vlm, "eager"):
        told = model(**batch, use_cache=False, output_attentions=True, logits_to_keep=1)
    rows = whole.spans.predicting[0]
    shares = [one[0].float().mean(0)[rows].mean(0) @ masks for one in told.attentions]
    held = sum(one.numel() * one.element_size() for one in told.attentions)
    return torch.stack(shares).cpu().numpy(), held


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


def _target(vlm, inputs, answer):
    whole = inputs.followed_by(answer)
    first, ids = _rows(inputs, answer, vlm)
    logits = vlm.forward(whole, logits_to_keep=whole.length - first)[0, :-1].float()
    return logits.gather(1, ids[:, None]).sum()


def _heat(features, slopes) -> np.ndarray:
    alpha = slopes.float().mean(0)
    return (features.float() @ alpha).clamp_min(0).cpu().numpy()


@contextmanager
def _hooked(register, hook, with_kwargs=False) -> Iterator[None]:
    handle = register(hook, with_kwargs=True) if with_kwargs else register(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _attention(vlm, name) -> Iterator[None]:
    before = vlm.decoder.config._attn_implementation
    vlm.decoder.set_attn_implementation(name)
    try:
        yield
    finally:
        vlm.decoder.set_attn_implementation(before)


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
