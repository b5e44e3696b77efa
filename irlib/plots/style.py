"""One look for every figure: Okabe-Ito colours, sizes in inches, direct labels, nothing global."""

from __future__ import annotations

import functools
import io
import textwrap
from collections.abc import Callable, Iterable, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

PAGE = 5.6
"""Width of a figure in inches: a one-column page (a two-column paper's `figure*` is 6.3)."""

BLACK, GREY, LIGHT = "#000000", "#6E6E6E", "#DCDCDC"
ORANGE, SKY, GREEN, YELLOW = "#E69F00", "#56B4E9", "#009E73", "#F0E442"
BLUE, VERMILLION, PURPLE = "#0072B2", "#D55E00", "#CC79A7"
OKABE_ITO = (BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILLION, PURPLE)

SEGMENTS = {"system": SKY, "image": VERMILLION, "between": PURPLE, "user": BLUE, "answer": GREEN}
"""Colour of each part of the prompt, in the order of the sequence: text blue, the picture red."""

SERIES = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)
"""Colours of models, tasks or sites, in this order."""

RC = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.titlelocation": "left",
    "axes.titlepad": 5,
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.5,
    "lines.markersize": 3.2,
    "hatch.linewidth": 0.5,
    "figure.dpi": 200,
    "savefig.dpi": 200,
    "image.interpolation": "nearest",
    "text.usetex": False,
    "axes.unicode_minus": True,
}
SMALL = 6.5


class Drawing(Figure):
    """A figure without pyplot: no global list holds it, and a notebook still shows it."""

    def _repr_png_(self) -> bytes:
        data = io.BytesIO()
        self.savefig(data, format="png", dpi=self.dpi)
        return data.getvalue()


def styled(plot: Callable[..., Figure]) -> Callable[..., Figure]:
    """Return `plot` drawn under this module's settings; the reader's own stay as they are."""

    @functools.wraps(plot)
    def drawn(*args, **kwargs) -> Figure:
        with matplotlib.rc_context():
            matplotlib.rcdefaults()
            matplotlib.rcParams.update(RC)
            return plot(*args, **kwargs)

    return drawn


def new_figure(width: float, height: float, *, layout: str | None = None) -> Drawing:
    """Return an empty figure of `width` x `height` inches with an Agg canvas."""
    figure = Drawing(figsize=(width, height), dpi=RC["figure.dpi"], layout=layout)
    FigureCanvasAgg(figure)
    return figure


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


def label_ends(axes: Axes, x: float, ends: dict[str, tuple[float, str]], *, gap: float) -> None:
    """Write each line's name at its right end, `ends[name] = (y, colour)`, without overlap."""
    low, high = axes.get_ylim()
    heights = spread([y for y, _ in ends.values()], gap * (high - low), low, high)
    for (name, (_, colour)), height in zip(ends.items(), heights, strict=True):
        axes.text(x, height, name, color=ink(colour), va="center", ha="left", fontsize=7.5)


def letter(axes: Axes, name: str, *, left: float = 26, up: float = 4) -> None:
    """Write a panel's letter at its upper left corner, `left` and `up` points off it."""
    axes.annotate(
        name, (0, 1), xycoords="axes fraction", xytext=(-left, up), textcoords="offset points",
        fontsize=10, fontweight="bold", ha="left", va="bottom",
    )  # fmt: skip


def note(figure: Figure, text: str) -> None:
    """Write the small print along the foot of a figure, wrapped to its width."""
    width = int(figure.get_figwidth() * 72 / (0.53 * SMALL))
    figure.text(0.012, 0.04 / figure.get_figheight(), wrap(text, width, lines=7), va="bottom",
                fontsize=SMALL, color=GREY, linespacing=1.15)  # fmt: skip


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


def layer_axis(axes: Axes, layers: Iterable[int], *, label: bool = True, most: int = 12) -> None:
    """Ticks for 0-based `layers` of an attention or CAM plot, printed from 1 as in the paper."""
    layers = sorted(set(layers))
    step = 1 if len(layers) <= most else int(np.ceil(len(layers) / min(most, 8)))
    shown = sorted({*layers[::step], layers[-1]})
    if len(shown) > 1 and shown[-1] - shown[-2] < step:
        shown.pop(-2)
    axes.set_xticks(shown, [str(layer + 1) for layer in shown])
    if label:
        axes.set_xlabel("decoder layer (counted from 1)")


def interval(value: float, low: float, high: float, *, percent: bool = True) -> str:
    """Return `value [low, high]`, in percent with one decimal unless `percent` is False.

    >>> interval(0.5, 0.41, 0.6)
    '50.0 [41.0, 60.0] %'
    """
    if percent:
        return f"{100 * value:.1f} [{100 * low:.1f}, {100 * high:.1f}] %"
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"


def count(numbers: Iterable[int]) -> str:
    """Return `n = 40`, or `n = 38-40` where the rows of a figure do not all have the same count.

    >>> count([40, 40]), count([38, 40])
    ('n = 40', 'n = 38–40')
    """
    found = sorted({int(number) for number in numbers if number})
    if not found:
        return "n = 0"
    return f"n = {found[0]}" if len(found) == 1 else f"n = {found[0]}–{found[-1]}"


def wrap(text: str, width: int, *, lines: int = 3) -> str:
    """Return `text` broken into `lines` lines of `width` characters, cut with an ellipsis."""
    text = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    return "\n".join(textwrap.wrap(text, width, max_lines=lines, placeholder=" …")) or "–"


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
