"""A figure as a page: placed in inches, a title (the model's name) above and small print below."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from irlib.plots.lettering import FAMILY, SPACING, tall, wrap
from irlib.plots.style import GREY

PAGE = 5.6
"""Width of a figure in inches: a one-column page (a two-column paper's `figure*` is 6.3)."""
EDGE = 0.05
"""Inches that stay free along the edge of a page."""
SMALL, NAME = 6.5, 8.5
"""Points of the small print and of the title."""

RC = {
    "font.family": FAMILY,
    "font.size": 8,
    "text.parse_math": False,  # what a person typed is no mathematics, whatever its letters
    "text.usetex": False,
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
    "axes.unicode_minus": True,
}


class Drawing(Figure):
    """A figure without pyplot: no global list holds it, and a notebook still shows it.

    Places are inches from the left edge and, downwards, from below the title.
    """

    def __init__(self, height: float, *, title: str | None = None, foot: str = ""):
        named = title is not None
        name = wrap(title, PAGE / 2, NAME, bold=True) if named else ""
        small = wrap(foot, PAGE - 2 * EDGE, SMALL) if foot else ""
        self._head = EDGE + tall(name, NAME) + 0.07 if named else 0.0
        below = tall(small, SMALL) + 2 * EDGE if foot else 0.0
        self._tall = self._head + height + below
        super().__init__(figsize=(PAGE, self._tall), dpi=RC["figure.dpi"])
        FigureCanvasAgg(self)
        if named:
            self.write(EDGE, EDGE - self._head, name, fontsize=NAME, fontweight="bold")
        if foot:
            self.write(EDGE, height + EDGE, small, fontsize=SMALL, color=GREY)

    def place(self, x: float, y: float, wide: float, high: float, **more) -> Axes:
        """Return new axes of `wide` x `high` inches whose upper left corner is at (x, y)."""
        bottom = 1 - (self._head + y + high) / self._tall
        return self.add_axes((x / PAGE, bottom, wide / PAGE, high / self._tall), **more)

    def write(self, x: float, y: float, text: str, **look) -> Text:
        """Return `text` written at (x, y), its lines as they are, hung from y unless `va` says."""
        look = {"va": "top", "linespacing": SPACING} | look
        return self.text(x / PAGE, 1 - (self._head + y) / self._tall, text, **look)

    def letter(self, name: str, x: float, y: float) -> Text:
        """Return a panel's letter at x, on the line of the title of axes whose top is at y."""
        return self.write(x, y - RC["axes.titlepad"] / 72, name, fontsize=10, fontweight="bold",
                          va="baseline")  # fmt: skip

    def png(self, dpi: int) -> bytes:
        """Return the figure as a png of `dpi` dots per inch."""
        data = io.BytesIO()
        self.savefig(data, format="png", dpi=dpi)
        return data.getvalue()

    def _repr_png_(self) -> bytes:
        with matplotlib.rc_context({"text.hinting": "none"}):  # hinted, small letters are wider
            return self.png(100)  # a notebook is read on a screen, and kept small


def styled(plot: Callable[..., Figure]) -> Callable[..., Figure]:
    """Return `plot` drawn under this module's settings; the reader's own stay as they are."""

    @functools.wraps(plot)
    def drawn(*args, **kwargs) -> Figure:
        with matplotlib.rc_context():
            matplotlib.rcdefaults()
            matplotlib.rcParams.update(RC)
            return plot(*args, **kwargs)

    return drawn
