"""Does a map follow the question? Its heat in the asked box, beside another question's."""

from collections import defaultdict
from collections.abc import Sequence
from random import Random

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from irlib import doors
from irlib.cam.cam import llava_cam
from irlib.tasks.pictures import identify
from irlib.tasks.samples import Sample


def boxed(samples: Sequence[Sample], *, n: int, seed: int = 0) -> list[Sample]:
    """One question with a box about each of n pictures, drawn by seed.

    Where no sample has a box (rows of the hub), any question will do. Raises `ValueError` where
    fewer pictures have one.
    """
    return [one for (one,) in _drawn(samples, 1, n, seed)]


def pair(samples: Sequence[Sample], *, n: int, seed: int = 0) -> list[tuple[Sample, Sample]]:
    """Two questions with different boxes about each of n pictures, drawn by seed.

    None where no sample has a box (rows of the hub). Raises `ValueError` where fewer pictures have
    them.
    """
    if not any(sample.boxes for sample in samples):
        return []
    return _drawn(samples, 2, n, seed)


def _drawn(samples, each, n, seed) -> list[tuple[Sample, ...]]:
    """`each` questions of different boxes about each of n pictures."""
    by_picture, known = defaultdict(list), any(sample.boxes for sample in samples)
    for sample in samples:
        if sample.image is not None and (sample.boxes or not known):
            by_picture[identify(sample.image)].append(sample)
    found = []
    for picture in sorted(by_picture):
        asked = sorted(by_picture[picture], key=lambda sample: sample.key)
        Random(f"{seed}/{picture}").shuffle(asked)
        apart = {frozenset(sample.boxes): sample for sample in asked}
        found += [tuple(apart.values())[:each]] if len(apart) >= each else []
    n = doors.count("n", n, least=1)
    if len(found) < n:
        raise ValueError(
            f"asked for {n} pictures with {each} boxed questions each, found {len(found)} among "
            f"{len(samples)} samples; ask for fewer, or give more rows"
        )
    return Random(seed).sample(found, n)


def own_box(vlm, pairs: Sequence[tuple[Sample, Sample]], **options) -> pd.DataFrame:
    """The share of LLaVA-CAM's heat in the box of what is asked, and in that of the other question.

    One row a question and layer: `model, task, sample, picture, layer, own, other`; shares of the
    layer's heat, NaN where the map is zero. `options` are those of `llava_cam` for one site. The
    mean of own - other over both questions of a picture is 0 for any map that does not know what
    was asked.

    >>> from irlib import load, load_task
    >>> pairs = pair(load_task("pope"), n=1)
    >>> own_box(load("mini-llava"), pairs, layers=[3]).columns[-2:].tolist()
    ['own', 'other']
    """
    table = []
    for both in tqdm(pairs, desc="own box", disable=None):
        maps = []
        for sample in both:
            inputs = vlm.prepare(sample)
            maps.append(llava_cam(vlm, inputs, vlm.answer(inputs), **options))
        for mine, other in (maps, maps[::-1]):
            covers = [one.grid.cover(one.boxes) for one in (mine, other)]
            for layer, heat in zip(mine.layers, mine.heat, strict=True):
                total = heat.sum()
                shares = [(heat * c).sum() / total if total > 0 else np.nan for c in covers]
                head = (mine.model, mine.task, mine.sample.key, identify(mine.sample.image))
                table.append((*head, layer, *shares))
    columns = ["model", "task", "sample", "picture", "layer", "own", "other"]
    return pd.DataFrame(table, columns=columns)
