"""The statistics that claims.yaml names: from the instruments' tables, an estimate a part.

Each is a function `(ground, entry, confidence) -> {part: Estimate}`. Its unit is the picture: rows
about one are averaged first.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import pandas as pd

from irlib.evidence.across import inherited
from irlib.evidence.bounds import Estimate
from irlib.evidence.claims import Claims, Entry
from irlib.evidence.cliff import Cliff, cliff_layer
from irlib.evidence.ground import Ground
from irlib.evidence.means import mean_effect
from irlib.evidence.routes import answers_changed, score_lost, way_gap
from irlib.evidence.units import one

SHALLOW = 5 / 32
"""The paper's shallow layers: five of 32."""
ALL = "all tasks"


def estimates(claims: Claims, ground: Ground) -> dict[str, dict[str, Estimate]]:
    """Return `[id][part]` the estimate of every entry that has a statistic."""
    return {
        entry.id: STATISTICS[entry.statistic](ground, entry, claims.confidence(entry.claim))
        for entry in claims.entries
        if entry.statistic
    }


def _shares(flow: pd.DataFrame, depth: int) -> tuple[Callable, range, range]:
    """`share(segments, layers)` by picture; the shallow layers; those behind without the last.

    The first token belongs where it stands (the column `of`), unless `first=False`.
    """
    shallow = round(SHALLOW * depth)
    flow = flow[flow["query"] == "answer"]

    def share(segments, layers, value="share", *, first=True):
        mine = flow[flow["of"].isin(segments) & flow["layer"].isin(layers)]
        mine = mine if first else mine[mine["segment"] != "first"]
        by_layer = mine.groupby(["picture", "task", "sample", "layer"])[value].sum(min_count=1)
        return by_layer.groupby("picture").mean()

    return share, range(shallow), range(shallow, depth - 1)


def _of_flow(effect: Callable) -> Callable:
    """A statistic of the table of `attention_flow(first=True)`."""

    def statistic(ground, entry, confidence):
        flow = ground.of("flow")
        share, early, late = _shares(flow, ground.depth)
        effects = effect(share, early, late)
        return {ALL: mean_effect(effects, step=entry.step, confidence=confidence)}

    return statistic


def _insertion(ground) -> pd.DataFrame:
    """Inserted minus deleted, mean over sizes: a row a picture, a column a map."""
    table = ground.of("maps")
    one(table, ("layer",))  # of each map its mean over layers
    table = table.assign(gain=table["inserted"] - table["deleted"])
    return table.pivot_table(index="picture", columns="map", values="gain")


def _beyond_attention(ground, entry, confidence):
    gain = _insertion(ground)
    return {
        ALL: mean_effect(
            gain["cam post_attention"] - gain["attention"], step=entry.step, confidence=confidence
        )
    }


def _beyond_site(ground, entry, confidence):
    gain = _insertion(ground)
    ours = gain["cam post_attention"]
    return {
        site: mean_effect(ours - gain[f"cam {site}"], step=entry.step, confidence=confidence)
        for site in entry.parts
    }


def _own(ground, task) -> tuple[pd.DataFrame, int]:
    """Own box minus the other's: a row a picture, a column a layer; the first deep layer."""
    table, depth = ground.of("pairs"), ground.depth
    table = table[(table["task"] == task) & (table["layer"] < depth - 1)]
    gain = (table["own"] - table["other"]).astype(float).groupby([table["picture"], table["layer"]])
    # a map of zeros leaves its partner alone, and what knows no question is 0 in both or in none
    both = gain.sum(min_count=2) / 2
    return both.unstack("layer"), 2 * depth // 3


def _own_early(ground, entry, confidence):
    found = {}
    for task in entry.parts:
        gain, deep = _own(ground, task)
        early = gain.loc[:, gain.columns < deep].mean(axis=1)
        found[task] = mean_effect(early, step=entry.step, confidence=confidence)
    return found


