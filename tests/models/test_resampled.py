"""Pictures that latents read: where the patches lie, crop by crop, and how heat goes to them."""

import copy
import functools
from dataclasses import replace

import families
import families_two
import numpy as np
import pytest
import torch
from conftest import make_sample, noise_picture, randomise
from PIL import Image
from test_perturbation import MIXING

from irlib.cam.cam import llava_cam
from irlib.hooks.hooks import edit
from irlib.models.loading import load
from irlib.models.resampled import READ

SIZES = [(170, 85), (93, 124), (37, 131), (111, 113)]
every = pytest.mark.parametrize("name", ["idefics2", "idefics2_whole", "aria"])


def idefics2_whole():
    tiny = families_two.idefics2()
    images = tiny.processor.image_processor
    tiny.processor.image_processor = type(images)(
        **images.to_dict() | {"do_image_splitting": False}
    )
    return tiny


@pytest.fixture(scope="module")
def model(family, tmp_path_factory):
    @functools.cache
    def get(name):
        if name != "idefics2_whole":
            return family(name)
        folder = tmp_path_factory.mktemp("resampled") / name
        families.save("idefics2", folder, randomise=randomise, tiny=idefics2_whole())
        return load(str(folder), device="cpu")

    return get


def patches(vlm, picture):
    """What the latents read of each crop `[crop, row, col, channel]`, and the picture's grid."""
    seen, inputs = {}, vlm.prepare(make_sample(picture))
    if vlm.model.config.model_type == "aria":
        reader = vlm.model.model.multi_modal_projector
    else:
        reader = vlm.model.model.connector.perceiver_resampler

    def keep(key, args, kwargs):
        seen[key] = args[0] if args else kwargs["context"]
        return args, kwargs

    with edit({"read": reader}, keep, at="input"):
        vlm.encode(inputs)
    wide = inputs.batch["pixel_values"].shape[-1] // vlm.model.config.vision_config.patch_size
    return seen["read"].unflatten(1, (-1, wide)), inputs.grid


@every
@pytest.mark.parametrize("turned", [False, True])  # with rows for columns the check must fail
def test_changed_block_moves_the_patch_that_lies_there_in_every_crop(model, name, turned):
    vlm = model(name)
    local = replace(vlm, model=copy.deepcopy(vlm.model))
    for weight_name, weight in local.model.named_parameters():
        if "vision" in weight_name:
            weight.data *= not any(part in weight_name for part in MIXING)
    off, draw = [], np.random.default_rng(0)
    for size in SIZES:
        picture = noise_picture(*size, seed=5)
        before, grid = patches(local, picture)
        for x, y in draw.integers((0, 0), size, (16, 2)):
            pixels = np.array(picture)
            pixels[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2] = (255, 0, 0)
            after, _ = patches(local, Image.fromarray(pixels))
            for crop, moved in zip(grid.crops, (after - before).norm(dim=-1), strict=True):
                edges = crop.y, crop.x
                at = [
                    np.searchsorted(e, place + 0.5, "right") - 1
                    for e, place in zip(edges, (y, x), strict=True)
                ]
                if any(not 0 <= i < len(e) - 1 for i, e in zip(at, edges, strict=True)):
                    continue  # another quarter's, or cut off
                found = np.unravel_index(int(moved.argmax()), moved.shape)
                off.append(np.abs(np.subtract(found[:: -1 if turned else 1], at)).max())
    off = np.array(off)
    assert len(off) >= 30
    assert ((off == 0).mean() >= 0.9) != turned
    assert (off.max() <= 1) != turned


@every
def test_weights_of_all_patches_come_to_cells_whole(model, name):
    """Were all heat on tokens that read evenly, the map would be even where patches lie."""
    vlm = model(name)
    for size in SIZES:
        grid = vlm.prepare(make_sample(noise_picture(*size, seed=1))).grid
        shapes = [(len(crop.y) + 2, len(crop.x) + 3) for crop in grid.crops]  # with padding
        tokens = len(grid.boxes) // len(grid.crops)
        laid = grid.read([np.ones((tokens, *shape)) for shape in shapes])
        for views in ("mean", "finest"):
            heat = laid.lay(np.ones(len(grid.boxes)), views=views)
            assert np.unique(heat.round(9)).size <= 2  # 0 where no patch reaches
            assert (heat > 0).mean() > 0.6


@every
def test_maps_say_what_they_went_through_and_a_view_alone_is_another(model, name):
    vlm = model(name)
    inputs = vlm.prepare(make_sample(noise_picture(112, 60, seed=0)))
    answer, gaps = vlm.answer(inputs), []
    for sign in (1, -1):
        target = lambda logits, sign=sign: sign * logits.amax(1).sum()  # noqa: E731
        maps = llava_cam(vlm, inputs, answer, target=target)
        alone = llava_cam(vlm, inputs, answer, target=target, views="finest")
        gaps.append(np.abs(maps.heat - alone.heat).max())
        assert maps.grid.note == READ.format("the projector" if name == "aria" else "the resampler")
    assert (max(gaps) > 0) == (name == "idefics2")


def test_bfloat16_weights_of_torchs_own_attention_are_read(family):
    vlm = family("aria")
    vlm = replace(vlm, model=copy.deepcopy(vlm.model).to(torch.bfloat16))
    inputs = vlm.prepare(make_sample(noise_picture(112, 60, seed=0)))
    assert np.isfinite(llava_cam(vlm, inputs, vlm.answer(inputs)).heat).all()


def test_aria_that_splits_pictures_is_refused(family, monkeypatch):
    vlm = family("aria")
    split = {"max_image_size": 980, "split_image": True}
    monkeypatch.setattr(vlm.processor, "images_kwargs", split)
    with pytest.raises(ValueError, match=r"splits pictures .*set split_image to false"):
        vlm.prepare(make_sample(noise_picture(112, 60, seed=0)))
