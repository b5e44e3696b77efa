"""What positions see of each other, as the masks of decoder layers tell it."""

import torch
from torch import Tensor

from irlib.hooks.registry import attention_of


def check_masks(vlm) -> None:
    """Raise `ValueError` where attention takes no mask of all positions by all: flash and flex."""
    name = attention_of(vlm.decoder)
    if "flash" in name or "flex" in name:
        raise ValueError(
            f"asked to change what positions of {vlm.name} see, found the attention {name!r}, which "
            "takes no mask of one's own; call vlm.model.set_attn_implementation('sdpa') first"
        )


def visible(mask: Tensor) -> Tensor:
    """A decoder layer's mask, bool or float, as bool `[row, query, key]`."""
    return mask[:, 0] if mask.dtype == torch.bool else mask[:, 0] > torch.finfo(mask.dtype).min / 2


def look(mask: Tensor | None, row: Tensor, query: Tensor, key: Tensor) -> Tensor:
    """What the positions `query [r, i]` of `row [r]` see of `key [r, j]`: `[r, i, j]`."""
    if mask is None:  # sdpa's shortcut for plain causal attention without padding
        return key[:, None] <= query[..., None]
    seen = visible(mask)
    row, query, key = (x.to(mask.device) for x in (row, query, key))
    return seen[row[:, None, None] * (len(seen) > 1), query[..., None], key[:, None]]