def _own_beyond_deep(ground, entry, confidence):
    found = {}
    for task in entry.parts:
        gain, deep = _own(ground, task)
        early = gain.columns < deep
        effects = gain.loc[:, early].mean(axis=1) - gain.loc[:, ~early].mean(axis=1)
        found[task] = mean_effect(effects, step=entry.step, confidence=confidence)
    return found


def _cliff(ground, task, confidence, model=None) -> tuple[Cliff, int]:
    """The certified cliff of a task, and the model's number of layers."""
    table = ground.of("sweep")
    table = table[(table["model"] == (model or ground.model)) & (table["task"] == task)]
    depth = ground.layers[model or ground.model]
    return cliff_layer(table, margin=ground.margin, confidence=confidence), depth


def _later(ground, entry, confidence):
    found = {}
    for part in entry.parts:
        (one, depth), (two, _) = (_cliff(ground, t, confidence) for t in part.split(" before "))
        numbers = two.layer - one.layer, two.low - one.high, two.high - one.low
        low_units = min(one.units, two.units)
        found[part] = Estimate(*(x / depth for x in numbers), min(one.n, two.n), low_units)
    return found


def _to_spare(ground, entry, confidence):
    found = {}
    for task in entry.parts:
        cliff, depth = _cliff(ground, task, confidence)
        numbers = (1 - layer / depth for layer in (cliff.layer, cliff.high, cliff.low))
        found[task] = Estimate(*numbers, cliff.n, cliff.units)
    return found


def _apart(ground, entry, confidence):
    confidence = 1 - (1 - confidence) / len(ground.layers)
    heirs, found = inherited(ground.layers), {}
    models = [model for model in ground.layers if model not in heirs]
    if len(models) < 2:  # one model is at no distance from itself
        return dict.fromkeys(entry.parts, Estimate(np.nan, np.nan, np.nan, 0, 0))
    for task in entry.parts:
        cliffs = [_cliff(ground, task, confidence, model) for model in models]
        point, low, high = (
            np.array([getattr(cliff, name) / depth for cliff, depth in cliffs])
            for name in ("layer", "low", "high")
        )
        apart = high[:, None] - low  # of each pair, the widest
        np.fill_diagonal(apart, -np.inf)
        numbers = np.ptp(point), max(0.0, low.max() - high.min()), apart.max()
        fewest = min(cliffs, key=lambda one: one[0].units)[0]
        found[task] = Estimate(*map(float, numbers), fewest.n, fewest.units)
    return found


def _unseen(ground, entry, confidence):
    table = ground.of("unseen")
    one(table, ("keep", "edge", "span"))
    mine = table[(table["layer"] == 0) & table["kind"].isin(entry.options["kinds"])]
    effects = (mine["score"] - mine["guess"]).groupby(mine["picture"]).mean()
    return {entry.parts[0]: mean_effect(effects, step=entry.step, confidence=confidence)}


TEXT = ("system", "user")
STATISTICS: Mapping[str, Callable[[Ground, Entry, float], dict[str, Estimate]]] = MappingProxyType({
    "share_drop": _of_flow(lambda s, early, late: s(["image"], early) - s(["image"], late)),
    "share_below_text": _of_flow(
        lambda s, early, late: s(TEXT, late) - s(["image"], late)
    ),
    "share_below_text_without_first": _of_flow(
        lambda s, early, late: s(TEXT, late, first=False) - s(["image"], late)
    ),
    "share_below_even": _of_flow(
        lambda s, early, late: s(["image"], late, "uniform") - s(["image"], late)
    ),
    "share_last_rise": _of_flow(
        lambda s, early, late: s(["image"], [late[-1] + 1]) - s(["image"], late)
    ),
    "insertion_beyond_attention": _beyond_attention,
    "insertion_beyond_site": _beyond_site,
    "own_box_early": _own_early,
    "own_box_early_beyond_deep": _own_beyond_deep,
    "cliff_later": _later,
    "depth_to_spare": _to_spare,
    "cliffs_apart": _apart,
    "unseen_beyond_guess": _unseen,
    "answers_changed": answers_changed,
    "score_lost": score_lost,
    "way_gap": way_gap,
})  # fmt: skip
"""What an entry's `statistic` may be."""
