"""One cell of a CAM figure: the map laid over the picture, and the box of what is asked."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from matplotlib import colormaps, patheffects
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from irlib.plots.page import PAGE, SMALL, Drawing
from irlib.plots.style import GREY, LIGHT, inches
from irlib.scores import score

OPACITY = 0.75
"""How much of the picture the hottest cell of Maps.overlay() hides."""
MAPS = (
    "Maps: samples drawn by seed; a map is shown in its own cells and scaled by its own maximum; "
    "'zero': no gradient reaches the picture's rows at that layer, there is no map. "
)


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
        draw_picture(axes, maps.overlay(layer), maps.boxes)
        return
    grey = np.asarray(maps.picture.convert("L"), float)[..., None] * 0.2 + 204
    draw_picture(axes, grey.repeat(3, -1).astype(np.uint8))
    halo = patheffects.withStroke(linewidth=2.5, foreground="white")
    axes.text(0.5, 0.5, "zero", transform=axes.transAxes, ha="center", va="center", fontsize=7.5,
              fontweight="bold", color=GREY, path_effects=[halo])  # fmt: skip


def draw_key(figure: Drawing) -> None:
    """Tell at the head of a figure what the box and the colours of its maps are."""
    y, high, wide = -0.175, 0.09, 0.75
    box = figure.place(PAGE - 2.68, y, 0.12, high)
    box.set(xlim=(0, 12), ylim=(0, 9))
    _frame(box, [(2, 1, 10, 8)])
    box.spines[:].set_visible(False)
    heat = figure.place(PAGE - 1.02, y, wide, high)
    colours = colormaps["inferno"](np.linspace(0, 1, 64))[None, :, :3]
    alpha = OPACITY * np.linspace(0, 1, 64)[None, :, None]  # over white, as over a pale picture
    heat.imshow(1 - alpha + alpha * colours, aspect="auto")
    _frame(heat, ())
    for x, text, side in (
        (PAGE - 2.51, "what is asked", "left"),
        (PAGE - 1.07, "heat  0", "right"),
        (PAGE - 0.22, "max", "left"),
    ):
        figure.write(x, y + high / 2, text, fontsize=SMALL, va="center", ha=side)


def _frame(axes: Axes, boxes) -> None:
    """Frame a picture, and its boxes from outside, so that they hide nothing of what is asked."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set(visible=True, color=LIGHT, linewidth=0.5)
    (left, right), (low, high) = sorted(axes.get_xlim()), sorted(axes.get_ylim())
    point = (right - left) / (72 * inches(axes)[0])  # in pixels of the picture
    for x0, y0, x1, y1 in boxes:
        x0, y0 = max(x0, left) - point, max(y0, low) - point
        x1, y1 = min(x1, right) + point, min(y1, high) + point
        outline = Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, ec="white", lw=0.5)
        outline.set_path_effects([patheffects.withStroke(linewidth=1.4, foreground="black")])
        outline.set_clip_on(False)
        axes.add_patch(outline)
