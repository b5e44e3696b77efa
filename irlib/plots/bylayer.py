"""A curve with its band for each series of a table, over decoder layers."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes


def lines(
    axes: Axes,
    table: pd.DataFrame,
    name: str,
    looks: Mapping[str, str],
    *,
    scale: float,
    dashed: tuple[str, ...] = (),
) -> None:
    """Draw `value` over `layer`, times `scale`, a line for each series of the column `name`.

    `looks[series]` is its colour; `low` to `high` is its band; those of `dashed` have no dots.
    """
    for series, colour in looks.items():
        rows = table[table[name] == series].sort_values("layer")
        if rows.empty:
            continue
        look = {"marker": "o", "ms": 2.4, "lw": 1.2}
        if series in dashed:
            look = {"ls": (0, (4, 2)), "lw": 1.0}
        low, high = scale * rows["low"], scale * rows["high"]
        axes.fill_between(rows["layer"], low, high, color=colour, alpha=0.15, lw=0)
        axes.plot(rows["layer"], scale * rows["value"], color=colour, zorder=3, **look)
