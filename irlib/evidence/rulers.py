"""Is a map faithful? Image tokens put in and taken out by what it ranks highest."""

import logging
from collections.abc import Sequence
from random import Random

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from irlib import doors
from irlib.cam.asking import check_gradients
from irlib.cam.slopes import features_and_slopes
from irlib.cam.targets import logits_of
from irlib.hooks.hooks import rows
from irlib.interventions.truncation import truncate
from irlib.models.sites import SITES
from irlib.tasks.pictures import identify
from irlib.tasks.samples import Sample

log = logging.getLogger(__name__)

RULERS = ("random", "centre", "box")
"""What any map must beat: no knowledge, the habit of looking at the middle; and what is asked."""
MAPS = (*(f"{kind} {site}" for kind in ("cam", "token") for site in SITES), "attention", *RULERS)
"""`cam SITE` is LLaVA-CAM there (alpha a mean over tokens), `token SITE` the same gradient taken
token by token, ReLU(sum_k A_k dz/dA_k), `attention` that of the rows that predict the answer."""


def faithfulness(
    vlm,
    samples: Sequence[Sample],
    maps: Sequence[str] = MAPS,
    *,
    sizes: Sequence[float] = (1 / 16, 1 / 4),
    seed: int = 0,
) -> pd.DataFrame:
    """How likely the untouched answer is with a map's highest image tokens alone, and without them.

    One row a sample, map and size: `model, task, sample, picture, map, size, tokens, inserted,
    deleted, whole, none`. With `tokens`, the share `size` of the image tokens (at least one), the
    highest of the map: `inserted` is the geometric mean probability of the answer's tokens while
    text sees them alone from layer 0 on, `deleted` while it sees all others; `whole` and `none` are
    those with all image tokens and with no one. A map is one number an image token: the mean over
    layers 0 to n - 2, each layer's brought to a maximum of 1. A token that lies nowhere on the
    picture has none of "centre" and "box". Hidden from layer 0 on is nothing that a model was
    trained on: read a map beside the rulers.

    Petsiuk et al. 2018 (insertion and deletion). Samples whose answer is empty are left out, and
    named in the log, and so is "box" where a sample has none. Raises `ValueError` for a sample
    without a picture, an unknown map, and sizes out of 0..1.

    >>> from irlib import load, load_task
    >>> table = faithfulness(load("mini-llava"), load_task("pope", n=1), ["random"])
    >>> table[["map", "size", "tokens"]].values.tolist()
    [['random', 0.0625, 4], ['random', 0.25, 16]]
    """
    samples = [samples] if isinstance(samples, Sample) else list(samples)
    maps = (maps,) if isinstance(maps, str) else tuple(maps)
    sizes = [doors.number("sizes", size, above=True, most=1) for size in sizes]
    if not maps or (unknown := set(maps) - set(MAPS)):
        raise ValueError(
            f"asked for the faithfulness of {sorted(unknown) if maps else 'no map'}; known are "
            f"{', '.join(MAPS)}; use some of them"
        )
    if bare := [sample.key for sample in samples if sample.image is None]:
        raise ValueError(
            f"asked for the faithfulness of maps, found samples without a picture: {bare[:3]}; "
            "leave them out"
        )
    check_gradients(vlm)
    table = []
    for sample in tqdm(samples, desc="faithfulness", disable=None):
        inputs = vlm.prepare(sample)
        answer = vlm.answer(inputs)
        if not answer.spoken:
            log.warning("%s %s: the answer is empty; left out", sample.task, sample.key)
            continue
        head = {"model": vlm.name, "task": sample.task, "sample": sample.key}
        head["picture"] = identify(sample.image)
        table += [head | row for row in _explained(vlm, inputs, answer, maps, sizes, seed)]
    return pd.DataFrame(table)


def _explained(vlm, inputs, answer, maps, sizes, seed):
    """The rows of one sample, all its maps and sizes in two runs."""
    prompt = vlm.encode(inputs)
    scores = tokens_of(vlm, prompt, answer, maps, seed=seed)
    (count,) = prompt.spans.image.sum(1).tolist()
    jobs = [(name, size, max(1, round(size * count))) for size in sizes for name in scores]
    # by place, so that what is put in first is what is taken out first, among equals too
    places = {name: np.argsort(np.argsort(-one, kind="stable")) for name, one in scores.items()}
    rankings = [-places[name] for name, *_ in jobs]
    kept = [most for *_, most in jobs]
    put_in = _likely(vlm, prompt, answer, rankings, kept)
    taken = _likely(vlm, prompt, answer, [-one for one in rankings], [count - k for k in kept])
    whole, none = _likely(vlm, prompt, answer, [rankings[0]] * 2, [count, 0])
    for (name, size, most), there, gone in zip(jobs, put_in, taken, strict=True):
        row = {"map": name, "size": size, "tokens": most, "inserted": there, "deleted": gone}
        yield row | {"whole": whole, "none": none}


