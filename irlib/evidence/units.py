"""The unit of every interval: the picture, however many questions are asked about it.

Answers about one picture err together, so that ten of them tell less than ten about ten pictures.
"""

from collections.abc import Sequence

import pandas as pd

ONE = ("model", "task", "keep", "edge", "span", "how", "layer")
"""What a table may hold one of, unless told otherwise."""


def units(table: pd.DataFrame) -> pd.Series:
    """The unit of each row, a text: its `picture`, or its `sample` where it has none ("").

    Raises ValueError for a table without these columns.

    >>> units(pd.DataFrame({"picture": ["ab", "ab", ""], "sample": ["1", "2", "3"]})).tolist()
    ['picture ab', 'picture ab', 'sample 3']
    """
    missing = [name for name in ("picture", "sample") if name not in table]
    if missing:
        raise ValueError(
            f"asked for the units of a table with columns {list(table)}, found no "
            f'{" and no ".join(missing)}; give sweep\'s table, or set picture to "" where each '
            "sample stands for itself"
        )
    picture = table["picture"].fillna("").astype(str)  # a csv reads "" as missing
    alone = "sample " + table["sample"].astype(str)
    return ("picture " + picture).where(picture != "", alone).rename("unit")


def distinct(table: pd.DataFrame) -> pd.DataFrame:
    """The table with each question once: rows that ask the same of the same picture become one.

    `asked` tells what is the same (sweep's hash of words, picture and length); without that column
    it is the `sample`. The one row is the first of them, with the mean of their numbers: two
    references may disagree about one answer. Raises ValueError where one sample has two different
    rows, as in two tables put together.

    >>> rows = {"sample": ["1", "2", "3"], "asked": ["x", "x", "y"], "score": [1.0, 1.0, 0.0]}
    >>> distinct(pd.DataFrame(rows))["sample"].tolist()
    ['1', '3']
    """
    apart = [name for name in ONE if name in table]
    table = table.drop_duplicates(ignore_index=True)
    twice = table.duplicated([*apart, "sample"])
    if twice.any():
        raise ValueError(
            f"asked to count each question once, found {int(twice.sum())} samples with two "
            f"different rows, such as {table.loc[twice, 'sample'].iloc[0]!r}; give one table of "
            "one run"
        )
    if "asked" not in table:
        return table
    told = table["asked"].fillna("").astype(str)  # a row that does not tell stands for itself
    same = [
        *(table[name] for name in apart),
        told.where(told != "", "sample " + table["sample"].astype(str)),
    ]
    again = pd.concat(same, axis=1).duplicated()
    if not again.any():
        return table
    numbers = table.select_dtypes("number").columns.difference(apart)
    whole = table.groupby(same, sort=False, dropna=False)[list(numbers)].transform("mean")
    return table.assign(**whole)[~again].reset_index(drop=True)


def by_unit(
    table: pd.DataFrame, column: str, *, how: str = "mean", over: Sequence[str] = ()
) -> pd.Series:
    """The mean (or sum: `how`) of a column over each unit's distinct rows: a number a unit.

    NaN is left out, and a unit that has nothing else is NaN. The table holds one model, task, keep
    and layer; name in `over` those of them that are averaged over on purpose. Raises ValueError for
    any other mixed table, a column that it lacks or that holds no numbers, and an unknown `how`.

    >>> rows = {"picture": ["p", "p", ""], "sample": ["1", "2", "3"], "score": [1.0, 0.0, 1.0]}
    >>> by_unit(pd.DataFrame(rows), "score").to_dict()
    {'picture p': 0.5, 'sample 3': 1.0}
    """
    if how not in ("mean", "sum"):
        raise ValueError(f"asked for the {how!r} of each unit; take 'mean' or 'sum'")
    if column not in table or not pd.api.types.is_numeric_dtype(table[column]):
        numbers = list(table.select_dtypes(["number", "bool"]))
        raise ValueError(
            f"asked for {column!r} by unit, found no numbers of that name; name one of {numbers}"
        )
    one(table, [name for name in ONE if name not in over])
    table = distinct(table)
    values = table[column].astype(float).groupby(units(table), sort=True)
    return values.mean() if how == "mean" else values.sum(min_count=1)


def one(table: pd.DataFrame, columns: Sequence[str]) -> None:
    """Raise ValueError where one of these columns, if there, holds several values, or no row is."""
    if table.empty:
        raise ValueError("asked for numbers of a table, found no rows in it; give at least one")
    for name in columns:
        found = table[name].unique().tolist() if name in table else []
        if len(found) > 1:
            raise ValueError(
                f"asked for the numbers of one {name}, found {len(found)} in the table: "
                f"{found[:5]}; select one, or group the table by {name!r}"
            )
