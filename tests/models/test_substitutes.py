"""What stands in for classes of transformers that need torchvision, beside their own source."""

import ast
import functools
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import transformers
from conftest import noise_picture
from transformers import AutoImageProcessor

from irlib.models.substitutes import Cohere2VisionImageProcessorPil, covering


def source_of(module: str, *names: str) -> dict:
    """Functions of a module of transformers, and methods, run without importing it."""
    path = Path(transformers.__file__).parent / "models" / f"{module}.py"
    tree = ast.parse(path.read_text())
    found = [one for one in ast.walk(tree) if getattr(one, "name", None) in names]
    assert {one.name for one in found} == set(names)
    space = {"np": np, "lru_cache": functools.lru_cache}
    exec(compile(ast.Module(found, []), module, "exec"), space)  # functions, not what calls them
    return space


@pytest.fixture(scope="module")
def theirs():
    names = ("get_all_supported_aspect_ratios", "get_optimal_tiled_canvas")
    return source_of("cohere2_vision/image_processing_cohere2_vision", *names)[names[1]]


@pytest.mark.parametrize("most", [1, 2, 6, 12])
def test_covering_tiles_are_those_of_transformers(theirs, most):
    sizes = np.random.default_rng(0).integers(1, 3000, (400, 2)).tolist()
    sizes += [(512, 512), (1024, 512), (513, 1), (4000, 4000), (100, 1600)]
    for width, height in sizes:
        wanted = theirs((height, width), (512, 512), 1, most)
        assert covering((width, height), (512, 512), most) == wanted


def test_rows_of_image_tokens_end_as_transformers_ends_them(family):
    processor = family("mistral3").processor
    name = "replace_image_token"
    own = source_of("pixtral/processing_pixtral", name)[name]
    for height, width in [(14, 14), (14, 70), (70, 14), (42, 56)]:
        told = {"image_sizes": [(height, width)]}
        text = processor.replace_image_token(told, image_idx=0)
        assert text == own(SimpleNamespace(**vars(processor)), told, 0)
        assert text.count("[IMG_BREAK]") == height // 14 - 1


def test_tiles_are_cut_in_reading_order_and_the_whole_comes_last():
    processor = Cohere2VisionImageProcessorPil(size={"height": 32, "width": 32}, max_patches=6)
    picture = noise_picture(96, 64, seed=0)
    made = processor(picture, return_tensors="np")
    tiles = made["pixel_values"]
    plain = Cohere2VisionImageProcessorPil(size={"height": 32, "width": 32}, crop_to_patches=False)
    assert len(tiles) == made["num_patches"][0] == 7
    for place in range(6):
        left, top = 32 * (place % 3), 32 * (place // 3)
        part = picture.crop((left, top, left + 32, top + 32))  # 96 x 64 are six tiles as it is
        assert np.allclose(tiles[place], plain(part, return_tensors="np")["pixel_values"][0])
    assert np.allclose(tiles[6], plain(picture, return_tensors="np")["pixel_values"][0])


def test_a_folder_that_names_the_class_for_torchvision_gets_the_other(family_folder):
    made = AutoImageProcessor.from_pretrained(family_folder("cohere2_vision"), backend="pil")
    assert type(made) is Cohere2VisionImageProcessorPil
    assert (made.patch_size, made.max_patches) == (4, 6)
