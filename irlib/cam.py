"""LLaVA-CAM: which parts of the picture the answer's logits depend on, layer by layer."""

import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from irlib.hooks import edit, rows
from irlib.inputs import Answer, Inputs
from irlib.maps import Maps


def llava_cam(
    vlm,
    inputs: Inputs,
    answer: Answer,
    *,
    site: str = "post_attention",
    noise: float = 0.0,
    n: int = 1,
    seed: int = 0,
    target: str | Callable[[Tensor], Tensor] = "answer",
    relu_grad: bool = False,
    threshold: float | None = None,
    views: str = "mean",
) -> Maps | list[Maps]:
    """The LLaVA-CAM `Maps` of each row's picture, all layers from one forward and one backward.

    With A the output of `site` at the image positions and z the target, heat = ReLU(sum_k alpha_k
    A_k), alpha_k the mean over the image positions of dz/dA_k (eq. 1-3), from one teacher-forced
    run of prompt and `answer`. `site` is one of figure 7's: "input_norm", "attention",
    "post_attention" (the paper's), "mlp", "block". Behind the attention of the last layer image
    positions reach no text logit: its map is zero everywhere but at "input_norm".

    `target`: "answer", the sum of the answer's logits, each read where it is predicted; a word or
    phrase of the answer, for its tokens alone; a callable on those logits `[token, vocabulary]`; or
    "authors", the rows that the authors' code reads. `noise` is a standard deviation in pixel units
    of 0 to 1, added before the processor's normalisation; the heat is the mean over `n` noisy
    copies (eq. 4-5), the answer that of the clean picture. `relu_grad=True` and `threshold=0.5`
    (heat under that part of the maximum is set to 0) are the authors' code.

    Where the model sees a picture in several views (whole and in tiles), a map is their mean at the
    finest one's cells, or that one alone with `views="finest"`. Where image tokens have no place on
    the picture (InstructBLIP's queries), each token's heat goes to the patches that it attends to:
    times its cross-attention, the mean over heads and layers; `maps.grid.note` says so.

    Raises `ValueError` for a sample without a picture, an unknown site, a word that the answer does
    not hold, and numbers that are not finite.

    >>> from irlib import load, load_task
    >>> vlm = load("mini-llava")
    >>> inputs = vlm.prepare(load_task("pope", n=1))
    >>> llava_cam(vlm, inputs, vlm.answer(inputs)).heat.shape
    (12, 8, 8)
    """
    if None in inputs.grids:
        raise ValueError(
            "asked for LLaVA-CAM, found a sample without a picture; leave it out: there is nothing "
            "to map"
        )
    if not all("pixel_values" in visual for visual in inputs.visual):
        raise ValueError(
            "asked for LLaVA-CAM, found inputs without pixels; give those of vlm.prepare, not of "
            "vlm.encode"
        )
    if n < 1 or not 0 <= noise < float("inf"):
        raise ValueError(
            f"asked for {n} copies with noise {noise}; give n of at least 1 and noise of at least 0"
        )
    whole = inputs.followed_by(answer)
    at, total = _target(vlm, inputs, answer, whole, target)
    # the same draws for each row: its map does not depend on its neighbours in the batch
    draws = [torch.Generator().manual_seed(seed) for _ in range(len(inputs))]
    laid = []
    for _ in range(n):
        noisy = _noisy(vlm, whole, noise, draws)
        by_row, grids = _features_and_slopes(vlm, noisy, site, at, total)
        heats = [_heat(*both, relu_grad, threshold).cpu().numpy() for both in by_row]
        pairs = zip(heats, grids, strict=True)
        laid.append([grid.lay(heat, views=views) for heat, grid in pairs])
    heats = [np.stack(copies).mean(0) for copies in zip(*laid, strict=True)]
    facts = zip(heats, inputs.grids, inputs.pictures, inputs.samples, strict=True)
    maps = [
        Maps(heat, site, grid, picture, sample, vlm.name) for heat, grid, picture, sample in facts
    ]
    return maps[0] if len(maps) == 1 else maps


def _noisy(vlm, whole, noise, draws) -> Inputs:
    """The inputs with noise of that standard deviation on their pictures."""
    if noise == 0:
        return whole
    visual = []
    for row, draw in zip(whole.visual, draws, strict=True):
        pixels, processor = row["pixel_values"], vlm.processor.image_processor
        grain = noise * vlm.family.noise(pixels.cpu(), processor, draw)
        visual.append(row | {"pixel_values": pixels + grain.to(pixels)})
    return replace(whole, visual=tuple(visual))


