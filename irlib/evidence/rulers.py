"""Is a map faithful? What it explains, by image tokens put in and taken out, and what it shows."""

import logging
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from irlib import doors
from irlib.cam.asking import check_gradients
from irlib.cam.pointing import pointing
from irlib.cam.seeing import encoded
from irlib.evidence.bounds import estimate
from irlib.evidence.effects import mean_effect
from irlib.evidence.heat import MAPS, check_names, heats, over_layers
from irlib.interventions.chosen import Choice, logprobs_with
from irlib.tasks.pictures import identify
from irlib.tasks.samples import Sample

log = logging.getLogger(__name__)

HEAD = ["model", "task", "sample", "picture", "boxes", "map", "layer"]
SHOWN = ["inside", "area", "hit", "other"]
MEASURES = ("hit", "lift", "own", "gain", "inserted", "deleted")
WITHIN = dict.fromkeys(("hit", "inserted", "deleted"), (0, 1)) | dict.fromkeys(
    ("own", "gain"), (-1, 1)
)
EXPLAINED = ["size", "tokens", "inserted", "deleted", "whole", "none"]


def faithfulness(
    vlm,
    samples: Sequence[Sample],
    maps: Sequence[str] = MAPS,
    *,
    sizes: Sequence[float] = (1 / 16, 1 / 4),
    layers: Sequence[int] = (),
    seed: int = 0,
) -> pd.DataFrame:
    """What a map explains (the answer with its highest image tokens alone, and without) and shows.

    One row a sample, map, layer and size: `model, task, sample, picture, map, layer, inside, area,
    hit, other, size, tokens, inserted, deleted, whole, none`. With `tokens`, the share `size` of
    the image tokens (at least one), the highest of the map: `inserted` is the geometric mean
    probability of the answer's tokens while text sees them alone from layer 0 on, `deleted` while
    it sees all others; `whole` and `none` are those with all image tokens and with no one. Hidden
    from layer 0 on is nothing that a model was trained on: read a map beside the rulers. `sizes=()`
    leaves this out, which is nearly all of the time, for one row with NaN.

    `inside` is the share of the map's heat in the sample's boxes, `area` that of an even map, `hit`
    1.0 where the hottest cell is in them, and `other` the share in the boxes of the other questions
    among `samples` about the same picture (the mean over them): inside - other is 0 in the mean
    over a picture's questions for what does not know which was asked.

    The maps are those of `heat.MAPS`, and "leave one out" where it is named, for a pass a token. A
    map is one number an image token: its mean over layers 0 to n - 2, each brought to a maximum of
    1, `layer` NaN; beside it come each of `layers` alone, of the maps that have layers. A map that
    is the same everywhere ranks nothing: NaN, and so is what takes boxes where there are none.

    Petsiuk et al. 2018 (insertion and deletion). Samples whose answer is empty are left out, and
    named in the log, and so are "box" and "centre" where `heats` has none. Raises `ValueError` for
    a sample without a picture, an unknown map or layer, and sizes out of 0..1.

    >>> from irlib import load, load_task
    >>> table = faithfulness(load("mini-llava"), load_task("pope", n=1), ["random"])
    >>> table[["map", "size", "tokens"]].values.tolist()
    [['random', 0.0625, 4], ['random', 0.25, 16]]
    """
    samples, maps = [samples] if isinstance(samples, Sample) else list(samples), check_names(maps)
    sizes = [doors.number("sizes", size, above=True, most=1) for size in sizes]
    layers = dict.fromkeys(doors.counts("layers", layers, most=vlm.n_layers - 1))
    if not samples:
        raise ValueError("asked for the faithfulness of maps, found no sample; give one or more")
    if bare := [sample.key for sample in samples if sample.image is None]:
        raise ValueError(
            f"asked for the faithfulness of maps, found samples without a picture: {bare[:3]}; "
            "leave them out"
        )
    check_gradients(vlm)
    pictures, together = [identify(sample.image) for sample in samples], defaultdict(list)
    for picture, sample in zip(pictures, samples, strict=True):
        together[picture].append(sample)
    table = []
    for sample, picture in tqdm(
        [*zip(samples, pictures, strict=True)], desc="faithfulness", disable=None
    ):
        inputs = vlm.prepare(sample)
        inputs.check_one("the faithfulness of maps")
        answer = vlm.answer(inputs)
        if not answer.spoken:
            log.warning("%s %s: the answer is empty; left out", sample.task, sample.key)
            continue
        prompt, (grid,) = encoded(vlm, inputs)
        found = {}
        for name, heat in heats(vlm, prompt, answer, maps, seed=seed).items():
            found[name, np.nan] = over_layers(heat)
            found |= {(name, layer): heat[layer] for layer in layers if heat.ndim == 2}
        others = {frozenset(one.boxes): one for one in together[picture]}  # each place once
        others.pop(asked := frozenset(sample.boxes), None)
        shown = [_shown(grid, heat, sample, others.values()) for heat in found.values()]
        told = _explained(vlm, prompt, answer, list(found.values()), sizes)
        head = {"model": vlm.name, "task": sample.task, "sample": sample.key, "picture": picture}
        head["boxes"] = str(sorted(map(str, asked)))
        for (name, layer), points, explains in zip(found, shown, told, strict=True):
            table += [head | {"map": name, "layer": layer} | points | one for one in explains]
    return pd.DataFrame(table, columns=HEAD + SHOWN + EXPLAINED)


