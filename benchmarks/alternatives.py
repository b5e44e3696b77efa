"""What irlib's instruments are measured against, each written from its published method.

Each gives the same numbers as irlib (the scripts check it). Where a procedure leaves something
open it is done in the cheaper way, and what only draws (resizing, colouring) is left out.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

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

    with torch.enable_grad(), hooked(vlm.decoder.layers[0].register_forward_pre_hook, begin, True):
        return torch.autograd.grad(_target(vlm, inputs, answer), kept["input"])[0]


def separate_cam(vlm: VLM, inputs: Inputs, answer: Answer, layers: Sequence[int]) -> np.ndarray:
    """Heat `[row, layer, token]` of eq. (1)-(3) by a forward and a backward for each layer alone.

    The graph begins at that layer: the cheapest that a loop over layers can be. Rows have equally
    many image tokens.
    """
    image, rows, heat = inputs.spans.image.nonzero(as_tuple=True), len(inputs), []
    for layer in layers:
        kept = {}

        def begin(module, args, output, kept=kept):
            kept["a"] = output.detach().requires_grad_(True)
            return kept["a"]

        with torch.enable_grad(), hooked(vlm.site(SITE)[layer].register_forward_hook, begin):
            slope = torch.autograd.grad(_target(vlm, inputs, answer), kept["a"])[0]
        pairs = (x[image].unflatten(0, (rows, -1)) for x in (kept["a"].detach(), slope))
        heat.append([heat_of(*pair) for pair in zip(*pairs, strict=True)])
    return np.stack(heat, 1)


@torch.no_grad()
def output_attentions(vlm: VLM, inputs: Inputs, answer: Answer) -> tuple[np.ndarray, int]:
    """Shares `[row, layer, segment]` from every attention matrix, and the bytes that these take.

    transformers' own way: eager attention with output_attentions=True. Rows have answers of one
    length.
    """
    whole = inputs.followed_by(answer)
    masks = torch.stack([*vars(whole.spans).values()], -1).float()
    model, batch = vlm.family.call(vlm.model, whole.batch)
    with attention(vlm, "eager"):
        told = model(**batch, use_cache=False, output_attentions=True, logits_to_keep=1)
    rows = whole.spans.predicting.float()
    rows = (rows / rows.sum(1, keepdim=True))[:, None]
    shares = [(rows @ one.float().mean(1) @ masks)[:, 0] for one in told.attentions]
    held = sum(one.numel() * one.element_size() for one in told.attentions)
    return torch.stack(shares, 1).cpu().numpy(), held


def predicted(vlm: VLM, inputs: Inputs, answer: Answer) -> tuple[Tensor, Tensor, Tensor]:
    """Teacher-forced logits `[row, token, vocabulary]` of an answer's tokens, and `[row, token]`
    their ids and which of them are no padding."""
    whole = inputs.followed_by(answer)
    new = whole.length - inputs.length
    logits = vlm.forward(whole, logits_to_keep=new + 1)[:, :-1].float()
    return logits, whole.text["input_ids"][:, -new:], whole.spans.answer[:, -new:]


def _target(vlm, inputs, answer):
    logits, ids, real = predicted(vlm, inputs, answer)
    return (logits.gather(2, ids[..., None])[..., 0] * real).sum()


def heat_of(features: Tensor, slopes: Tensor) -> np.ndarray:
    """Heat `[token]` of eq. (3) for features and slopes `[token, channel]`."""
    alpha = slopes.float().mean(0)
    return (features.float() @ alpha).clamp_min(0).cpu().numpy()


@contextmanager
def hooked(register: Callable, hook: Callable, with_kwargs: bool = False) -> Iterator[None]:
    """Inside the block a hook is registered."""
    handle = register(hook, with_kwargs=True) if with_kwargs else register(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def attention(vlm: VLM, name: str) -> Iterator[None]:
    """Inside the block the decoder computes attention by the implementation of that name."""
    before = vlm.decoder.config._attn_implementation
    vlm.decoder.set_attn_implementation(name)
    try:
        yield
    finally:
        vlm.decoder.set_attn_implementation(before)
