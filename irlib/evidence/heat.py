"""Maps of a picture's image tokens, by name: LLaVA-CAM, attention, gradients, and rulers."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random

import numpy as np
import torch

from irlib.cam.slopes import by_token, features_and_slopes
from irlib.cam.targets import logits_of
from irlib.cam.weights import image_slopes
from irlib.hooks.hooks import rows
from irlib.inputs.areas import covered
from irlib.inputs.records import Answer, Inputs
from irlib.interventions.chosen import Choice, logprobs_with
from irlib.models.sites import SITES

log = logging.getLogger(__name__)

RULERS = ("random", "centre", "box")
"""What any map must beat: no knowledge, the habit of looking at the middle; and what is asked."""
SLOPED = tuple(f"{kind} {site}" for kind in ("cam", "token") for site in SITES)
LAYERED = (*SLOPED, "attention", "attention x gradient")
"""`cam SITE` is LLaVA-CAM there (alpha a mean over tokens), `token SITE` the same gradient taken
token by token, ReLU(sum_k A_k dz/dA_k), `attention` that of the rows that predict the answer, and
`attention x gradient` the mean over these rows and heads of ReLU(A dz/dA), A their weights (Chefer
et al. 2021, arXiv 2103.15679, eq. 5, each layer by itself: without the rollout over layers)."""
MAPS = (*LAYERED, "gradient norm", *RULERS)
"""`gradient norm` is |dz/de|, e the image's embeddings as the first layer is given them."""
COSTLY = ("leave one out",)
"""What the answer's probability (the tokens' geometric mean) loses with one image token hidden from
layer 0 on, token by token: a pass behind the image for each of them, 64 in a miniature, 576 in
LLaVA-1.5, thousands where pictures are tiled. It is made where it is asked for by name."""


def check_names(maps: Sequence[str]) -> tuple[str, ...]:
    """The maps asked for, one or more; raises `ValueError` for an unknown one."""
    maps = (maps,) if isinstance(maps, str) else tuple(maps)
    known = MAPS + COSTLY
    if not maps or (unknown := [name for name in maps if name not in known]):
        raise ValueError(
            f"asked for the maps {unknown if maps else 'of no name'}; known are "
            f"{', '.join(known)}; use some of them"
        )
    return tuple(dict.fromkeys(maps))


def heats(
    vlm, prompt: Inputs, answer: Answer, maps: Sequence[str], *, seed: int = 0
) -> dict[str, np.ndarray]:
    """The named maps of one encoded prompt: `[layer, token]` of all layers, or `[token]`.

    z is the sum of the answer's logits, as in `llava_cam`. Raises `ValueError` for several prompts.
    A map that cannot be had is left out: "box" where the sample has no boxes, "centre" and "box"
    where no image token has a place on the picture (InstructBLIP's queries; a token without one has
    none of them), and those at a site that the layers have not (the paper's, in Cohere's). `seed`
    draws "random", by sample.
    """
    if len(prompt) != 1:
        raise ValueError(
            f"asked for maps of one prompt, found {len(prompt)} rows; give inputs.take([row])"
        )
    made, one = {}, _One(vlm, prompt, answer, seed)
    sloped = [name.split() for name in maps if name in SLOPED]
    sloped = [(kind, site) for kind, site in sloped if site in vlm.sites]
    if sites := list(dict.fromkeys(site for _, site in sloped)):
        heat = one.features(sites)
        made |= {f"{kind} {site}": heat[kind, site] for kind, site in sloped}
    asked = {name: make for name, make in MAKE.items() if name in maps}
    made |= {name: found for name, make in asked.items() if (found := make(one)) is not None}
    if missing := [name for name in maps if name not in made]:
        sample = prompt.samples[0]
        log.warning("%s %s: no map of %s; left out", sample.task, sample.key, ", ".join(missing))
    return {name: made[name] for name in maps if name in made}


def over_layers(heat: np.ndarray) -> np.ndarray:
    """`[layer, token]` as `[token]`: the mean over layers 0 to n - 2, each brought to a maximum of
    1, a layer of zeros left. What has no layers stays as it is."""
    if heat.ndim == 1:
        return heat
    heat = heat[: max(1, len(heat) - 1)]
    peak = heat.max(1, keepdims=True)
    return np.divide(heat, peak, out=np.zeros_like(heat), where=peak > 0).mean(0)


