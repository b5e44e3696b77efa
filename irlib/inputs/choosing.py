"""One of several pictures in a prompt: which image tokens are looked at."""

from dataclasses import replace

import torch

from irlib import doors


def look_at(inputs, which: int):
    """`Inputs.picture`: the same prompts, of whose pictures one is looked at."""
    which = doors.count("which", which)
    if inputs.which is not None:
        raise ValueError(
            f"asked for picture {which} of inputs that look at picture {inputs.which} already; "
            "choose from those of vlm.prepare"
        )
    image = torch.zeros_like(inputs.spans.image)
    for row, grids in enumerate(inputs.laid):
        if grids and which >= len(grids):
            raise ValueError(
                f"asked for picture {which} ({_name(inputs, row)}), found {len(grids)} in its "
                "prompt; they count from 0"
            )
        if grids:
            ends = torch.tensor([0] + [len(grid.boxes) for grid in grids]).cumsum(0).tolist()
            places = inputs.spans.image[row].nonzero().flatten()
            image[row, places[ends[which] : ends[which + 1]]] = True
    others = inputs.spans.image & ~image
    spans = replace(inputs.spans, image=image, between=inputs.spans.between | others)
    samples = (
        replace(one, boxes=tuple(box for box in one.boxes if box.picture == which))
        for one in inputs.samples
    )
    return replace(inputs, spans=spans, samples=tuple(samples), which=which)


def looked_at(items: tuple, which: int | None):
    """What is looked at of a row's pictures: one of them, None of none, all of several."""
    if which is None and len(items) > 1:
        return items
    return items[which or 0] if items else None


def check_one(inputs, what: str) -> None:
    """Raise `ValueError` where a row has several pictures and none of them was chosen."""
    for row, grid in enumerate(inputs.grids):
        if isinstance(grid, tuple):
            raise ValueError(
                f"asked for {what} ({_name(inputs, row)}), found {len(grid)} pictures in its "
                "prompt; say which, inputs.picture(0), or take samples with one"
            )


def _name(inputs, row):
    sample = inputs.samples[row]
    return f"row {row}: task {sample.task!r}, {sample.key!r}"