def by_map(table: pd.DataFrame) -> pd.DataFrame:
    """What each map shows and explains, over pictures, of the table of `faithfulness`.

    One row a map, layer and measure: `map, layer, measure, value, low, high, n`, of the measures
    `hit`, `lift` (inside over area; 1 is chance), `own` (inside - other, of pictures where all
    questions have both), `gain` (inserted - deleted), `inserted` and `deleted`, the mean over
    sizes. Rows of one picture are averaged first (of `own` those with the same boxes before), `n`
    are the pictures that had a number; the 95 % interval is that of `estimate` within what a number
    can be, of lift Student's t. What nobody measured has no row.

    >>> from irlib import load, load_task
    >>> table = faithfulness(load("mini-llava"), load_task("pope", n=1), ["random"])
    >>> sorted(set(by_map(table)["measure"]))[0]
    'deleted'
    """
    table = table.assign(
        lift=table["inside"] / table["area"],
        own=table["inside"] - table["other"],
        gain=table["inserted"] - table["deleted"],
    )
    rows = []
    for (name, layer), mine in table.groupby(["map", "layer"], sort=False, dropna=False):
        for measure in MEASURES:
            whole = {"skipna": measure != "own"}  # of one question alone it is biased
            each = mine.groupby(["picture", "boxes"])[measure].agg("mean", **whole)
            by = mine.groupby("picture")[measure] if measure != "own" else each.groupby("picture")
            values = by.agg("mean", **whole).dropna()
            if values.empty:
                continue
            ends = WITHIN.get(measure)
            found = estimate(values, within=ends) if ends else mean_effect(values)
            told = {"value": found.value, "low": found.low, "high": found.high, "n": found.units}
            rows.append({"map": name, "layer": layer, "measure": measure} | told)
    columns = ["map", "layer", "measure", "value", "low", "high", "n"]
    return pd.DataFrame(rows, columns=columns)


def _shown(grid, heat, sample, others) -> dict[str, float]:
    """How one map `[token]` points at what is asked, and at what others ask."""
    laid = grid.lay(np.clip(heat, 0, None))
    inside, area, hit = pointing(grid, laid, _corners(sample))
    other = [pointing(grid, laid, _corners(one))[0] for one in others if one.boxes]
    other = float(np.mean(other)) if other and sample.boxes else np.nan
    return {"inside": inside, "area": area, "hit": hit, "other": other}


def _corners(sample) -> np.ndarray:
    return np.array([(b.x0, b.y0, b.x1, b.y1) for b in sample.boxes], float).reshape(-1, 4)


def _explained(vlm, prompt, answer, heats, sizes) -> list[list[dict]]:
    """Of each map `[token]` a row a size, all of them in one climb."""
    if not sizes:
        return [[dict.fromkeys(EXPLAINED, np.nan)] for _ in heats]
    count, n = int(prompt.spans.image.sum()), vlm.n_layers
    most = [max(1, round(size * count)) for size in sizes]
    orders = [np.argsort(-heat, kind="stable").tolist() for heat in heats]
    apart = [np.ptp(heat) > 0 for heat in heats]
    asked = {"whole": Choice(n), "none": Choice(0)}
    for place, order in enumerate(orders):
        for k in most if apart[place] else ():
            # what is put in first is what is taken out first, among equals too
            asked[place, k] = Choice(0, tuple(sorted(order[:k])))
            asked[place, -k] = Choice(0, tuple(sorted(order[k:])))
    distinct = list(dict.fromkeys(asked.values()))
    found = logprobs_with(vlm, prompt, distinct, answer=answer)
    chance = np.exp(np.array(found) / len(answer.ids[0])).tolist()
    chance = dict(zip(distinct, chance, strict=True))
    ends = {name: chance[asked[name]] for name in ("whole", "none")}

    def one(place, size, k):
        there, gone = (chance.get(asked.get((place, sign)), np.nan) for sign in (k, -k))
        return {"size": size, "tokens": k, "inserted": there, "deleted": gone} | ends

    return [[one(place, *pair) for pair in zip(sizes, most, strict=True)]
            for place in range(len(heats))]  # fmt: skip
