"""Layouts of the families whose processors cut a picture into tiles; see layouts.py."""

import math

import numpy as np
from PIL import Image
from transformers.image_processing_utils import select_best_resolution
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import get_optimal_tiled_canvas

from irlib.inputs.grids import Grid, cells_of, grid_of
from irlib.models.layouts import expect, finest_first, patches, tiled, whole
from irlib.models.substitutes import covering


def base_and_tiles(vlm, visual: dict, size: tuple[int, int]) -> Grid:
    """LLaVA-1.6, LLaVA-OneVision: the whole picture squashed, then tiles of it, enlarged.

    The tiles keep the proportions; their features are cut to the picture (unpadded), shrunk where
    there are too many (OneVision), and each row of them ends in a newline token.
    """
    config, (width, height) = vlm.model.config, size
    tile, (side, _) = config.vision_config.image_size, patches(vlm, visual)
    tall, wide = select_best_resolution((height, width), config.image_grid_pinpoints)
    pinpoints = vlm.processor.image_processor.image_grid_pinpoints
    best = select_best_resolution((height, width), pinpoints)
    expect(vlm, "pixels of tiles", tuple(best), (tall, wide))
    tiles = 1 + (tall // tile) * (wide // tile)
    expect(vlm, "tiles", visual["pixel_values"].shape[1], tiles)
    # pixels of the enlarged picture and its place on the canvas
    if wide / width < tall / height:
        new_width, new_height = wide, min(math.ceil(height * wide / width), tall)
    else:
        new_width, new_height = min(math.ceil(width * tall / height), wide), tall
    left, top = (wide - new_width) // 2, (tall - new_height) // 2
    # rows and columns of features, and how many of them are cut off on either side
    rows, cols, above, before = tall // tile * side, wide // tile * side, 0, 0
    if width / height > cols / rows:
        above = (rows - int(round(height * cols / width, 7))) // 2
    else:
        before = (cols - int(round(width * rows / height, 7))) // 2
    rows, cols, patch = rows - 2 * above, cols - 2 * before, tile / side
    x = (before * patch + np.array([0, cols * patch]) - left) * width / new_width
    y = (above * patch + np.array([0, rows * patch]) - top) * height / new_height
    if cap := getattr(config, "vision_aspect_ratio", None):
        ratio = math.sqrt(rows * cols / (int(cap.removeprefix("anyres_max_")) * side**2))
        if ratio > 1.1:
            rows, cols = int(rows // ratio), int(cols // ratio)
    tiles = side**2 + np.arange(rows * (cols + 1)).reshape(rows, cols + 1)[:, :-1]
    views = [(tiles, cells_of(np.linspace(*x, cols + 1), np.linspace(*y, rows + 1)))]
    views.append(whole(size, (side, side)))
    return grid_of(size, finest_first(views), side**2 + rows * (cols + 1))


def tiles_and_thumbnail(vlm, visual: dict, size: tuple[int, int]) -> Grid:
    """InternVL, Aya Vision: the picture squashed onto tiles, then, if more than one, onto one."""
    processor = vlm.processor.image_processor
    limits = processor.min_patches, processor.max_patches
    return _thumbnailed(
        vlm, visual, size, lambda tile: get_optimal_tiled_canvas(size[::-1], tile[::-1], *limits)
    )


def covering_tiles(vlm, visual: dict, size: tuple[int, int]) -> Grid:
    """Command A Vision: squashed onto the tiles that enlarge it least, then the whole on one."""
    most = vlm.processor.image_processor.max_patches
    return _thumbnailed(vlm, visual, size, lambda tile: covering(size, tile, most))


def _thumbnailed(vlm, visual, size, canvas) -> Grid:
    """`canvas(tile)` gives columns and rows of tiles of a size `(width, height)`."""
    config, processor = vlm.model.config, vlm.processor.image_processor
    ratio = getattr(config, "downsample_ratio", None) or 1 / config.downsample_factor
    each = tuple(int(count * ratio) for count in patches(vlm, visual))
    count, rows, cols = len(visual["pixel_values"]), 1, 1
    if count > 1:
        cols, rows = canvas((processor.size["width"], processor.size["height"]))
        expect(vlm, "tiles", count, rows * cols + 1)
    return tiled(size, rows, cols, each, whole_last=count > 1)


def tiles_and_global(vlm, visual: dict, size: tuple[int, int]) -> Grid:
    """Idefics3, SmolVLM: squashed onto rows x cols square tiles, then the whole on one."""
    config, pixels = vlm.model.config, visual["pixel_values"]
    step = config.vision_config.patch_size * config.scale_factor
    each = tuple(int(length // step) for length in pixels.shape[-2:])
    count, rows, cols = pixels.shape[1], 1, 1
    if count > 1:
        told = vlm.processor.image_processor(Image.new("RGB", size), return_row_col_info=True)
        rows, cols = told["rows"][0][0], told["cols"][0][0]
        expect(vlm, "tiles", count, rows * cols + 1)
    return tiled(size, rows, cols, each, whole_last=count > 1)
