"""One look for every figure: Okabe-Ito colours, axes of layers, direct labels, nothing global."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb

from irlib.plots.lettering import width

BLACK, GREY, LIGHT = "#000000", "#6E6E6E", "#DCDCDC"
ORANGE, SKY, GREEN, YELLOW = "#E69F00", "#56B4E9", "#009E73", "#F0E442"
BLUE, VERMILLION, PURPLE = "#0072B2", "#D55E00", "#CC79A7"
OKABE_ITO = (BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILLION, PURPLE)

SEGMENTS = {
    "first": BLACK, "system": SKY, "image": VERMILLION, "between": PURPLE, "user": BLUE,
    "answer": GREEN,
}  # fmt: skip
"""Colour of each part of the prompt, in the order of the sequence: text blue, the picture red; the
first token black where it is told apart."""
FIRST = "First: the prompt's first token, counted in no other part. "

SERIES = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)
"""Colours of models, tasks or sites, in this order."""

COUNTED = "Layers count from 0; the paper counts attention layers from 1."


def spread(places: Sequence[float], gap: float, low: float, high: float) -> np.ndarray:
    """Return `places` moved as little as needed to lie `gap` apart, in order, within [low, high].

    >>> spread([0.50, 0.51, 0.90], 0.1, 0.0, 1.0).round(3).tolist()
    [0.455, 0.555, 0.9]
    """
    order = np.argsort(places, kind="stable")
    blocks: list[list[float]] = []  # [sum of wished starts, number of labels]
    for index in order:
        blocks.append([float(places[index]), 1])
        while len(blocks) > 1:
            (a, m), (b, k) = blocks[-2], blocks[-1]
            if b / k - (k - 1) * gap / 2 >= a / m + (m - 1) * gap / 2 + gap:
                break
            blocks[-2:] = [[a + b, m + k]]
    moved = np.empty(len(order))
    rank, floor = 0, low
    for position, (total, count) in enumerate(blocks):
        after = sum(k for _, k in blocks[position + 1 :])
        start = max(total / count - (count - 1) * gap / 2, floor)
        start = max(min(start, high - (count + after - 1) * gap), low + rank * gap)
        moved[order[rank : rank + count]] = start + gap * np.arange(count)
        rank, floor = rank + count, start + count * gap
    return moved


def inches(axes: Axes) -> tuple[float, float]:
    """Return how wide and how high `axes` is on the page."""
    return tuple(axes.get_position().size * axes.figure.get_size_inches())


def label_ends(
    axes: Axes, x: float, ends: Sequence[tuple[str, float, str]], *, size: float, **look
) -> None:
    """Write each of `ends (text, y, colour)` at x, as near to its y as the others let it be."""
    low, high = sorted(axes.get_ylim())
    gap = size * 1.2 / 72 * max((text.count("\n") + 1 for text, _, _ in ends), default=1)
    gap *= (high - low) / inches(axes)[1]
    heights = spread([y for _, y, _ in ends], gap, low + gap / 2, high - gap / 2)
    for (text, _, colour), height in zip(ends, heights, strict=True):
        axes.text(x, height, text, color=ink(colour), va="center", fontsize=size, **look)


def key(axes: Axes, names: Mapping[str, str], *, y: float, size: float = 7.5) -> None:
    """Write names in their colours, `names[name] = colour`, side by side at y, in axes' shares."""
    x = 0.02
    for name, colour in names.items():
        axes.text(x, y, name, color=ink(colour), transform=axes.transAxes, va="top", fontsize=size)
        x += (width(name, size) + 0.12) / inches(axes)[0]


def ink(colour: str) -> str:
    """Return `colour` dark enough to be read as text on white.

    >>> ink(SKY), ink("#000000")
    ('#3d80a6', '#000000')
    """
    red, green, blue = to_rgb(colour)
    bright = 0.299 * red + 0.587 * green + 0.114 * blue
    return to_hex(
        [part * min(1.0, 0.44 / bright) if bright else 0.0 for part in (red, green, blue)]
    )


def layer_axis(axes: Axes, layers: Iterable[int], *, label: str = "decoder layer") -> None:
    """Ticks for `layers`, counted from 0: as many as fit, the first and the last among them."""
    layers = sorted(set(layers))
    step = int(np.ceil(len(layers) * 0.175 / inches(axes)[0]))
    shown = sorted({*layers[::step], layers[-1]})
    if len(shown) > 1 and shown[-1] - shown[-2] < step:
        shown.pop(-2)
    axes.set_xticks(shown, [str(layer) for layer in shown])
    axes.set_xlabel(label)


def interval(value: float, low: float, high: float) -> str:
    """Return `value [low, high]` in percent, with one decimal.

    >>> interval(0.5, 0.41, 0.6)
    '50.0 [41.0, 60.0] %'
    """
    return f"{100 * value:.1f} [{100 * low:.1f}, {100 * high:.1f}] %"


def count(numbers: Iterable[int], pictures: Iterable[int] = ()) -> str:
    """Return `n = 40`, or `n = 38-40` where the rows of a figure do not all have the same count.

    Where the answers stand on fewer `pictures`, these follow in brackets.

    >>> count([40, 40]), count([38, 40]), count([50], [39])
    ('n = 40', 'n = 38–40', 'n = 50 (39)')
    """
    found, fewer = (_span(sorted({int(number) for number in some if number}))
                    for some in (numbers, pictures))  # fmt: skip
    return f"n = {found}" + f" ({fewer})" * (fewer not in ("0", found))


def _span(found: list[int]) -> str:
    if not found:
        return "0"
    return f"{found[0]}" if len(found) == 1 else f"{found[0]}–{found[-1]}"


def closing(table) -> str:
    """Return how a foot ends: how layers count, and which rows of the table gave no answer.

    >>> import pandas as pd
    >>> table = pd.DataFrame()
    >>> table.attrs["unanswered"] = ["pope random/7"]
    >>> closing(table).rpartition("layers from 1.")[2]
    ' Left out, for an empty answer: pope random/7.'
    """
    names = table.attrs.get("unanswered", [])
    if not names:
        return COUNTED
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{COUNTED} Left out, for an empty answer: {', '.join(names[:3])}{more}."


def require(table, columns: Iterable[str], plot: str) -> None:
    """Refuse a table that lacks one of `columns` or has no row.

    Raises: ValueError naming the plot, the missing columns and those found.
    """
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise ValueError(
            f"{plot} needs the columns {missing}; the table has {list(table.columns)}. "
            "Make it with irlib.plots.average() from an instrument's table."
        )
    if not len(table):
        raise ValueError(f"{plot} needs at least one row; the table is empty. Check n and filters.")
