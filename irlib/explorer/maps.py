"""The maps of an answer, or of some of its words: each site, both poolings, attention."""

from collections.abc import Sequence

import numpy as np
import torch

from irlib.cam.asking import check_gradients, check_inputs
from irlib.cam.cam import heat_of, llava_cam
from irlib.cam.maps import Maps
from irlib.cam.saving import share_out
from irlib.cam.slopes import features_and_slopes
from irlib.hooks.hooks import rows
from irlib.inputs.records import Answer, Inputs
from irlib.inputs.spans import SEGMENTS

MEMORY = 4.0  # GiB, as llava_cam's


@torch.no_grad()
def attention_rows(vlm, inputs: Inputs, answer: Answer) -> np.ndarray:
    """What each of the answer's tokens is predicted from: attention `[layer, token, position]` of
    the row before it, the mean over heads, of prompt and answer; one forward."""
    whole = inputs.followed_by(answer)
    asking = whole.spans.predicting[0].nonzero().flatten()[None]
    with rows(vlm.decoder, asking, reduce=lambda weights, _: weights.mean(1), memory=1.0) as seen:
        vlm.forward(whole, logits_to_keep=1)
    return np.stack([seen[layer][0].float().cpu().numpy() for layer in sorted(seen)])


def shares(inputs: Inputs, answer: Answer, attention: np.ndarray, tokens: Sequence[int]) -> dict:
    """The shares of that attention by segment `[segment][layer]`, a mean over `tokens`.

    The prompt's first token stands apart, as attention_flow(first=True) has it.
    """
    whole = inputs.followed_by(answer)
    masks = {name: getattr(whole.spans, name)[0].cpu().numpy() for name in SEGMENTS}
    real = np.any(list(masks.values()), 0)
    first = np.arange(len(real)) == real.argmax()
    of = next(name for name, mask in masks.items() if mask[first].any())
    masks = {"first": first} | {name: mask & ~first for name, mask in masks.items()}
    seen = attention[:, list(tokens)].mean(1)
    share = {name: seen[:, mask].sum(1) for name, mask in masks.items()}
    return {"first_of": of, "share": {name: one.tolist() for name, one in share.items()}}


def attention_maps(vlm, inputs, attention: np.ndarray, tokens: Sequence[int]) -> Maps | None:
    """That attention on the picture, a mean over `tokens`; None where image tokens have no place
    of their own (InstructBLIP's queries)."""
    grid = inputs.grid
    if not grid.views:
        return None
    image = inputs.spans.image[0].cpu().numpy()
    seen = attention[:, list(tokens), : len(image)].mean(1)[:, image]
    return _laid(vlm, inputs, grid.lay(seen), "attention", "")


def cam_maps(vlm, inputs: Inputs, answer: Answer, tokens: Sequence[int]) -> list[Maps]:
    """LLaVA-CAM of these tokens of the answer at each site, "mean" and "token" beside each other.

    The same as llava_cam for each pool, from one forward and backward where image tokens have a
    place of their own. Raises what llava_cam does.
    """
    tokens, ids = list(tokens), answer.ids[0][list(tokens)].clone()

    def total(logits):  # [token, vocabulary] of the whole answer
        return logits[tokens, ids.to(logits.device)].sum()

    sites = tuple(vlm.sites)
    if vlm.family.bridge is not None:
        each = [llava_cam(vlm, inputs, answer, site=sites, target=total, pool=pool)
                for pool in ("mean", "token")]  # fmt: skip
        return [one[site] for site in sites for one in each]
    check_inputs(inputs)
    check_gradients(vlm)
    whole, layers = vlm.encode(inputs.followed_by(answer)), range(vlm.n_layers)
    at = whole.spans.predicting[0].nonzero().flatten()
    held = 3 * len(sites) * len(layers) * int(whole.spans.image.sum())
    held *= vlm.decoder.config.hidden_size * vlm.dtype.itemsize
    _, again = share_out(vlm.decoder, whole.length, MEMORY, results=held)

    def both(features, slope):  # [token, channel] -> [pool, token]
        read = features[None].float(), slope[None].float(), False, None
        return torch.cat([heat_of(*read, pool) for pool in ("mean", "token")])

    found = features_and_slopes(
        vlm, whole, sites, layers, [at], lambda _, logits: total(logits), both, again=again
    )
    made = []
    for site in sites:
        every = np.stack([found[site, layer][0].cpu().numpy() for layer in layers], 1)
        laid = zip(("mean", "token"), every, strict=True)
        made += [_laid(vlm, inputs, inputs.grid.lay(one), site, pool) for pool, one in laid]
    return made


def _laid(vlm, inputs, heat, site, pool) -> Maps:
    (sample,), (image,) = inputs.samples, inputs.pictures
    return Maps(heat.astype(np.float32), site, inputs.grid, image, sample, vlm.name, (), pool)
