"""One cell of a CAM figure: the map laid over the picture, and the box of what is asked."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from irlib.plots.style import GREY, LIGHT
from irlib.scores import score


def asked(sample) -> str:
    """Return a sample's question on one line, with its options where it has some.

    >>> from types import SimpleNamespace
    >>> asked(SimpleNamespace(question="Which?", reference={"choices": ("fox", "owl")}))
    'Which? A. fox B. owl'
    """
    options = zip("ABCDE", sample.reference.get("choices", ()), strict=False)
    return " ".join([sample.question, *(f"{letter}. {text}" for letter, text in options)])


def caption(sample, text: str) -> str:
    """Return question, answer and whether it is right, as the title of a row of maps."""
    right = score(sample, text)["score"] >= 0.5
    return f"{asked(sample)}  →  {text} {'✓' if right else '✗'}"


def grid_notes(maps: Iterable) -> str:
    """Return what must be known of how maps lie on their pictures, ready to follow a sentence.

    A grid's `note` says where a map is no plain grid of image tokens (a Q-Former's goes through its
    cross-attention); each is told once, with the model where the map names it.
    """
    told = {}
    for one in maps:
        if text := getattr(getattr(one, "grid", None), "note", ""):
            told.setdefault(text, {})[getattr(one, "model", "")] = None
    return "".join(
        f" {', '.join(names)}: {text}" if all(names) else f" {text}" for text, names in told.items()
    )


def draw_picture(axes: Axes, picture, boxes=()) -> None:
    """Draw a picture (PIL or `[y, x, channel]`) with a thin frame and the boxes `[box, 4]`."""
    pixels = np.asarray(picture.convert("RGB") if hasattr(picture, "convert") else picture)
    axes.imshow(pixels, interpolation="antialiased")
    _frame(axes, boxes)


def draw_map(axes: Axes, maps, layer: int) -> None:
    """Draw `maps.overlay(layer)`; a map that is zero everywhere is greyed and says 'zero'.

    A zero map has nothing to normalise: drawn like the others it would look like an even, faint
    map, which it is not.
    """
    if np.any(maps.heat[maps.layers.index(layer)]):
        axes.imshow(maps.overlay(layer), interpolation="antialiased")
        _frame(axes, maps.boxes)
        return
    grey = np.asarray(maps.picture.convert("L"), float) * 0.2 + 204
    axes.imshow(grey, cmap="gray", vmin=0, vmax=255, interpolation="antialiased")
    _frame(axes, ())
    halo = patheffects.withStroke(linewidth=2.5, foreground="white")
    axes.text(0.5, 0.5, "zero", transform=axes.transAxes, ha="center", va="center", fontsize=7.5,
              fontweight="bold", color=GREY, path_effects=[halo])  # fmt: skip


def _frame(axes: Axes, boxes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set(visible=True, color=LIGHT, linewidth=0.5)
    for x0, y0, x1, y1 in boxes:
        outline = Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, ec="white", lw=0.7)
        outline.set_path_effects([patheffects.withStroke(linewidth=1.6, foreground="black")])
        axes.add_patch(outline)
