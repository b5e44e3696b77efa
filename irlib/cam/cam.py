"""LLaVA-CAM: which parts of the picture the answer's logits depend on, layer by layer."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from irlib import doors
from irlib.cam.asking import check_gradients, check_inputs, check_settings, sites_and_layers
from irlib.cam.maps import Maps
from irlib.cam.saving import share_out
from irlib.cam.seeing import encoded
from irlib.cam.slopes import by_token, features_and_slopes
from irlib.cam.targets import logits_of
from irlib.inputs.records import Answer, Inputs
from irlib.models.spelling import spelled

log = logging.getLogger(__name__)


def llava_cam(
    vlm,
    inputs: Inputs,
    answer: Answer | str | Sequence[str],
    *,
    site: str | Sequence[str] = "post_attention",
    layers: Sequence[int] | None = None,
    noise: float = 0.0,
    n: int = 1,
    seed: int = 0,
    target: str | int | Callable[[Tensor], Tensor] = "answer",
    pool: str = "mean",
    relu_grad: bool = False,
    threshold: float | None = None,
    views: str = "mean",
    memory: float = 4.0,
) -> Maps | dict[str, Maps] | list[Maps] | list[dict[str, Maps]]:
    """The LLaVA-CAM `Maps` of each row's picture, all layers from one forward and one backward.

    With A the output of `site` at the image positions and z the target, heat = ReLU(sum_k alpha_k
    A_k), alpha_k the mean over the image positions of dz/dA_k (eq. 1-3), from one teacher-forced
    run of prompt and `answer`. `site` is one of figure 7's: "input_norm", "attention",
    "post_attention" (the paper's), "mlp", "block". Behind the attention of the last layer image
    positions reach no text logit: its map is zero everywhere but at "input_norm". For several sites
    each row's maps are `{site: Maps}`, from the same forward and backward. For one row they come
    alone, for several in a list. `layers` are the 0-based layers wanted, all if None; nothing below
    the first of them is kept for the backward.

    `pool="token"` leaves out the mean: heat = ReLU(sum_k dz/dA_k A_k), each token's features with
    their own slopes, from the same backward (a difference from the paper, and to first order what
    the target loses without this token's features). A sum no larger than its float32 rounding is 0:
    so at "block" in the layer before the last, which a norm alone reads, whatever its size.

    `target`: "answer", the sum of the answer's logits, each read where it is predicted; a word or
    phrase of the answer, for its tokens alone; a position, counted from 0, for that token alone; a
    callable on those logits `[token, vocabulary]`; or "authors", the rows that the authors' code
    reads. `noise` is a standard deviation in pixel units of 0 to 1, added before the processor's
    normalisation, to all pictures of a prompt; the heat is the mean over `n` noisy copies (eq.
    4-5), the answer that of the clean picture. `relu_grad=True` and `threshold=0.5` (heat under
    that part of the maximum is set to 0) are the authors' code. An `answer` given as text is
    spelled as models.spelling tells.

    Where the model sees a picture in several views (whole and in tiles), a map is their mean at the
    finest one's cells, or that one alone with `views="finest"`. Where image tokens have no place on
    the picture (InstructBLIP's queries), each token's heat goes to the patches that it attends to:
    times its cross-attention, the mean over heads and layers; `maps.grid.note` says so.

    Rows and copies run together as far as what is kept for the backward fits in `memory` GiB. Of
    each row that is, for positions x layers, about 4 x heads x head width + 3 x intermediate size +
    positions numbers in the model's dtype and a float32 for each input of a norm, and beside it 3 x
    sites x layers x image tokens x hidden size numbers: for LLaVA-1.5-7B in 16 bits 3 GiB. If one
    row takes more, layers are computed again in the backward. Noise is drawn by row and copy: a map
    does not depend on its neighbours or on `memory`, but for the rounding of other batches, 1e-4 of
    its maximum. Inside `truncate`, which refuses other pictures than its own, take no noise. A row
    whose answer is empty (the model ended at once) has a map of NaN, and is named in the log.

    Raises `ValueError` for a sample without a picture, an unknown site or layer, a word that the
    answer does not hold, and numbers that are not finite or out of their range; `RuntimeError`
    inside torch.inference_mode, where nothing has a slope, and torch.autocast, in whose few bits
    slopes vanish.

    >>> from irlib import load, load_task
    >>> vlm = load("mini-llava")
    >>> inputs = vlm.prepare(load_task("pope", n=1))
    >>> answer = vlm.answer(inputs)
    >>> llava_cam(vlm, inputs, answer).heat.shape
    (12, 8, 8)
    >>> maps = llava_cam(vlm, inputs, answer, site=["mlp", "block"], layers=[4, 5])
    >>> maps["mlp"].layers, maps["mlp"].heat.shape
    ((4, 5), (2, 8, 8))
    """
    check_inputs(inputs)
    check_settings(noise, memory, threshold, views, relu_grad, pool)
    check_gradients(vlm)
    sites, layers = sites_and_layers(vlm, site, layers)
    n, seed = doors.count("n", n, least=1), doors.count("seed", seed)
    answer = spelled(vlm, inputs, answer)
    inputs.followed_by(answer)  # refuses what does not belong together
    laid = [[] for _ in inputs.samples]  # of each row one {site: heat [layer, row, col]} a copy
    for row, copies in enumerate(laid):
        if row not in answer.spoken:
            sample = inputs.samples[row]
            log.warning("%s %s: the answer is empty and has no map", sample.task, sample.key)
            none = np.full((len(layers), *inputs.grids[row].shape), np.nan, np.float32)
            copies.append(dict.fromkeys(sites, none))
    if answer.spoken:
        said, asked = answer.take(answer.spoken), inputs.take(answer.spoken)
        whole = asked.followed_by(said)
        at, total = logits_of(vlm, asked, said, whole, target)
        config, tokens = vlm.decoder.config, int(whole.spans.image.sum(1).max())
        results = 3 * len(sites) * len(layers) * tokens * config.hidden_size * vlm.dtype.itemsize
        most, again = share_out(
            vlm.decoder, whole.length, memory, first=min(layers), results=results
        )
        draws = [torch.Generator().manual_seed(seed) for _ in said.ids]
        # without noise all copies are one; with it each row has its own draws, copy after copy
        jobs = [row for _ in range(n if noise else 1) for row in range(len(asked))]
    else:
        jobs, most = [], 1

    def heat(features, slopes):
        return heat_of(features[None].float(), slopes[None].float(), relu_grad, threshold, pool)[0]

    for start in range(0, len(jobs), most):
        mine = jobs[start : start + most]
        noisy = _noisy(vlm, whole.take(mine), noise, [draws[row] for row in mine])
        seen, grids = encoded(vlm, noisy)
        heats = features_and_slopes(
            vlm, seen, sites, layers,
            [at[row] for row in mine],
            lambda job, logits, mine=mine: total(mine[job], logits),
            heat, again=again,
        )  # fmt: skip
        for job, (row, grid) in enumerate(zip(mine, grids, strict=True)):
            by_site = {s: [heats[s, layer][job].cpu().numpy() for layer in layers] for s in sites}
            laid[answer.spoken[row]].append(
                {s: grid.lay(np.stack(by_site[s]), views=views) for s in sites}
            )
    made = [
        {
            s: Maps(np.stack([one[s] for one in copies]).mean(0), s, *facts, vlm.name, layers, pool)
            for s in sites
        }
        for copies, *facts in zip(laid, inputs.grids, inputs.pictures, inputs.samples, strict=True)
    ]
    made = [one[site] for one in made] if isinstance(site, str) else made
    return made[0] if len(made) == 1 else made


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


def heat_of(features, slopes, relu_grad, threshold, pool="mean") -> Tensor:
    """Eq. (3) for features and slopes `[layer, token, channel]`: heat `[layer, token]`."""
    alpha = slopes.clamp_min(0) if relu_grad else slopes
    if pool == "mean":
        heat = torch.einsum("ltk,lk->lt", features, alpha.mean(1)).clamp_min(0)
    else:
        heat = by_token(features, alpha).clamp_min(0)
    if threshold is None:
        return heat
    return heat.where(heat >= threshold * heat.amax(1, keepdim=True), 0)
