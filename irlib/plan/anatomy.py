"""A model's parts and what a picture costs in each, read from a model on the meta device.

A matrix costs one multiply-add an element and token, so that what must be known of a family is how
many tokens go through its vision tower and its projector: one function each in `VIEWS`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from torch import nn
from transformers.image_processing_utils import select_best_resolution
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import get_optimal_tiled_canvas
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from irlib.plan.costs import Shape


@dataclass(frozen=True, kw_only=True)
class Views:
    """How a model sees a picture: `count` views of `patches` patches, a class token among them.

    `tokens` stand in the prompt, `projected` go through the projector.
    """

    count: int
    patches: int
    tokens: int
    projected: int


def shape_of(model: nn.Module, images: dict, size: tuple[int, int], *, words: int) -> tuple:
    """The `costs.Shape` of a model, and the tokens of a picture of `size` (width, height) in it.

    `model` and `images` are those of `skeleton`; `words` is how many tokens of the question
    a Q-Former reads. Raises `ValueError` for a family whose pictures are not counted here.

    >>> from irlib.plan.skeleton import skeleton
    >>> model, _, images = skeleton("mini-llava")
    >>> shape, tokens = shape_of(model, images, (288, 288), words=0)
    >>> shape.n_layers, tokens
    (12, 64)
    """
    config = model.config
    if config.model_type not in VIEWS:
        raise ValueError(
            f"asked what a picture costs in a model of the family {config.model_type!r}; counted "
            f"are {', '.join(VIEWS)}; leave it out of the plan, or add how it sees a picture to "
            "VIEWS in anatomy.py"
        )
    views, text = VIEWS[config.model_type](config, images, size), config.get_text_config()
    decoder, head = model.get_decoder(), model.get_output_embeddings()
    size_of_head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    shape = Shape(
        n_layers=len(decoder.layers),
        layer=_elements(decoder.layers[0]),
        head=head.weight.numel(),
        hidden=text.hidden_size,
        inner=text.intermediate_size,
        queries=text.num_attention_heads * size_of_head,
        kv=2 * text.num_key_value_heads * size_of_head,
        picture=_tower(model, views) + _projector(model, views, words),
        weights=sum(weight.numel() * weight.itemsize for weight in model.parameters()),
        itemsize=head.weight.itemsize,
    )
    return shape, views.tokens


def _square(config, images, size) -> Views:
    """LLaVA-1.5 and Shikra: one view, a token a patch."""
    patches = _side(config) ** 2
    return Views(count=1, patches=patches + 1, tokens=patches, projected=patches)


def _tiles(config, images, size) -> Views:
    """LLaVA-1.6: the whole picture and tiles of it, unpadded, each row ended by a newline."""
    (width, height), side, tile = size, _side(config), config.vision_config.image_size
    tall, wide = select_best_resolution((height, width), config.image_grid_pinpoints)
    rows, cols = tall // tile * side, wide // tile * side
    count, every = 1 + tall * wide // tile**2, side**2 + rows * cols
    if width / height > cols / rows:
        rows -= 2 * ((rows - int(round(height * cols / width, 7))) // 2)
    else:
        cols -= 2 * ((cols - int(round(width * rows / height, 7))) // 2)
    tokens = side**2 + rows * (cols + 1)
    return Views(count=count, patches=side**2 + 1, tokens=tokens, projected=every)


def _queries(config, images, size) -> Views:
    """InstructBLIP: one view, a fixed number of queries."""
    tokens = config.num_query_tokens
    return Views(count=1, patches=_side(config) ** 2 + 1, tokens=tokens, projected=tokens)


def _canvas(config, images, size) -> Views:
    """InternVL: squashed onto the best grid of tiles, and one of the whole if there are more."""
    tile, count = np.broadcast_to(config.vision_config.image_size, 2).tolist(), 1
    if images.get("crop_to_patches", True):  # the processor's default, whatever its config says
        limits = images.get("min_patches", 1), images.get("max_patches", 12)
        cols, rows = get_optimal_tiled_canvas(size[::-1], tuple(tile), *limits)
        count = rows * cols + (rows * cols > 1)
    tokens = count * int(_side(config) * config.downsample_ratio) ** 2
    return Views(count=count, patches=_side(config) ** 2 + 1, tokens=tokens, projected=tokens)


def _own_resolution(config, images, size) -> Views:
    """Qwen2-VL: about the picture's own resolution, `merge` x `merge` patches a token."""
    vision, limits = config.vision_config, images.get("size") or {}
    merge, patch = vision.spatial_merge_size, vision.patch_size
    height, width = smart_resize(
        size[1],
        size[0],
        factor=patch * merge,
        min_pixels=images.get("min_pixels") or limits["shortest_edge"],
        max_pixels=images.get("max_pixels") or limits["longest_edge"],
    )
    patches = height // patch * (width // patch)
    tokens = patches // merge**2
    return Views(count=1, patches=patches, tokens=tokens, projected=tokens)


VIEWS: MappingProxyType[str, Callable] = MappingProxyType({
    "llava": _square,
    "llava_next": _tiles,
    "instructblip": _queries,
    "internvl": _canvas,
    "qwen2_vl": _own_resolution,
})  # fmt: skip


def _side(config) -> int:
    """Patches along the side of a square view."""
    vision = config.vision_config
    sizes = (np.broadcast_to(value, 2)[0] for value in (vision.image_size, vision.patch_size))
    return int(next(sizes) // next(sizes))


def _tower(model, views) -> int:
    """Operations of the vision tower: its matrices, its patches' filters, and attention."""
    vision = model.config.vision_config
    width = getattr(vision, "embed_dim", None) or vision.hidden_size
    tower = _part(model, "vision_tower", "vision_model", "visual")
    elements = _elements(tower) - _elements(getattr(tower, "merger", None))
    pairs = 4 * width * views.patches * vision.num_hidden_layers
    return views.count * views.patches * (2 * elements + pairs)


def _projector(model, views, words) -> int:
    """Operations between vision tower and decoder."""
    if hasattr(model, "qformer"):
        return _qformer(model, views, words)
    tower = _part(model, "vision_tower", "vision_model", "visual")
    part = getattr(tower, "merger", None) or _part(model, "multi_modal_projector")
    return 2 * _elements(part) * views.projected


def _qformer(model, views, words) -> int:
    """Operations of the Q-Former, in which queries and the question's `words` have own MLPs."""
    queries, total = views.tokens, 2 * _elements(model.language_projection) * views.tokens
    width = model.config.qformer_config.hidden_size
    for layer in model.qformer.encoder.layer:
        both = queries + words
        total += 2 * _elements(layer.attention) * both + 4 * width * both**2
        total += 2 * (_elements(layer.intermediate) + _elements(layer.output)) * words
        total += 2 * (_elements(layer.intermediate_query) + _elements(layer.output_query)) * queries
        if layer.has_cross_attention:
            attention = layer.crossattention
            seen = attention.attention.key.weight.numel() + attention.attention.value.weight.numel()
            total += 2 * (_elements(attention) - seen) * queries + 2 * seen * views.patches
            total += 4 * width * queries * views.patches
    return total


def _part(model, *names) -> nn.Module:
    """The first of these parts that the model has."""
    holders = [model, getattr(model, "model", model)]
    return next(getattr(h, name) for name in names for h in holders if hasattr(h, name))


def _elements(part: nn.Module | None) -> int:
    """Elements of all matrices and filters in a part."""
    kinds = nn.Linear, nn.Conv2d, nn.Conv3d
    modules = part.modules() if part is not None else ()
    return sum(math.prod(m.weight.shape) for m in modules if isinstance(m, kinds))
