"""Figure 6: what truncation does, drawn from the attention of a real forward pass."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from irlib.plots.lettering import plain, tall, wrap
from irlib.plots.matrices import draw_matrix, draw_scale, runs
from irlib.plots.page import EDGE, PAGE, Drawing, styled
from irlib.plots.style import SEGMENTS, VERMILLION, closing, ink, interval, require, spread

HEAD, LEFT, SIDE, STACK = 0.22, 2.12, 1.42, 1.15
"""Inches: of the titles, before B, of a matrix (the stack is as high), of the stack's width."""


@styled
def truncation_diagram(
    table: pd.DataFrame,
    before: np.ndarray,
    after: np.ndarray,
    segments: Sequence[str],
    *,
    layer: int,
    model: str,
    question: str = "",
) -> Figure:
    """Return (A) the decoder's stack, (B) the last open matrix, (C) the first one with hidden keys.

    `before` and `after` are head means `[query, key]` of layers `layer - 1` and `layer` of one
    truncated forward of `question`; the hidden columns are read from `after`, not from its labels.
    `table` has `layer, segment, measure, value, low, high, n` with measure `share`: the answer's
    attention to the image is printed beside the matrices.
    """
    require(
        table, ("layer", "segment", "measure", "value", "low", "high", "n"), "truncation_diagram()"
    )
    n_layers = int(table["layer"].max()) + 1
    if not 0 < layer < n_layers:
        raise ValueError(
            f"truncation_diagram() was asked for layer {layer} of {n_layers} layers. "
            f"Give one in 1..{n_layers - 1}: it draws the layer before and the layer itself."
        )
    foot = (
        "B, C: one truncated forward pass, mean over heads, log scale. Hatched: keys that no row "
        "of text reads any more; image rows keep theirs, and reach no text. Edge bars: the parts "
        f"of the prompt, coloured as in A, a very short one drawn longer. {closing(table)}"
    )
    asked = wrap(f"B, C, one question: {plain(question)}", PAGE - LEFT - EDGE, 7.5)
    low = HEAD + SIDE + max(0.48, 0.32 + tall(asked, 7.5))
    figure = Drawing(low, title=model, foot=foot)
    stack = figure.place(0.42, HEAD, STACK, SIDE)
    _stack(stack, segments, layer, n_layers)
    figure.letter("A", EDGE, HEAD)
    figure.write(LEFT, HEAD + SIDE + 0.3, asked, fontsize=7.5)
    for place, (matrix, number) in enumerate(((before, layer - 1), (after, layer))):
        left = LEFT + place * (SIDE + 0.12)
        axes = figure.place(left, HEAD, SIDE, SIDE)
        image = draw_matrix(axes, matrix, segments)
        title = f"layer {number}: " + ("all keys open" if place == 0 else "image hidden")
        axes.set_title(title, loc="center", fontsize=7.5)
        figure.letter("BC"[place], left - 0.1, HEAD)
        if place == 0:
            axes.set_ylabel("query", labelpad=10)
        axes.set_xlabel("key", labelpad=9)
        picked = table[(table["layer"] == number) & (table["segment"] == "image")]
        share = picked[picked["measure"] == "share"]
        for _, row in share.iterrows():
            axes.text(1.0, 0.98, "answer's attention\nto the image:\n"
                      + interval(row["value"], row["low"], row["high"]) + f"\nn = {int(row['n'])}",
                      transform=axes.transAxes, ha="right", va="top", fontsize=6)  # fmt: skip
    for start, stop, top, bottom in _hidden(after, segments):
        axes.add_patch(Rectangle((start - 0.5, top - 0.5), stop - start, bottom - top,
                                 fc="white", ec=VERMILLION, hatch="////", lw=0.8))  # fmt: skip
    draw_scale(image, figure.place(PAGE - 0.42, HEAD + 0.12, 0.05, SIDE - 0.12))
    return figure


def _hidden(after: np.ndarray, segments: Sequence[str]) -> list[tuple[int, int, int, int]]:
    """Blocks of weights that are zero, `(first and last key, first and last row)`, stops exclusive.

    Only image keys before later rows of another segment: what truncation closes, and only where
    the matrix itself says that it did.
    """
    blocks = []
    for row, top, bottom in runs(segments):
        if row == "image":
            continue
        read = after[top:bottom, :top].any(axis=0)
        closed = [str(name == "image" and not read[k]) for k, name in enumerate(segments[:top])]
        blocks += [(a, b, top, bottom) for name, a, b in runs(closed) if name == "True"]
    return blocks


def _stack(axes: Axes, segments: Sequence[str], layer: int, n_layers: int) -> None:
    blocks, x = {}, 0.0
    for name, start, stop in runs(segments):
        if name in SEGMENTS:
            blocks[name] = (x, np.sqrt(stop - start))
            x += np.sqrt(stop - start) + 0.5
    for number in range(n_layers):
        for name, (left, wide) in blocks.items():
            hidden = name == "image" and number >= layer
            axes.add_patch(Rectangle(
                (left, number + 0.12), wide, 0.76, lw=0.6, ec=SEGMENTS[name],
                fc="white" if hidden else SEGMENTS[name], hatch="////" if hidden else None,
            ))  # fmt: skip
    axes.axhline(layer, color="black", lw=0.9, ls=(0, (3, 2)))
    axes.text(x + 0.2, layer, f"L = {layer}", va="center", ha="left", fontsize=7)
    axes.set(xlim=(-0.3, x - 0.2), ylim=(0, n_layers))
    step = int(np.ceil(n_layers * 0.117 / SIDE))
    axes.set_yticks(np.arange(0, n_layers, step) + 0.5, range(0, n_layers, step))
    axes.set_ylabel("decoder layer")
    axes.set_xticks([])
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set_title("keys that a layer may read", fontsize=7.5)
    gap = 0.12 * (x + 0.1) / STACK
    middles = spread([left + wide / 2 for left, wide in blocks.values()], gap, 0, x)
    for name, middle in zip(blocks, middles, strict=True):
        axes.text(middle, -0.02 * n_layers, name, rotation=90, ha="center", va="top", fontsize=7,
                  color=ink(SEGMENTS[name]))  # fmt: skip
