"""Maps lie where the picture is: a block is changed, and the token that moves covers it.

The vision tower's mixing of patches is cut, so that a feature depends on its own patches alone.
"""

import copy

import families
import numpy as np
import pytest
import torch
from conftest import make_sample, noise_picture
from PIL import Image

from irlib.models.families import FAMILIES

SIZES = [(170, 85), (93, 124), (131, 131)]  # 2:1, 3:4 and square, none a multiple of a patch
BLOCKS = 20  # a picture
MIXING = (  # the layers through which a vision tower's attention is added
    "self_attn.out_proj", "attn.proj", "attention.projection", "self_attn.projection",
    "attention.projection_layer", "attention.out_proj", "self_attn.o_proj", "attention.o_proj",
)  # fmt: skip
WRONG = {"transposed": np.transpose, "upside down": np.flipud, "mirrored": np.fliplr}
# near a border a block moves the tokens on both sides alike, part of a cell on each: a patch half
# way between two centres (GOT-OCR), or one of the patches whose mean a token is (Gemma 4)
BETWEEN = {"got_ocr2": 1 / 8, "gemma4": 1 / 8}
WITH_A_GRID = [name for name, (kind, _) in families.FAMILIES.items() if not FAMILIES[kind].bridge]


@pytest.fixture(scope="module", params=WITH_A_GRID)
def local(request, family):
    """A family's tiny model whose vision features see their own patches alone."""
    vlm = family(request.param)
    model, cut = copy.deepcopy(vlm.model), 0
    for name, weight in model.named_parameters():
        tower = "vision" in name or "visual" in name
        if weight.ndim == 4 and "neck" in name:  # a filter over neighbours: its middle is left
            edge = torch.ones(weight.shape[2:]).bool()
            edge[edge.shape[0] // 2, edge.shape[1] // 2] = False
            weight.data.masked_fill_(edge, 0)
        if tower and any(part in name for part in MIXING):
            weight.data.zero_()
            cut += 1
    assert cut >= 4  # weights and biases of at least two layers
    return type(vlm)(request.param, model, vlm.processor, vlm.family)


@pytest.fixture(scope="module")
def moved(local):
    """For each changed block: its centre, the picture's grid, and how far each token moved."""
    found, draw = [], np.random.default_rng(0)
    for size in SIZES:
        picture = noise_picture(*size, seed=5)
        before, grid = features(local, picture)
        for x, y in draw.uniform(0.05, 0.95, (BLOCKS, 2)) * size:
            pixels = np.array(picture)
            block = pixels[max(0, int(y) - 2) : int(y) + 3, max(0, int(x) - 2) : int(x) + 3]
            block[:] = 255 - block
            block[2:-2, 2:-2] = (255, 0, 0)
            after, _ = features(local, Image.fromarray(pixels))
            if between(grid, x, y, BETWEEN.get(local.name, 0)):
                continue
            found.append(((int(x) + 0.5, int(y) + 0.5), grid, (after - before).norm(dim=-1)))
    return found


def between(grid, x, y, part):
    """Whether a place is in the outermost `part` of its cell's width or height."""
    x0, y0, x1, y1 = np.moveaxis(grid.cells[:, :], -1, 0)
    held = (x0 <= x) & (x < x1) & (y0 <= y) & (y < y1)
    steps = ((x - x0) / (x1 - x0))[held], ((y - y0) / (y1 - y0))[held]
    return any((np.minimum(step, 1 - step) < part).any() for step in steps)


def features(vlm, picture):
    """Vision features `[token, channel]` of a picture, and its grid."""
    encoded = vlm.encode(vlm.prepare(make_sample(picture)))
    return encoded.visual[0]["features"].tokens, encoded.grid


def steps_off(moved, change=lambda view: view):
    """For each block and view: rows and columns between the cell that covers it and the one that
    moves most, when the view is laid out in another way."""
    found = []
    for (x, y), grid, distance in moved:
        for view in grid.views:
            cells = grid.boxes[view]
            inside = (cells[..., 0] <= x) & (x < cells[..., 2])
            inside &= (cells[..., 1] <= y) & (y < cells[..., 3])
            if not inside.any():  # outside of what the model sees
                continue
            told = change(distance.numpy()[view])
            if told.shape != view.shape:  # a transposed map is as a map read column by column
                told = told.reshape(view.shape)
            at = np.unravel_index(told.argmax(), told.shape)
            found.append(np.abs(np.argwhere(inside)[0] - at).max())
    return np.array(found)


def test_changed_block_moves_the_token_whose_cell_covers_it(moved):
    off = steps_off(moved)
    assert len(off) >= 30
    assert (off == 0).mean() >= 0.9
    assert off.max() <= 1


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_layouts_fail_the_same_check(moved, wrong):
    off = steps_off(moved, WRONG[wrong])
    assert (off == 0).mean() < 0.5
    assert off.max() > 1


OFF_THE_GRID = (
    "llava_next",
    "llava_next_video",
    "llava_onevision",
)  # families with tokens that end a row


def test_tokens_off_the_grid_do_not_move_and_stand_where_rows_end(moved, local):
    off = [distance.numpy()[~grid.placed] for _, grid, distance in moved]
    assert any(len(values) for values in off) == (local.name in OFF_THE_GRID)
    assert all((values == 0).all() for values in off)


def test_views_come_finest_first(moved):
    for _, grid, _ in moved:
        areas = [np.nanmean(np.prod(grid.boxes[v][..., 2:] - grid.boxes[v][..., :2], -1))
                 for v in grid.views]  # fmt: skip
        assert areas == sorted(areas)