@torch.no_grad()
def _likely(vlm, prompt, answer, rankings, kept) -> list[float]:
    """The geometric mean probability of the answer's tokens while text sees the `kept` highest
    image tokens of each ranking alone, from layer 0 on; one row each."""
    made = {}
    for most in sorted(set(kept)):  # truncate keeps as many in all its rows
        mine = [i for i, k in enumerate(kept) if k == most]
        taken, said = prompt.take([0] * len(mine)), answer.take([0] * len(mine))
        whole, ids = taken.followed_by(said), answer.ids[0]
        with truncate(vlm, taken, layer=0, keep=most, ranking=[rankings[i] for i in mine]):
            logits = vlm.forward(whole, logits_to_keep=len(ids) + 1)[:, :-1]
        asked = ids.to(logits.device).expand(len(mine), -1)[..., None]
        log_p = logits.float().log_softmax(-1).gather(2, asked)
        made |= dict(zip(mine, log_p.mean((1, 2)).exp().tolist(), strict=True))
    return [made[i] for i in range(len(kept))]


def tokens_of(vlm, prompt, answer, maps: Sequence[str], *, seed: int = 0) -> dict[str, np.ndarray]:
    """The maps of MAPS as one number an image token, `[token]`, of one encoded prompt.

    "box" is left out where the sample has no boxes. `seed` draws "random", by sample.
    """
    made, whole, sample = {}, prompt.followed_by(answer), prompt.samples[0]
    layers = range(max(1, vlm.n_layers - 1))
    slopes = [name.split() for name in maps if " " in name]
    if sites := list(dict.fromkeys(site for _, site in slopes)):
        at, total = logits_of(vlm, prompt, answer, whole, "answer")

        def both(features, slope):  # [token, channel] -> [kind, token]
            features, slope = features.float(), slope.float()
            by_token = (features * slope).sum(-1)
            return torch.stack([features @ slope.mean(0), by_token]).clamp_min(0)

        heats = features_and_slopes(vlm, whole, sites, layers, at, total, both)
        for kind, site in slopes:
            taken = [heats[site, layer][0][int(kind == "token")].cpu().numpy() for layer in layers]
            made[f"{kind} {site}"] = _mean(np.stack(taken))
    if "attention" in maps:
        made["attention"] = _mean(_attention(vlm, whole)[list(layers)])
    grid = prompt.grids[0]
    boxes, (width, height) = grid.boxes, grid.size
    if "random" in maps:
        draw = Random(f"{seed}/{sample.task}/{sample.key}")
        made["random"] = np.array([draw.random() for _ in boxes])
    if "centre" in maps:
        x, y = (boxes[:, :2] + boxes[:, 2:]).T / 2
        away = np.hypot(x / width - 0.5, y / height - 0.5)
        made["centre"] = 1 - np.nan_to_num(away, nan=1.0)
    if "box" in maps and sample.boxes:
        made["box"] = _covered(boxes, sample.boxes)
    return {name: made[name] for name in maps if name in made}


def _mean(heat: np.ndarray) -> np.ndarray:
    """`[layer, token]`, each layer brought to a maximum of 1, a layer of zeros left: their mean."""
    peak = heat.max(1, keepdims=True)
    return np.divide(heat, peak, out=np.zeros_like(heat), where=peak > 0).mean(0)


@torch.no_grad()
def _attention(vlm, whole) -> np.ndarray:
    """What the rows that predict the answer give each image token: `[layer, token]`."""
    asking = whole.spans.predicting[0].nonzero().flatten()[None]
    image = whole.spans.image[0]

    def mean(weights, _):  # [row, head, query, key] -> [row, token]
        return weights.mean((1, 2))[:, image.to(weights.device)]

    with rows(vlm.decoder, asking, reduce=mean) as seen:
        vlm.forward(whole, logits_to_keep=1)
    return np.stack([seen[layer][0].float().cpu().numpy() for layer in sorted(seen)])


def _covered(tokens: np.ndarray, boxes) -> np.ndarray:
    """The share of each token's box that the sample's boxes cover, `[token]`; 0 without a place."""
    found = np.zeros(len(tokens))
    for box in boxes:
        x = np.minimum(tokens[:, 2], box.x1) - np.maximum(tokens[:, 0], box.x0)
        y = np.minimum(tokens[:, 3], box.y1) - np.maximum(tokens[:, 1], box.y0)
        found += np.nan_to_num(x.clip(0) * y.clip(0))
    size = (tokens[:, 2] - tokens[:, 0]) * (tokens[:, 3] - tokens[:, 1])
    return np.nan_to_num(found / size)
