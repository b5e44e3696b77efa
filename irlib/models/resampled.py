"""Layouts of the families whose image tokens are latents that read all patches; see layouts.py."""

import numpy as np

from irlib.inputs.crops import Crop
from irlib.inputs.grids import Grid, cells_of
from irlib.models.layouts import expect

READ = "maps go through the cross-attention of {} to the patches."


def quarters_and_whole(vlm, visual: dict, size: tuple[int, int]) -> Grid:
    """Idefics2: latents read each quarter of the picture and the whole, or the whole alone."""
    config, pixels, (width, height) = vlm.model.config, visual["pixel_values"][0], size
    split = vlm.processor.image_processor.do_image_splitting
    expect(vlm, "crops", len(pixels), 5 if split else 1)
    x, y = [0, width // 2, width], [0, height // 2, height]
    boxes = [(x[i], y[j], x[i + 1], y[j + 1]) for j in (0, 1) for i in (0, 1)] if split else []
    boxes.append((0, 0, width, height))
    real = visual.get("pixel_attention_mask")
    real = pixels[:, 0] == pixels[:, 0] if real is None else real[0].bool()
    patch = config.vision_config.patch_size
    crops = [
        _crop(box, mask.cpu().numpy(), patch, whole=True, view=int(number == 4))
        for number, (box, mask) in enumerate(zip(boxes, real, strict=True))
    ]
    latents = config.perceiver_config.resampler_n_latents
    return _grid(size, crops, latents * len(crops), "the resampler")


def queries_of_a_square(vlm, visual: dict, size: tuple[int, int]) -> Grid:
    """Aria: queries read the picture, whose longer side is the tower's, padded behind."""
    config, told = vlm.model.config, getattr(vlm.processor, "images_kwargs", None) or {}
    if len(visual["pixel_values"]) > 1 or told.get("split_image"):
        raise ValueError(
            f"asked to prepare a picture for {vlm.name}, found that its processor splits pictures "
            "(split_image), whose crops irlib does not place; set split_image to false in "
            "processor_config.json"
        )
    mask = visual["pixel_mask"][0].cpu().numpy()
    patch = config.vision_config.patch_size
    crop = _crop((0, 0, *size), mask, patch, whole=False, view=0)
    count = config.projector_patch_to_query_dict.get((len(mask) // patch) ** 2)
    return _grid(size, [crop], count or 0, "the projector")


def _crop(box, mask, patch, *, whole, view) -> Crop:
    """The patches of a part of the picture that fills the pixels `mask [y, x]` of a tower's input.

    Of patches that it fills in part, `whole` leaves the last ones out.
    """
    left, top, right, bottom = box
    edges = []
    for start, end, drawn in ((top, bottom, mask[:, 0].sum()), (left, right, mask[0].sum())):
        count = drawn // patch if whole else -(-drawn // patch)
        edges.append(start + np.arange(count + 1) * patch * (end - start) / drawn)
    return Crop(*edges, view=view)


def _grid(size, crops, tokens, reader) -> Grid:
    """A grid without places for its tokens; its cells are as fine as the finest view."""
    x, y = crops[0].x, crops[0].y
    if len(crops) > 1:  # quarters may differ by a patch: even cells, as many
        rows, cols = (
            sum(len(getattr(crops[i], axis)) - 1 for i in pair)
            for axis, pair in (("y", (0, 2)), ("x", (0, 1)))
        )
        x, y = np.linspace(0, size[0], cols + 1), np.linspace(0, size[1], rows + 1)
    nowhere = np.full((tokens, 4), np.nan)
    return Grid(size, nowhere, (), cells_of(x, y), note=READ.format(reader), crops=tuple(crops))
