"""Statistics of causes: what an edge that is cut costs, and whether it matters how one hides.

Each is one of `effects.STATISTICS`. Rows are the first of the table sweep, as many as the entry's
`pictures` say; the unit is the picture.
"""

from collections.abc import Mapping, Sequence

import pandas as pd

from irlib.evidence.bounds import Estimate
from irlib.evidence.claims import Claims, Entry
from irlib.evidence.cliff import cliff_layer
from irlib.evidence.ground import Ground
from irlib.evidence.means import mean_effect
from irlib.evidence.units import ONE, one


def routes(claims: Claims, sizes: str) -> list[tuple[str, str, int, int]]:
    """Return the cuts that claims name: task, edge, the layer it is cut from, how many pictures."""
    return [
        (entry.parts[0], entry.options["edge"], entry.options["layer"], _pictures(entry, sizes))
        for entry in claims.entries
        if entry.table == "routes"
    ]


def ways(claims: Claims, sizes: str) -> list[tuple[str, Mapping, int]]:
    """Return the ways of hiding that claims set beside masking: task, `truncate`'s options, how
    many pictures."""
    return [
        (task, {k: entry.options[k] for k in ("how", "renumber")}, _pictures(entry, sizes))
        for entry in claims.entries
        if entry.table == "ways"
        for task in entry.parts
    ]


def upper_limit(table: pd.DataFrame, *, depth: int, margin: float, confidence: float) -> int:
    """Return the masked cliff's certified upper limit; the last layer where none is certified."""
    return min(cliff_layer(table, margin=margin, confidence=confidence).high, depth - 1)


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
        layer = upper_limit(mine, depth=ground.depth, margin=ground.margin, confidence=confidence)
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


def _pictures(entry: Entry, sizes: str) -> int:
    return entry.options["pictures"][sizes]


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


def names(claims: Claims) -> dict[str, Sequence[str]]:
    """Return the tasks of the tables that entries name and the file's rows do not, by table."""
    found: dict[str, list[str]] = {}
    for entry in claims.entries:
        if entry.table and entry.table not in claims.rows["tables"]:
            tasks = found.setdefault(entry.table, [])
            tasks += [task for task in entry.parts if task not in tasks]
    return found