@dataclass(frozen=True, eq=False)
class _One:
    """A prompt and its answer, of which maps are made."""

    vlm: object
    prompt: Inputs
    answer: Answer
    seed: int

    @cached_property
    def whole(self) -> Inputs:
        return self.prompt.followed_by(self.answer)

    @cached_property
    def target(self) -> tuple:
        return logits_of(self.vlm, self.prompt, self.answer, self.whole, "answer")

    def features(self, sites) -> dict[tuple[str, str], np.ndarray]:
        """By kind and site, `[layer, token]`, of one forward and one backward."""

        def both(features, slope):  # [token, channel] -> [kind, token]
            features, slope = features.float(), slope.float()
            made = [features @ slope.mean(0), by_token(features, slope)]
            return torch.stack(made).clamp_min(0)

        layers = range(self.vlm.n_layers)
        found = features_and_slopes(self.vlm, self.whole, sites, layers, *self.target, both)
        return {
            (kind, site): np.stack([found[site, layer][0][place].cpu().numpy() for layer in layers])
            for place, kind in enumerate(("cam", "token"))
            for site in sites
        }

    @torch.no_grad()
    def attention(self) -> np.ndarray:
        """What the rows that predict the answer give each image token: `[layer, token]`."""
        asking = self.whole.spans.predicting[0].nonzero().flatten()[None]
        image = self.whole.spans.image[0]

        def mean(weights, _):  # [row, head, query, key] -> [row, token]
            return weights.mean((1, 2))[:, image.to(weights.device)]

        with rows(self.vlm.decoder, asking, reduce=mean) as seen:
            self.vlm.forward(self.whole, logits_to_keep=1)
        return np.stack([seen[layer][0].float().cpu().numpy() for layer in sorted(seen)])

    @cached_property
    def slopes(self) -> tuple:
        return image_slopes(self.vlm, self.whole, *self.target)

    def weighted(self) -> np.ndarray:
        """Attention x gradient, `[layer, token]`."""
        each = [(a * slope).clamp_min(0).mean((0, 1)) for a, slope in self.slopes[0].values()]
        return np.stack([heat.cpu().numpy() for heat in each])

    def steepness(self) -> np.ndarray:
        """The gradient's norm at each image token's embedding, `[token]`."""
        return self.slopes[1].norm(dim=-1).cpu().numpy()

    def left_out(self) -> np.ndarray:
        """What the answer's probability loses without each image token, `[token]`, of any sign."""
        every, length = range(int(self.prompt.spans.image.sum())), len(self.answer.ids[0])
        without = [Choice(0, tuple(j for j in every if j != token)) for token in every]
        asked = [Choice(self.vlm.n_layers), *without]
        found = logprobs_with(self.vlm, self.prompt, asked, answer=self.answer)
        chance = np.exp(np.array(found) / length)
        return chance[0] - chance[1:]

    def random(self) -> np.ndarray:
        sample, count = self.prompt.samples[0], len(self.prompt.grids[0].boxes)
        draw = Random(f"{self.seed}/{sample.task}/{sample.key}")
        return np.array([draw.random() for _ in range(count)])

    def centre(self) -> np.ndarray | None:
        """One minus the distance from the picture's middle, in widths and heights."""
        grid = self.prompt.grids[0]
        x, y = (grid.boxes[:, :2] + grid.boxes[:, 2:]).T / 2
        away = np.hypot(x / grid.size[0] - 0.5, y / grid.size[1] - 0.5)
        return 1 - np.nan_to_num(away, nan=1.0) if grid.placed.any() else None

    def box(self) -> np.ndarray | None:
        """The share of each token's box that the sample's boxes cover; 0 without a place."""
        boxes, grid = self.prompt.samples[0].boxes, self.prompt.grids[0]
        if not boxes or not grid.placed.any():
            return None
        corners = np.array([(b.x0, b.y0, b.x1, b.y1) for b in boxes], float)
        return np.nan_to_num(covered(grid.boxes, corners))


MAKE: dict[str, Callable[[_One], np.ndarray | None]] = {
    "attention": _One.attention,
    "attention x gradient": _One.weighted,
    "gradient norm": _One.steepness,
    "leave one out": _One.left_out,
    "random": _One.random,
    "centre": _One.centre,
    "box": _One.box,
}
