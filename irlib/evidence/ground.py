"""What claims are judged on: the instruments' tables, of the models that are judged alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from irlib.evidence.units import units
from irlib.tasks.pictures import identify
from irlib.tasks.samples import Sample

BEYOND = {"flow": 0, "pairs": 0, "sweep": 1}
"""Tables that must have every layer, and how many more than the model: a sweep's untouched one."""


@dataclass(frozen=True, kw_only=True)
class Ground:
    """The instruments' tables by name, of `model`; the sweeps are of all models in `layers`.

    `layers` are the numbers of decoder layers by model, `tasks` those that each table must have,
    `margin` is that of a cliff.
    """

    tables: Mapping[str, pd.DataFrame]
    model: str
    layers: Mapping[str, int]
    tasks: Mapping[str, Sequence[str]]
    margin: float

    @property
    def depth(self) -> int:
        """The number of layers of the model that is judged."""
        return self.layers[self.model]

    def of(self, name: str) -> pd.DataFrame:
        """Return a table, its `picture` the unit of each row; empty where no row had what it takes.

        Raises `ValueError` where it is missing, or has other models, tasks or layers than it must.
        """
        if name not in self.tables:
            raise ValueError(
                f"claims were to be judged on the table {name!r}; found {list(self.tables)}; give "
                "that too"
            )
        table = self.tables[name]
        if "picture" not in table:
            raise ValueError(
                f"claims were to be judged on the table {name!r}; found columns {list(table)}; "
                "give rows with their pictures (with_pictures)"
            )
        if table.empty:
            return table
        models = list(self.layers) if name == "sweep" else [self.model]
        for what, wanted in (("model", models), ("task", self.tasks[name])):
            if set(table[what]) != set(wanted):
                raise ValueError(
                    f"claims about the {what}s {sorted(wanted)} were to be judged on the table "
                    f"{name!r}; found {sorted(set(table[what]))}; give rows of these alone"
                )
        for model in models if name in BEYOND else ():
            there = sorted(set(table.loc[table["model"] == model, "layer"]))
            if there != [*range(self.layers[model] + BEYOND[name])]:
                raise ValueError(
                    f"claims were to be judged on all layers of {model} in the table {name!r}; "
                    f"found {there}; leave layers= out"
                )
        return table.assign(picture=units(table))


def with_pictures(table: pd.DataFrame, samples: Sequence[Sample]) -> pd.DataFrame:
    """Return a table of samples with the column `picture`, a hash of what is seen.

    >>> sample = Sample(task="pope", key="1", question="?", prompt="?", image=None, reference={})
    >>> with_pictures(pd.DataFrame({"task": ["pope"], "sample": ["1"]}), [sample])["picture"][0]
    ''
    """
    known = {(s.task, s.key): identify(s.image) for s in samples}
    keys = zip(table["task"], table["sample"], strict=True)
    return table.assign(picture=[known[key] for key in keys])
