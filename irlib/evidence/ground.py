"""What claims are judged on: the instruments' tables, of the models that are judged alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from irlib.tasks.pictures import identify
from irlib.tasks.samples import Sample


@dataclass(frozen=True, kw_only=True)
class Ground:
    """What claims are judged on: the instruments' tables by name, of `model`; the sweeps of all
    `models`; `margin` is that of a cliff."""

    tables: Mapping[str, pd.DataFrame]
    model: str
    models: Sequence[str]
    margin: float

    def of(self, name: str) -> pd.DataFrame:
        """Return a table; raises `ValueError` where it is missing or holds another model too."""
        if name not in self.tables:
            raise ValueError(
                f"claims were to be judged on the table {name!r}; found {list(self.tables)}; give "
                "that too"
            )
        table = self.tables[name]
        there, wanted = set(table["model"]), set(self.models if name == "sweep" else [self.model])
        if (len(table) and there != wanted) or "picture" not in table:
            raise ValueError(
                f"claims about {sorted(wanted)} were to be judged on the table {name!r}; found "
                f"models {sorted(there)} and columns {list(table)}; give rows of these models "
                "alone, with their pictures (with_pictures)"
            )
        return table


def with_pictures(table: pd.DataFrame, samples: Sequence[Sample]) -> pd.DataFrame:
    """Return a table of samples with the column `picture`, a hash of what is seen.

    >>> sample = Sample(task="pope", key="1", question="?", prompt="?", image=None, reference={})
    >>> with_pictures(pd.DataFrame({"task": ["pope"], "sample": ["1"]}), [sample])["picture"][0]
    ''
    """
    known = {(s.task, s.key): identify(s.image) for s in samples}
    keys = zip(table["task"], table["sample"], strict=True)
    return table.assign(picture=[known[key] for key in keys])
