"""Checkpoints of known families with unusual settings: the same checks as for the usual ones."""

import copy
import functools
from dataclasses import replace

import families
import families_two
import numpy as np
import pytest
import torch
import transformers as hf
from conftest import eager_attention, make_sample, noise_picture, randomise, site_of
from test_perturbation import BETWEEN, MIXING, between, features, steps_off

from irlib.cam.cam import llava_cam
from irlib.hooks.hooks import rows
from irlib.interventions.averages import image_means
from irlib.interventions.truncation import truncate
from irlib.models.loading import load


def with_images(tiny, **settings):
    """The same with other settings of the image processor."""
    images = tiny.processor.image_processor
    kind = settings.pop("kind", type(images))
    tiny.processor.image_processor = kind(**images.to_dict() | settings)
    return tiny


def llava_padded():
    return with_images(families.llava(), kind=hf.LlavaImageProcessorPil, do_pad=True)


def llava_with_class():
    tiny = families.llava()
    tiny.processor.vision_feature_select_strategy = "full"
    return replace(tiny, config=tiny.config | {"vision_feature_select_strategy": "full"})


def llava_siglip_mistral():
    """Another tower, another decoder with a window of 12 positions, one key head, tied words."""
    tiny = families.llava()
    tiny.processor.num_additional_image_tokens = 0
    tiny.processor.vision_feature_select_strategy = "full"
    tiny = with_images(
        tiny, kind=hf.SiglipImageProcessorPil, size={"height": 28, "width": 28}, crop_size=None,
        do_center_crop=None,
    )  # fmt: skip
    config = {
        "vision_config": families.SIGLIP | {"image_size": 28}, "tie_word_embeddings": True,
        "vision_feature_select_strategy": "full", "vision_feature_layer": -1,
    }  # fmt: skip
    text = {"sliding_window": 12, "num_key_value_heads": 1, "tie_word_embeddings": True}
    return replace(tiny, config=tiny.config | config, text=text, kind="mistral")


def llava_next_wide():
    pinpoints = [[28, 28], [28, 84], [28, 112], [84, 28]]
    tiny = with_images(families.llava_next(), image_grid_pinpoints=pinpoints)
    return replace(tiny, config=tiny.config | {"image_grid_pinpoints": pinpoints})


def internvl_large_tiles():
    size = {"height": 84, "width": 84}
    tiny = with_images(families.internvl(), size=size, min_patches=2, max_patches=5)
    tiny.processor.image_seq_length = 36
    vision = tiny.config["vision_config"] | {"image_size": [84, 84]}
    return replace(tiny, config=tiny.config | {"vision_config": vision, "image_seq_length": 36})


def internvl_one_tile():
    return with_images(families.internvl(), max_patches=1)


def idefics3_whole():
    return with_images(families.idefics3(), do_image_splitting=False)


def gemma3_pan_and_scan():
    return with_images(
        families.gemma3(), do_pan_and_scan=True, pan_and_scan_min_crop_size=20,
        pan_and_scan_max_num_crops=4, pan_and_scan_min_ratio_to_activate=1.2,
    )  # fmt: skip


def qwen2_vl_pad_is_eos():
    tiny = families.qwen2_vl()
    tiny.processor.tokenizer.pad_token = "</s>"
    return replace(tiny, text=tiny.text | {"num_key_value_heads": 4})


def instructblip_sparse():
    """Cross-attention in every layer but with fewer queries, and no padding token."""
    tiny = families.instructblip()
    tiny.processor.num_query_tokens = 5
    qformer = tiny.config["qformer_config"] | {"cross_attention_frequency": 1}
    return replace(tiny, config=tiny.config | {"qformer_config": qformer, "num_query_tokens": 5})


def cohere2_vision_two_tiles():
    return with_images(families.FAMILIES["cohere2_vision"][1](), max_patches=2)


def aya_vision_one_tile():
    return with_images(families.FAMILIES["aya_vision"][1](), max_patches=1)


def mistral3_unmerged():
    """A token a patch, of small pictures, a window of 12 positions."""
    tiny = with_images(families.FAMILIES["mistral3"][1](), size={"longest_edge": 42})
    tiny.processor.spatial_merge_size = 1
    config = tiny.config | {"spatial_merge_size": 1}
    return replace(tiny, config=config, text=tiny.text | {"sliding_window": 12})


def glm4v_small():
    tiny = families.FAMILIES["glm4v"][1]()
    return with_images(tiny, size={"shortest_edge": 2 * 14 * 14, "longest_edge": 2 * 14 * 14 * 9})


def gemma4_wide():
    """Layers that see all have smaller heads, fewer of them for keys, and values that are keys."""
    tiny = families_two.gemma4()
    text = {"global_head_dim": 8, "num_global_key_value_heads": 1, "attention_k_eq_v": True}
    return replace(tiny, text=tiny.text | text)


