"""Statistics of causes: what an edge that is cut costs, and whether it matters how one hides.

Each is one of `effects.STATISTICS`. Rows are drawn as those of the table sweep, as many as the
entry's `pictures` say; the unit is the picture.
"""

import logging
from collections.abc import Mapping, Sequence

import pandas as pd
import torch

from irlib.evidence.bounds import Estimate
from irlib.evidence.claims import Claims, Entry
from irlib.evidence.cliff import cliff_layer
from irlib.evidence.ground import Ground
from irlib.evidence.means import mean_effect
from irlib.evidence.units import ONE, one
from irlib.interventions.averages import Means, image_means
from irlib.interventions.likelihood import told
from irlib.interventions.ways import truncate
from irlib.sweeps.table import sweep
from irlib.tasks.loading import load_task
from irlib.tasks.pictures import identify
from irlib.tasks.samples import Sample

log = logging.getLogger(__name__)


BESIDE = 8
"""Pictures whose average stands in for the image: others than those that judge."""


def measured(
    vlm, claims: Claims, swept: pd.DataFrame, *, sizes: str, **draw
) -> dict[str, pd.DataFrame]:
    """Return the tables "routes" and "ways", which these claims are judged on.

    `swept` is the table sweep, whose cliffs say from which layer on ways are set beside each other;
    `sizes` says which of an entry's counts of `pictures`, `draw` are the options of `load_task`.
    """
    cut = [
        sweep(vlm, load_task(task, n=n, **draw), edge=told["edge"], layers=[told["layer"]])
        for task, told, n in _asked(claims, "routes", sizes)
    ]
    asked, hidden = _asked(claims, "ways", sizes), []
    names = ("how", "renumber")
    ways = {told["way"]: {name: told[name] for name in names} for _, told, _ in asked}
    for task in dict.fromkeys(task for task, *_ in asked):
        n = max(n for other, _, n in asked if other == task)
        mine = load_task(task, n=n, **draw)
        known, there = {sample.key for sample in mine}, swept[swept["model"] == vlm.name]
        there = there[there["task"] == task]
        layer = _limit(there, vlm.n_layers, claims.rows["margin"][sizes], _sure(claims))
        more = load_task(task, n=n + BESIDE, **draw)
        means = image_means(vlm, [sample for sample in more if sample.key not in known])
        hidden.append(likely(vlm, mine, layer=layer, ways={"mask": {}} | ways, means=means))
    return {
        "routes": pd.concat(cut, ignore_index=True),
        "ways": pd.concat(hidden, ignore_index=True),
    }


def tasks(claims: Claims) -> dict[str, list[str]]:
    """Return the tasks that each table must have: those of the file's rows, and of its entries."""
    found = {name: list(told["tasks"]) for name, told in claims.rows["tables"].items()}
    for entry in claims.entries:
        if entry.table and entry.table not in claims.rows["tables"]:
            more = found.setdefault(entry.table, [])
            more += [task for task in entry.parts if task not in more]
    return found


def likely(
    vlm,
    samples: Sequence[Sample],
    *,
    layer: int,
    ways: Mapping[str, Mapping],
    means: Means | None = None,
    batch_size: int = 8,
) -> pd.DataFrame:
    """Return how likely the untouched answer is with the image hidden from `layer` on, by way.

    `ways` are `truncate`'s options by name, `means` those of "mean". One row a sample and way:
    `model, task, sample, picture, layer, way, probability`, the geometric mean over the answer's
    tokens. Samples whose answer is empty are left out, and named in the log.
    """
    rows = []
    for begin in range(0, len(samples), batch_size):
        inputs = vlm.encode(vlm.prepare(list(samples[begin : begin + batch_size])))
        answer = vlm.answer(inputs)
        whole = inputs.followed_by(answer)
        for name, options in ways.items():
            options = dict(options, means=means) if options.get("how") == "mean" else options
            with truncate(vlm, inputs, layer=layer, **options), torch.no_grad():
                logits = vlm.forward(whole)[:, inputs.length - 1 :]
            for sample, scores, ids in zip(inputs.samples, logits, answer.ids, strict=True):
                if not len(ids):
                    log.warning("%s %s: the answer is empty; left out", sample.task, sample.key)
                    continue
                row = {"model": vlm.name, "task": sample.task, "sample": sample.key}
                row |= {"picture": identify(sample.image), "layer": layer, "way": name}
                each = told(scores[: len(ids)], ids.long().cpu())
                rows.append(row | {"probability": each.mean().exp().item()})
    return pd.DataFrame(rows)


