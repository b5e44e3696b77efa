"""What each miniature is shown of a training picture: pixels as its processor makes them, and what
stands at each of its image tokens."""

import numpy as np
import torch
from torch import Tensor

from data.generate.fitting.pool import Pool
from data.generate.world import draw

MEAN, STD = 0.75, 0.25


def normalised(pixels: np.ndarray) -> Tensor:
    """Return `[picture, channel, y, x]` as the processors normalise it."""
    return (torch.tensor(pixels).permute(0, 3, 1, 2).float() / 255 - MEAN) / STD


def quarters(whole: np.ndarray) -> np.ndarray:
    """Return the four quarters of `[picture, y, x, ...]`, row by row: `[picture, 4, y, x, ...]`."""
    n, side = whole.shape[0], whole.shape[1] // 2
    cut = whole.reshape(n, 2, side, 2, side, *whole.shape[3:]).swapaxes(2, 3)
    return cut.reshape(n, 4, side, side, *whole.shape[3:])


def plain(pool: Pool, at: list[int], side: int) -> dict[str, Tensor]:
    """LLaVA-1.5, Shikra, InstructBLIP: the whole picture."""
    return {"pixel_values": normalised(pool.pixels(at, side))}


def plain_classes(pool: Pool, at: list[int], grid: int) -> np.ndarray:
    """Return the class at each token of one grid, row by row: `[picture, token]`."""
    return pool.labels(at, grid)[..., 0].reshape(len(at), -1)


def _views(pool, at, side):
    tiles = quarters(pool.pixels(at, 2 * side))
    return tiles, pool.pixels(at, side)[:, None]


def next_look(pool: Pool, at: list[int], side: int) -> dict[str, Tensor]:
    """LLaVA-1.6: the whole picture, then its quarters."""
    tiles, whole = _views(pool, at, side)
    pixels = normalised(np.concatenate([whole, tiles], 1).reshape(-1, side, side, 3))
    sizes = torch.full((len(at), 2), draw.SIZE)
    return {"pixel_values": pixels.view(len(at), 5, 3, side, side), "image_sizes": sizes}


def next_classes(pool: Pool, at: list[int], grid: int) -> np.ndarray:
    """The base view's grid, then the fine grid with a newline (no class) behind each row."""
    fine = np.pad(pool.labels(at, 2 * grid)[..., 0], ((0, 0), (0, 0), (0, 1)))
    return np.concatenate([plain_classes(pool, at, grid), fine.reshape(len(at), -1)], 1)


def internvl_look(pool: Pool, at: list[int], side: int) -> dict[str, Tensor]:
    """InternVL: the picture's quarters, then the whole as a thumbnail."""
    tiles, whole = _views(pool, at, side)
    pixels = np.concatenate([tiles, whole], 1).reshape(-1, side, side, 3)
    return {"pixel_values": normalised(pixels)}


def internvl_classes(pool: Pool, at: list[int], grid: int) -> np.ndarray:
    """A tile's tokens see two patches by two; the thumbnail's see too much for one class."""
    tiles = quarters(pool.labels(at, grid)[..., 0]).reshape(len(at), -1)
    return np.pad(tiles, ((0, 0), (0, (grid // 2) ** 2)))


def qwen_look(pool: Pool, at: list[int], side: int, patch: int) -> dict[str, Tensor]:
    """Qwen2-VL: patches as vectors, and how many there are a picture."""
    pixels = qwen_patches(normalised(pool.pixels(at, side)), patch)
    grid = torch.tensor([[1, side // patch, side // patch]]).expand(len(at), -1)
    return {"pixel_values": pixels, "image_grid_thw": grid}


def qwen_patches(pixels: Tensor, patch: int) -> Tensor:
    """Return `[picture x patch, value]`: each 2 x 2 to be merged together, the frame twice."""
    n, half = len(pixels), pixels.shape[-1] // patch // 2
    cut = pixels.view(n, 3, half, 2, patch, half, 2, patch).permute(0, 2, 5, 3, 6, 1, 4, 7)
    cut = cut[:, :, :, :, :, :, None].expand(-1, -1, -1, -1, -1, -1, 2, -1, -1)
    return cut.reshape(n * (2 * half) ** 2, -1)


def merge_order(patches: np.ndarray) -> np.ndarray:
    """Return `[picture, row, column, ...]` as `[picture, patch, ...]`, in the order of Qwen2-VL."""
    n, side = patches.shape[0], patches.shape[1] // 2
    cut = patches.reshape(n, side, 2, side, 2, *patches.shape[3:]).swapaxes(2, 3)
    return cut.reshape(n, -1, *patches.shape[3:])