UNUSUAL = {
    "gemma4_wide": ("gemma4", gemma4_wide),
    "llava_padded": ("llava", llava_padded),
    "llava_with_class": ("llava", llava_with_class),
    "llava_siglip_mistral": ("llava", llava_siglip_mistral),
    "llava_next_wide": ("llava_next", llava_next_wide),
    "internvl_large_tiles": ("internvl", internvl_large_tiles),
    "internvl_one_tile": ("internvl", internvl_one_tile),
    "idefics3_whole": ("idefics3", idefics3_whole),
    "gemma3_pan_and_scan": ("gemma3", gemma3_pan_and_scan),
    "qwen2_vl_pad_is_eos": ("qwen2_vl", qwen2_vl_pad_is_eos),
    "instructblip_sparse": ("instructblip", instructblip_sparse),
    "cohere2_vision_two_tiles": ("cohere2_vision", cohere2_vision_two_tiles),
    "aya_vision_one_tile": ("aya_vision", aya_vision_one_tile),
    "mistral3_unmerged": ("mistral3", mistral3_unmerged),
    "glm4v_small": ("glm4v", glm4v_small),
}
every = pytest.mark.parametrize("name", list(UNUSUAL))
SIZES = [(200, 90), (93, 124), (30, 20), (240, 30), (60, 5)]


@pytest.fixture(scope="module")
def unusual(tmp_path_factory):
    made = tmp_path_factory.mktemp("unusual")

    @functools.cache
    def get(name):
        family, build = UNUSUAL[name]
        families.save(family, made / name, randomise=randomise, tiny=build())
        return load(str(made / name), device="cpu")

    return get


@every
def test_places_are_right(unusual, name):
    vlm = unusual(name)
    if vlm.family.bridge:
        pytest.skip("its tokens have no place")
    local = type(vlm)(name, copy.deepcopy(vlm.model), vlm.processor, vlm.family)
    for weight_name, weight in local.model.named_parameters():
        if "vision" in weight_name or "visual" in weight_name:
            weight.data *= not any(part in weight_name for part in MIXING)
    moved, draw = [], np.random.default_rng(0)
    for size in SIZES[:2]:
        picture = noise_picture(*size, seed=5)
        before, grid = features(local, picture)
        for x, y in draw.uniform(0.05, 0.95, (16, 2)) * size:
            if between(grid, x, y, BETWEEN.get(UNUSUAL[name][0], 0)):
                continue
            after, _ = features(local, inverted(picture, int(x), int(y)))
            moved.append(((int(x) + 0.5, int(y) + 0.5), grid, (after - before).norm(dim=-1)))
    off = steps_off(moved)
    assert (off == 0).mean() >= 0.85  # fewer blocks than in the proof: one more may straddle a cell
    assert off.max() <= 1


def inverted(picture, x, y):
    """The picture with a block of 5 x 5 pixels around (x, y) changed."""
    block = (max(0, x - 2), max(0, y - 2), x + 3, y + 3)
    part = picture.crop(block).point(lambda value: 255 - value)
    changed = picture.copy()
    changed.paste(part, block[:2])
    changed.putpixel((x, y), (255, 0, 0))
    return changed


@every
def test_instruments_agree_on_pictures_of_all_shapes(unusual, name):
    vlm = unusual(name)
    samples = [make_sample(noise_picture(*size, seed=3), key=str(size)) for size in SIZES]
    samples.append(make_sample(None, key="text"))
    inputs = vlm.prepare(samples)
    answer = vlm.answer(inputs)
    assert vlm.answer(vlm.encode(inputs)).texts == answer.texts
    eager, real = eager_attention(vlm, inputs), inputs.text["attention_mask"].bool()
    with rows(vlm.decoder, None) as seen, torch.no_grad():
        together = vlm.forward(inputs)
    for layer, weights in seen.items():
        gap = (weights - eager[layer]).transpose(1, 2)[real]
        assert gap.abs().max() <= 5e-6  # float32 rounding, as in test_instruments.py
    for row, sample in enumerate(samples):
        one = vlm.prepare(sample)
        with torch.no_grad():
            assert torch.allclose(together[row, -one.length :], vlm.forward(one)[0], atol=1e-4)
        assert torch.equal(vlm.answer(one).ids[0], answer.ids[row])
        if sample.image:
            with truncate(vlm, one, layer=1, keep=2):
                vlm.answer(one)
    pictured = inputs.take(range(len(SIZES)))
    answer = type(answer)(answer.ids[:-1], answer.texts[:-1])
    for maps in llava_cam(vlm, pictured, answer, site=site_of(vlm), noise=0.1, n=2):
        assert maps.heat.shape == (4, *maps.grid.shape)
        assert maps.overlay(0).shape == (*maps.picture.size[::-1], 3)
        assert len(maps.table()) == 4


def test_means_of_layers_with_other_heads_or_without_values_are_refused(unusual):
    vlm = replace(unusual("gemma4_wide"), model=copy.deepcopy(unusual("gemma4_wide").model))
    sample = make_sample(noise_picture(60, 40, seed=0))
    with pytest.raises(
        ValueError, match=r"found no projection v_proj in Gemma4TextAttention; hide"
    ):
        image_means(vlm, sample)
    for layer in vlm.decoder.layers:  # as a checkpoint with values of their own
        if layer.self_attn.v_proj is None:
            layer.self_attn.v_proj = layer.self_attn.k_proj
    with pytest.raises(ValueError, match=r"found some of another width .*8, 32.*; hide"):
        image_means(vlm, sample)
