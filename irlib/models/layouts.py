"""How each family's processor cuts a picture, and with it where its image tokens lie.

Every layout is `(vlm, visual, size) -> Grid`, of one picture of `size` (width, height) in pixels;
`visual` are its tensors as the processor made them. How many image tokens there are follows from
the model's config and these tensors alone, so that a processor that writes another number into the
prompt is found out.
"""

import math

import numpy as np

from irlib.inputs.grids import Grid, cells_of, crop_grid, grid_of
from irlib.models.family import CLIP, selected


def cropped(vlm, visual: dict, size: tuple[int, int]) -> Grid:
    """LLaVA-1.5: resized by the shortest edge, centre-cropped; one token a patch.

    A picture may be padded to a square first, and squashed instead of cropped.
    """
    config, processor = vlm.model.config, vlm.processor.image_processor
    height, width = visual["pixel_values"].shape[-2:]
    has_class = config.vision_config.model_type == CLIP
    return crop_grid(
        size,
        shape=patches(vlm, visual),
        resize=_set(processor.size) if processor.do_resize else None,
        crop=(height, width) if getattr(processor, "do_center_crop", False) else None,
        square=bool(getattr(processor, "do_pad", False)),
        first=int(has_class and selected(config) == "full"),
    )


def padded(vlm, visual: dict, size: tuple[int, int]) -> Grid:
    """DeepSeek-VL: the longer side brought to the tower's, the shorter padded on both sides."""
    (rows, cols), processor = patches(vlm, visual), vlm.processor.image_processor
    side = visual["pixel_values"].shape[-1]
    new = [max(round(length * (side / max(size))), processor.min_size) for length in size]
    x, y = (
        (np.linspace(0, side, count + 1) - (side - drawn) // 2) * length / drawn
        for length, drawn, count in zip(size, new, (cols, rows), strict=True)
    )
    index = np.arange(rows * cols).reshape(rows, cols)
    return grid_of(size, [(index, cells_of(x, y))], rows * cols)


def own_resolution(vlm, visual: dict, size: tuple[int, int]) -> Grid:
    """Qwen-VL: the picture at about its own resolution, `merge` x `merge` patches a token."""
    _, rows, cols = visual["image_grid_thw"][0].tolist()
    vision, processor = vlm.model.config.vision_config, vlm.processor.image_processor
    merge = vision.spatial_merge_size
    cut = (processor.patch_size, processor.temporal_patch_size, processor.merge_size)
    expect(vlm, "patch sizes", cut, (vision.patch_size, vision.temporal_patch_size, merge))
    return tiled(size, 1, 1, (rows // merge, cols // merge))


def averaged(vlm, visual: dict, size: tuple[int, int]) -> Grid:
    """Gemma 4: at about its own proportions, the mean of `pool` x `pool` patches a token."""
    vision, processor = vlm.model.config.vision_config, vlm.processor.image_processor
    pool, cut = vision.pooling_kernel_size, (processor.patch_size, processor.pooling_kernel_size)
    expect(vlm, "patch sizes", cut, (vision.patch_size, pool))
    cols, rows = (visual["image_position_ids"][0].amax(0) + 1).tolist()
    return tiled(size, 1, 1, (rows // pool, cols // pool))


def broken_rows(vlm, visual: dict, size: tuple[int, int]) -> Grid:
    """Mistral 3: the picture at about its own resolution; what ends its rows is no image token."""
    config, processor = vlm.model.config, vlm.processor
    told = (processor.patch_size, processor.spatial_merge_size)
    expect(vlm, "patch sizes", told, (config.vision_config.patch_size, config.spatial_merge_size))
    rows, cols = (length // math.prod(told) for length in visual["image_sizes"][0].tolist())
    return tiled(size, 1, 1, (rows, cols))


def pooled(vlm, visual: dict, size: tuple[int, int]) -> Grid:
    """Gemma 3: squashed to a square and pooled; pan and scan adds crops along the longer side."""
    side = math.isqrt(vlm.model.config.mm_tokens_per_image)
    patches(vlm, visual)
    views, crops, start = [whole(size, (side, side))], len(visual["pixel_values"]) - 1, side**2
    if crops:
        step = math.ceil(max(size) / crops)
        edges = [0.0]
        for crop in range(crops):
            stop = min((crop + 1) * step, max(size))
            edges += np.linspace(crop * step, stop, side + 1)[1:].tolist()
        even = np.linspace(0, min(size), side + 1)
        index = start + np.arange(crops * side**2).reshape(crops, side, side)
        if size[0] >= size[1]:
            views.append((np.hstack(list(index)), cells_of(edges, even)))
        else:
            views.append((np.vstack(list(index)), cells_of(even, edges)))
    return grid_of(size, finest_first(views), start * (1 + crops))


def squashed(vlm, visual: dict, size: tuple[int, int]) -> Grid:
    """PaliGemma: squashed to the tower's square, one token a patch."""
    return tiled(size, 1, 1, patches(vlm, visual))


def queries(vlm, visual: dict, size: tuple[int, int]) -> Grid:
    """InstructBLIP: query tokens have no place; a map goes through the Q-Former to the patches."""
    _, cells = whole(size, patches(vlm, visual))
    nowhere = np.full((vlm.model.config.num_query_tokens, 4), np.nan)
    length = visual["qformer_input_ids"].shape[1]
    if length > (most := vlm.model.config.qformer_config.max_position_embeddings):
        raise ValueError(
            f"asked to prepare a question of {length} tokens for the Q-Former, found that it reads "
            f"at most {most}; shorten the question"
        )
    return Grid(size, nowhere, (), cells, note="maps go through the Q-Former's cross-attention.")


def tiled(size, rows, cols, each, *, whole_last=False) -> Grid:
    """Tiles in reading order, `each` (rows, cols) tokens in each, and then the whole picture."""
    count = each[0] * each[1]
    index = np.arange(rows * cols * count).reshape(rows, cols, *each)
    index = index.transpose(0, 2, 1, 3).reshape(rows * each[0], cols * each[1])
    views = [(index, whole(size, index.shape)[1])]
    if whole_last:
        views.append(whole(size, each, first=rows * cols * count))
    return grid_of(size, views, (rows * cols + whole_last) * count)


def whole(size, shape, *, first=0):
    """A view of the whole picture, squashed onto rows x cols tokens."""
    x, y = np.linspace(0, size[0], shape[1] + 1), np.linspace(0, size[1], shape[0] + 1)
    return first + np.arange(shape[0] * shape[1]).reshape(shape), cells_of(x, y)


def finest_first(views):
    """Views that hold tokens (a very wide picture's tiles may all be cut off), the finest first."""
    kept = [view for view in views if view[0].size]
    return sorted(kept, key=lambda view: view[0].size, reverse=True)


def patches(vlm, visual) -> tuple[int, int]:
    """Rows and columns of patches of a vision tower with pictures of one size."""
    vision = vlm.model.config.vision_config
    tall, wide = np.broadcast_to(vision.image_size, 2).tolist()
    expect(vlm, "pixels", tuple(visual["pixel_values"].shape[-2:]), (tall, wide))
    high, broad = np.broadcast_to(vision.patch_size, 2).tolist()
    return tall // high, wide // broad


def _set(size) -> dict[str, int]:
    """A processor's size without the entries that are not set."""
    return {key: value for key, value in dict(size).items() if value is not None}


def expect(vlm, what, found, expected):
    if found != expected:
        raise ValueError(
            f"asked to prepare a picture, found {found} {what} from the processor where the config "
            f"of {vlm.name} says {expected}; model and processor disagree: take both from one "
            "folder"
        )