def _features_and_slopes(vlm, whole, site, at, total):
    """A and dz/dA, each `[layer, token, channel]`, of every row, and the grids to lay them on.

    One forward, one backward. The gradient is that of a zero added at the image positions, so that
    nothing else is kept.
    """
    where = whole.spans.image.nonzero(as_tuple=True)
    features, zeros = {}, {}

    def add_zero(layer, output):
        here = tuple(axis.to(output.device) for axis in where)  # where this layer is
        features[layer] = output.detach()[here].float()
        zeros[layer] = torch.zeros_like(output[here], requires_grad=True)
        return output.index_put(here, zeros[layer], accumulate=True)

    first = min(int(positions.min()) for positions in at)
    with torch.enable_grad(), edit(vlm.site(site), add_zero, once=True), _bridge(vlm) as crossed:
        logits = vlm.forward(whole, logits_to_keep=whole.length - first).float()
        z = sum(total(row, logits[row, positions - first]) for row, positions in enumerate(at))
        slopes = torch.autograd.grad(z, list(zeros.values()))
    sizes = whole.spans.image.sum(1).tolist()
    _check_slopes(vlm, slopes)
    both = ([value.to(vlm.device) for value in values] for values in (features.values(), slopes))
    stacked = [torch.stack(values).float() for values in both]
    by_row = list(zip(*(values.split(sizes, dim=1) for values in stacked), strict=True))
    if not crossed:
        return by_row, whole.grids
    weights = torch.stack([found.cpu() for found in crossed.values()])  # [layer, row, token, key]
    weights = weights.mean(0).numpy()
    pairs = zip(whole.grids, weights, strict=True)
    # the keys are the patches, and before them one of the whole picture, which has no place
    return by_row, [grid.through(mine[:, -grid.shape[0] * grid.shape[1] :]) for grid, mine in pairs]


def _check_slopes(vlm, slopes):
    """Refuse gradients that overflow, or vanish, in few bits; in float32 a zero is a result."""
    few = vlm.quantization or (str(vlm.dtype) if vlm.dtype.itemsize < 4 else None)
    finite = all(slope.isfinite().all() for slope in slopes)
    if not finite or (few and not any(slope.any() for slope in slopes)):
        found = "zero in every layer" if finite else "not finite"
        raise ValueError(
            f"asked for LLaVA-CAM, found gradients that are {found}, in a model in "
            f"{few or vlm.dtype}; load it with dtype=float32 and without quantization"
        )


def _bridge(vlm):
    """Collects what stands between image tokens and patches: head-averaged weights by layer."""
    if vlm.family.bridge is None:
        return nullcontext({})
    module, attentions = vlm.family.bridge(vlm.model)
    return rows(module, None, reduce=lambda weights, _: weights.mean(1), attentions=attentions)


def _heat(features, slopes, relu_grad, threshold) -> Tensor:
    """Eq. (3) for features and slopes `[layer, token, channel]`: heat `[layer, token]`."""
    alpha = (slopes.clamp_min(0) if relu_grad else slopes).mean(1)
    heat = torch.einsum("ltk,lk->lt", features, alpha).clamp_min(0)
    if threshold is None:
        return heat
    return heat.where(heat >= threshold * heat.amax(1, keepdim=True), 0)


def _target(vlm, inputs, answer, whole, target):
    """Positions `[token]` to read the logits of each row at, and `total(row, logits) -> z`."""
    at = [mask.nonzero().flatten() for mask in whole.spans.predicting]
    ids = [row.to(vlm.device) for row in answer.ids]
    if callable(target):
        return at, lambda row, logits: target(logits)
    if target == "authors":
        at = list(map(_authors_positions, [inputs] * len(ids), range(len(ids)), map(len, ids)))
    elif target != "answer":
        chosen = [_tokens_of(vlm, mine, target) for mine in answer.ids]
        at = [positions[mine] for positions, mine in zip(at, chosen, strict=True)]
        ids = [row[mine] for row, mine in zip(ids, chosen, strict=True)]
    return at, lambda row, logits: logits.gather(1, ids[row][:, None]).sum()


def _authors_positions(inputs, row, length) -> Tensor:
    """p..p+T-1, p the prompt's length with the image counted as one id, in the prompt alone.

    These rows lie on image positions and not where the answer is predicted.
    """
    image, padding = inputs.spans.image[row], ~inputs.batch["attention_mask"][row].bool()
    p = int(inputs.length - image.sum() + 1)  # padding included: the rows shift with it
    if p + length > inputs.length:
        raise ValueError(
            f"asked for the authors' target, found its last row {p + length - 1} beyond the prompt "
            f"of {inputs.length} positions; cut the answer to {inputs.length - p} tokens, or use "
            'target="answer"'
        )
    positions = torch.arange(p, p + length, device=image.device)
    if not image[positions].all():
        on = int(image[positions].sum())
        warnings.warn(
            f"target='authors' reads {length} rows from position {p - int(padding.sum())}; "
            f"only {on} of them fall on the image",
            stacklevel=4,
        )
    return positions


def _tokens_of(vlm, ids, words) -> list[int]:
    """Indices of the answer's tokens that spell these words, at their first occurrence."""
    decode = vlm.processor.tokenizer.decode
    ends = [len(decode(ids[: index + 1])) for index in range(len(ids))]
    text = decode(ids)
    start = text.lower().find(words.lower())
    if start < 0 or not words:
        raise ValueError(
            f"asked for the words {words!r} of the answer, found {text!r}; use words of the "
            'answer, "answer", "authors" or a callable on the logits'
        )
    stop = start + len(words)
    spans = zip([0, *ends], ends, strict=False)
    return [index for index, (a, b) in enumerate(spans) if a < stop and b > start]
