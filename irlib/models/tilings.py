"""Layouts of the families whose processors cut a picture into tiles; see layouts.py."""

import math

import numpy as np
from PIL import Image
from transformers.image_processing_utils import select_best_resolution
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import get_optimal_tiled_canvas

from irlib.inputs.grids import Grid, cells_of, crop_grid, grid_of
from irlib.models.layouts import expect, finest_first, patches, tiled, whole
from irlib.models.substitutes import covering


def base_and_tiles(vlm, visual: dict, size: tuple[int, int]) -> Grid:
    """LLaVA-1.6, LLaVA-OneVision: the whole picture squashed, then tiles of it, enlarged.

    The tiles keep the proportions; their features are cut to the picture (unpadded), shrunk where
    there are too many (OneVision), and each row of them ends in a newline token. Of several
    pictures OneVision sees each as a whole alone, padded to a square, and ends it so.
    """
    config, (width, height) = vlm.model.config, size
    tile, (side, _) = config.vision_config.image_size, patches(vlm, visual)
    if "batch_num_images" in visual and visual["pixel_values"].shape[1] == 1:
        square = crop_grid(size, shape=(side, side), square=True)
        return grid_of(size, [(square.views[0], square.cells)], side**2 + 1)
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
    return _thumbnailed(vlm, visual, size, _closest(vlm, size))


def covering_tiles(vlm, visual: dict, size: tuple[int, int]) -> Grid:
    """Command A Vision: squashed onto the tiles that enlarge it least, then the whole on one."""
    most = vlm.processor.image_processor.max_patches
    return _thumbnailed(vlm, visual, size, lambda tile: covering(size, tile, most))


def _thumbnailed(vlm, visual, size, canvas) -> Grid:
    """`canvas(tile)` gives columns and rows of tiles of a size `(width, height)`."""
    config = vlm.model.config
    ratio = getattr(config, "downsample_ratio", None) or 1 / config.downsample_factor
    each = tuple(int(count * ratio) for count in patches(vlm, visual))
    rows, cols = _cut(vlm, visual, canvas)
    return tiled(size, rows, cols, each, whole_last=rows * cols > 1)


def _closest(vlm, size):
    """The canvas whose proportions are closest to a picture's."""
    processor = vlm.processor.image_processor
    limits = processor.min_patches, processor.max_patches
    return lambda tile: get_optimal_tiled_canvas(size[::-1], tile[::-1], *limits)


def _cut(vlm, visual, canvas) -> tuple[int, int]:
    """Rows and columns of the tiles that there are, a thumbnail not among them."""
    processor, count = vlm.processor.image_processor, len(visual["pixel_values"])
    if count == 1:
        return 1, 1
    cols, rows = canvas((processor.size["width"], processor.size["height"]))
    expect(vlm, "tiles", count, rows * cols + 1)
    return rows, cols


def convolved(vlm, visual: dict, size: tuple[int, int]) -> Grid:
    """GOT-OCR 2: as InternVL; two convolutions of stride 2 make a token of about 4 x 4 patches.

    Both begin on the first patch of all, so that token t centres on the patch 4 t and reaches three
    to either side: cells meet half way between two centres.
    """
    rows, cols = _cut(vlm, visual, _closest(vlm, size))
    y, x = (
        np.array([0, *(4 * np.arange(1, math.ceil(count / 4)) - 1.5), count]) / count
        for count in patches(vlm, visual)
    )
    grid = tiled(size, rows, cols, (len(y) - 1, len(x) - 1), whole_last=rows * cols > 1)

    def lines(length, edges, tiles):
        return [*(length * (np.arange(tiles)[:, None] + edges[:-1]) / tiles).ravel(), length]

    shapes = [(rows, cols), (1, 1)][: len(grid.views)]
    cells = [cells_of(lines(size[0], x, n), lines(size[1], y, m)) for m, n in shapes]
    return grid_of(size, list(zip(grid.views, cells, strict=True)), len(grid.boxes))


def thumbnail_and_tiles(vlm, visual: dict, size: tuple[int, int]) -> Grid:
    """Ovis2: the whole picture on one tile, then, if more than one, squashed onto rows x cols."""
    vision, images = vlm.model.config.vision_config, vlm.processor.image_processor
    each = tuple(math.ceil(count / vision.hidden_stride) for count in patches(vlm, visual))
    rows, cols = map(int, images(Image.new("RGB", size))["grids"][0])
    count, first = rows * cols, each[0] * each[1]
    expect(vlm, "tiles", len(visual["pixel_values"]), count + (count > 1))
    if count == 1:
        return tiled(size, 1, 1, each)
    grid = tiled(size, rows, cols, each)
    views = [(grid.views[0] + first, grid.cells), whole(size, each)]
    return grid_of(size, views, (count + 1) * first)


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