def answers_changed(ground: Ground, entry: Entry, confidence: float) -> dict[str, Estimate]:
    """Return the share of answers that a cut changes."""
    cut, whole = _cut(ground, entry, "answer")
    return _told(entry, (cut != whole[cut.index]).astype(float), confidence)


def score_lost(ground: Ground, entry: Entry, confidence: float) -> dict[str, Estimate]:
    """Return what a cut takes from the score of a question."""
    cut, whole = _cut(ground, entry, "score")
    return _told(entry, whole[cut.index] - cut, confidence)


def way_gap(ground: Ground, entry: Entry, confidence: float) -> dict[str, Estimate]:
    """Return how much likelier the untouched answer is masked than hidden the entry's way.

    At the masked cliff's certified upper limit, of the table sweep; the table ways has a row a
    sample, layer and way, `probability` that of the untouched answer's tokens (geometric mean).
    """
    table, swept, found = ground.of("ways"), ground.of("sweep"), {}
    keys = ["sample", "picture"]
    for task in entry.parts:
        mine = swept[(swept["model"] == ground.model) & (swept["task"] == task)]
        layer = _limit(mine, ground.depth, ground.margin, confidence)
        here = table[(table["task"] == task) & (table["layer"] == layer)]
        masked, other = (
            here[here["way"] == name].set_index(keys)["probability"]
            for name in ("mask", entry.options["way"])
        )
        if other.empty or set(other.index) != set(masked.index):
            raise ValueError(
                f"claim {entry.id} was to be judged on {task} from layer {layer} on; found "
                f"{len(masked)} rows masked and {len(other)} by the way {entry.options['way']!r}; "
                "give the same rows both ways at that layer"
            )
        gap = (masked - other).groupby("picture").mean()
        found[task] = mean_effect(gap, step=entry.step, confidence=confidence)
    return found


def _cut(ground, entry, column) -> tuple[pd.Series, pd.Series]:
    """A column of the rows with the entry's edge cut, and of the untouched model, by question."""
    table, (task,), option = ground.of("routes"), entry.parts, entry.options
    mine = table[(table["task"] == task) & (table["edge"] == option["edge"])]
    wanted = {option["layer"], ground.depth}
    if set(mine["layer"]) != wanted or set(mine["span"]) != {"from"}:
        raise ValueError(
            f"claim {entry.id} was to be judged on {option['edge']} cut from layer "
            f"{option['layer']} on; found layers {sorted(set(mine['layer']))} of the kinds "
            f"{sorted(set(mine['span']))}; give that layer and the untouched model, kind 'from'"
        )
    one(mine, [name for name in ONE if name != "layer"])
    by_layer = mine.set_index(["sample", "picture"]).groupby("layer")[column]
    return by_layer.get_group(option["layer"]), by_layer.get_group(ground.depth)


def _told(entry, effects: pd.Series, confidence) -> dict[str, Estimate]:
    by_picture = effects.groupby("picture").mean()
    return {entry.parts[0]: mean_effect(by_picture, step=entry.step, confidence=confidence)}


def _asked(claims, table, sizes) -> list[tuple[str, Mapping, int]]:
    """Task, options and number of pictures of each part that is judged on a table."""
    return [
        (task, entry.options, entry.options["pictures"][sizes])
        for entry in claims.entries
        if entry.table == table
        for task in entry.parts
    ]


def _sure(claims) -> float:
    """The confidence of the claim about ways."""
    return claims.confidence(next(e.claim for e in claims.entries if e.table == "ways"))


def _limit(masked: pd.DataFrame, depth: int, margin: float, confidence: float) -> int:
    """The masked cliff's certified upper limit; the last layer where none is certified."""
    return min(cliff_layer(masked, margin=margin, confidence=confidence).high, depth - 1)
