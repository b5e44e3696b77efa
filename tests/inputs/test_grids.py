import copy
from dataclasses import replace

import families
import numpy as np
import pytest
import torch
from conftest import make_sample, noise_picture, randomise
from PIL import Image

from irlib.inputs.grids import Grid, cells_of, crop_grid, grid_of
from irlib.models.layouts import pooled
from irlib.models.loading import load
from irlib.tasks.pictures import open_picture


@pytest.fixture(scope="module")
def local_llava(tiny_llava):
    """The tiny model with the vision tower's mixing of patches cut: a feature sees its patch."""
    model = copy.deepcopy(tiny_llava.model)
    for name, weight in model.named_parameters():
        if "vision" in name and "self_attn.out_proj" in name:
            weight.zero_()
    return type(tiny_llava)("local", model, tiny_llava.processor, tiny_llava.family)


def moved_most(vlm, before, after):
    """The image token whose vision feature differs most between two pictures."""
    features = [
        vlm.model.get_image_features(vlm.prepare(make_sample(p)).batch["pixel_values"])
        for p in (before, after)
    ]
    a, b = (torch.cat(list(f.pooler_output)) for f in features)
    return int((a - b).norm(dim=-1).argmax())


@pytest.fixture(scope="module")
def moved(local_llava):
    """For two pictures: their grid, and the token that moves most for a block in each cell."""
    found = []
    for size in [(60, 40), (40, 70)]:  # LLaVA-1.5 sees the middle square of either
        picture = noise_picture(*size, seed=5)
        grid = local_llava.prepare(make_sample(picture)).grid
        tokens = {}
        for x0, y0, x1, y1 in grid.boxes.round().astype(int):
            pixels = np.array(picture)
            block = pixels[y0 + 3 : y1 - 2, x0 + 3 : x1 - 2]
            block[:] = 255 - block
            token = moved_most(local_llava, picture, Image.fromarray(pixels))
            tokens[(x0 + x1) / 2, (y0 + y1) / 2] = token
        found.append((grid, tokens))
    return found


def hits(grid, tokens, layout):
    """Share of blocks that lie in the cell where `layout` puts the token that moves most."""
    found = []
    for (x, y), token in tokens.items():
        row, col = np.argwhere(layout == token)[0]
        x0, y0, x1, y1 = grid.boxes[grid.views[0][row, col]]
        found.append(x0 <= x < x1 and y0 <= y < y1)
    return np.mean(found)


@pytest.mark.parametrize("picture", [0, 1])
def test_changed_block_moves_the_token_whose_cell_covers_it(moved, picture):
    grid, tokens = moved[picture]
    assert hits(grid, tokens, grid.views[0]) == 1


@pytest.mark.parametrize("picture", [0, 1])
@pytest.mark.parametrize(
    "wrong", [np.transpose, np.flipud, np.fliplr], ids=["transposed", "upside down", "mirrored"]
)
def test_wrong_layouts_fail_the_same_check(moved, picture, wrong):
    grid, tokens = moved[picture]
    assert hits(grid, tokens, wrong(grid.views[0])) <= 0.25  # a transposed map keeps its diagonal


@pytest.mark.parametrize("size", [(60, 40), (40, 70), (64, 64), (250, 101)])
def test_boxes_are_where_the_processor_takes_its_patches_from(tiny_llava, size):
    """Oracle: the picture's own coordinates as colours, read back from the processed pixels."""
    width, height = size
    coordinates = np.zeros((height, width, 3), np.uint8)
    coordinates[..., 0] = np.arange(width)
    coordinates[..., 1] = np.arange(height)[:, None]
    inputs = tiny_llava.prepare(make_sample(Image.fromarray(coordinates)))
    processor = tiny_llava.processor.image_processor
    mean, std = (
        torch.tensor(x)[:, None, None] for x in (processor.image_mean, processor.image_std)
    )
    seen = (inputs.batch["pixel_values"][0] * std + mean)[:2] * 255
    patches = seen.reshape(2, 4, 7, 4, 7).mean((2, 4)).reshape(2, 16).T.numpy()
    boxes = inputs.grid.boxes
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2 - 0.5  # a pixel's colour is that of its centre
    inner = [5, 6, 9, 10]  # bicubic resizing bends the coordinates at the picture's edge
    assert np.allclose(patches[inner], centres[inner], atol=0.5)
    assert np.allclose(patches, centres, atol=0.04 * max(size))


def test_centre_crop_leaves_the_sides_out(tiny_llava):
    wide = tiny_llava.prepare(make_sample(noise_picture(60, 40, seed=0))).grid
    assert wide.boxes.min(0).tolist()[:2] == [10, 0]
    assert wide.boxes.max(0).tolist()[2:] == [50, 40]
    high = tiny_llava.prepare(make_sample(noise_picture(40, 80, seed=0))).grid
    assert high.boxes.min(0).tolist()[:2] == [0, 20]
    assert high.boxes.max(0).tolist()[2:] == [40, 60]


@pytest.mark.parametrize("turned", [False, True], ids=["wide", "high"])
@pytest.mark.parametrize("size", [(60, 41), (41, 23), (100, 57), (1000, 301), (29, 28), (64, 64)])
def test_the_resized_edge_is_cut_to_whole_pixels_as_the_processor_cuts_it(tiny_llava, size, turned):
    """60 x 41 becomes 40.98 x 28 pixels: 40, and not 41, so that the crop leaves out 6 on the left.

    Oracle: how large the processor itself makes the picture, and what its crop takes of it.
    """
    size = size[::-1] if turned else size
    images = tiny_llava.processor.image_processor
    made = images(noise_picture(*size, seed=0), do_center_crop=False, return_tensors="np")
    height, width = made["pixel_values"].shape[-2:]
    boxes = tiny_llava.prepare(make_sample(noise_picture(*size, seed=0))).grid.boxes
    left, top = (width - 28) // 2, (height - 28) // 2
    cell = (7 * size[0] / width, 7 * size[1] / height)
    start = (left * size[0] / width, top * size[1] / height)
    assert np.allclose(boxes[0], [*start, start[0] + cell[0], start[1] + cell[1]])
    assert np.allclose(boxes[-1, :2], [start[0] + 3 * cell[0], start[1] + 3 * cell[1]])
    ramp = np.zeros((1, 3, height, width), np.float32) + np.arange(width)  # as wide as resized
    cropped = images.center_crop(ramp[0], size=images.crop_size)
    assert cropped[0, 0, 0] == left


@pytest.mark.parametrize("size", [(101, 40), (100, 33), (40, 101), (97, 24)])
def test_the_last_crop_of_a_side_that_does_not_divide_is_narrower(family, size):
    """Oracle: the crops that Gemma 3's processor makes by pan and scan."""
    vlm = family("gemma3")  # its image processor alone: transformers' Gemma 3 asks for no crops
    settings = {
        "pan_and_scan_min_crop_size": 10, "pan_and_scan_max_num_crops": 4,
        "pan_and_scan_min_ratio_to_activate": 1.2,
    }  # fmt: skip
    images = vlm.processor.image_processor
    picture = noise_picture(*size, seed=0)
    pixels = np.asarray(picture).transpose(2, 0, 1)
    crops = [crop.shape[-2:] for crop in images.pan_and_scan(pixels, **settings)]
    longer = int(size[1] > size[0])  # the axis that is cut
    sides = [shape[1 - longer] for shape in crops]
    assert len(set(sides)) == 2  # one is narrower
    made = images(picture, do_pan_and_scan=True, return_tensors="pt", **settings)
    assert len(made["pixel_values"]) == 1 + len(sides)
    grid = pooled(vlm, made, size)
    for number, side in enumerate(sides):
        boxes = grid.boxes[16 * (number + 1) : 16 * (number + 2)]
        assert np.isclose(boxes[:, longer].min(), sum(sides[:number]))
        assert np.isclose(boxes[:, longer + 2].max(), sum(sides[: number + 1]))
        assert np.allclose(boxes[:, longer + 2] - boxes[:, longer], side / 4)


@pytest.mark.parametrize(
    ("most", "shrunk"), [(5, False), (4, True), (6, False)], ids=["1.095", "1.22", "1"]
)
def test_tiles_are_shrunk_only_where_there_are_a_tenth_too_many(tmp_path, most, shrunk):
    """8 x 12 tokens where 80 are allowed: a ratio of 1.095, which is let pass, as by the model."""
    tiny, cap = families.llava_onevision(), f"anyres_max_{most}"
    pinpoints = [[56, 84]]
    tiny.processor.vision_aspect_ratio = cap
    images = type(tiny.processor.image_processor)
    tiny.processor.image_processor = images(
        size={"height": 28, "width": 28}, image_grid_pinpoints=pinpoints
    )
    config = tiny.config | {"image_grid_pinpoints": pinpoints, "vision_aspect_ratio": cap}
    families.save(
        "llava_onevision", tmp_path / "o", randomise=randomise, tiny=replace(tiny, config=config)
    )
    vlm = load(tmp_path / "o", device="cpu")
    inputs = vlm.prepare(make_sample(noise_picture(84, 56, seed=0)))
    assert vlm.forward(inputs).isfinite().all()  # which counts the features itself
    rows, cols = inputs.grid.shape
    assert ((rows, cols) == (8, 12)) is not shrunk
    assert len(inputs.grid.boxes) == 16 + rows * (cols + 1)


def test_crop_larger_than_the_picture_reaches_beyond_it():
    grid = crop_grid((20, 20), shape=(1, 1), crop=(28, 28))
    assert grid.boxes.tolist() == [[-4, -4, 24, 24]]


def test_lay_puts_tokens_row_by_row():
    grid = crop_grid((40, 20), shape=(2, 3), resize={"height": 20, "width": 30})
    assert grid.lay(np.arange(12).reshape(2, 6))[1].tolist() == [[6, 7, 8], [9, 10, 11]]


def test_cover_equals_counting_fine_pixels():
    grid = crop_grid((80, 40), shape=(4, 4), resize={"shortest_edge": 40}, crop=(40, 40))
    boxes = np.array([[25, 5, 47, 33], [40, 0, 90, 12], [30, 10, 35, 15]])
    fine = np.zeros((40, 80), bool)
    for x0, y0, x1, y1 in boxes:
        fine[y0:y1, x0:x1] = True
    counted = fine[:, 20:60].reshape(4, 10, 4, 10).mean((1, 3))
    assert np.allclose(grid.cover(boxes), counted)


def test_spread_gives_a_value_to_each_pixel_and_none_off_the_grid():
    grid = crop_grid((80, 40), shape=(2, 2), resize={"shortest_edge": 40}, crop=(40, 40))
    drawn = grid.spread(np.ones((2, 2)))
    assert drawn.shape == (40, 80)
    assert (drawn[:, 20:60] == 1).all()
    assert (drawn[:, :20] == 0).all()


def test_spread_keeps_a_cell_even_unless_asked_to_smooth():
    heat = np.arange(6.0).reshape(2, 3)
    grid = crop_grid((90, 60), shape=(2, 3), resize={"height": 20, "width": 30})
    assert np.array_equal(grid.spread(heat), heat.repeat(30, 0).repeat(30, 1))
    assert len(np.unique(grid.spread(heat, smooth=True))) > 6


def two_views():
    """A picture of 40 x 20 seen whole in 1 x 2 tokens, and in 2 x 4 with a mark at row ends."""
    fine = cells_of(np.linspace(0, 40, 5), np.linspace(0, 20, 3))
    coarse = cells_of([0, 20, 40], [0, 20])
    index = 2 + np.arange(10).reshape(2, 5)[:, :4]
    return grid_of((40, 20), [(index, fine), (np.array([[0, 1]]), coarse)], 12)


def test_views_are_averaged_by_area_and_the_finest_can_be_had_alone():
    grid = two_views()
    values = np.array([10.0, 20.0, 0, 1, 2, 3, 99, 4, 5, 6, 7, 99])
    assert grid.lay(values, views="finest").tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert grid.lay(values).tolist() == [[5, 5.5, 11, 11.5], [7, 7.5, 13, 13.5]]
    assert np.flatnonzero(~grid.placed).tolist() == [6, 11]
    assert np.isnan(grid.boxes[[6, 11]]).all()


def test_a_coarse_cell_across_fine_ones_is_divided_by_area():
    fine = cells_of([0, 10, 20, 30], [0, 10])
    coarse = cells_of([0, 15, 30], [0, 10])
    grid = grid_of((30, 10), [(np.array([[0, 1, 2]]), fine), (np.array([[3, 4]]), coarse)], 5)
    assert grid.lay(np.array([0, 0, 0, 2.0, 6.0])).tolist() == [[1, 2, 3]]


def test_cells_that_only_the_finest_view_has_keep_its_value():
    fine, coarse = cells_of([-10, 0, 10], [0, 10]), cells_of([0, 10], [0, 10])
    grid = grid_of((10, 10), [(np.array([[0, 1]]), fine), (np.array([[2]]), coarse)], 3)
    assert grid.lay(np.array([4.0, 4.0, 8.0])).tolist() == [[4, 6]]


def test_layers_are_laid_at_once_and_keep_their_type():
    values = np.random.default_rng(0).random((3, 12)).astype(np.float32)
    laid = two_views().lay(values)
    assert laid.dtype == np.float32
    assert np.array_equal(laid[1], two_views().lay(values[1]))


def test_values_without_a_place_go_through_weights():
    grid = Grid((20, 10), np.full((3, 4), np.nan), (), cells_of([0, 10, 20], [0, 10]))
    with pytest.raises(ValueError, match=r"tokens without a place.*weights first"):
        grid.lay(np.ones(3))
    through = grid.through(np.array([[0.5, 0.5], [1, 0], [0, 0.25]]))  # [token, cell]
    assert through.lay(np.array([2.0, 3.0, 4.0])).tolist() == [[4, 2]]


def test_unknown_views_are_refused():
    with pytest.raises(ValueError, match=r"views 'coarse'.*use one of \('mean', 'finest'\)"):
        two_views().lay(np.zeros(12), views="coarse")


def test_padding_to_a_square_moves_the_cells():
    grid = crop_grid((40, 20), shape=(2, 2), resize={"shortest_edge": 28}, square=True)
    assert grid.boxes.tolist() == [[0, -10, 20, 10], [20, -10, 40, 10], [0, 10, 20, 30],
                                   [20, 10, 40, 30]]  # fmt: skip


def test_tokens_before_the_patches_lie_on_no_cell():
    grid = crop_grid((20, 20), shape=(1, 2), first=1)
    assert grid.placed.tolist() == [False, True, True]
    assert grid.lay(np.array([9, 1, 2])).tolist() == [[1, 2]]


def test_missing_picture_is_named(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"asked for the picture .*nowhere.png.*no such file"
    ):
        open_picture(tmp_path / "nowhere.png")


def test_broken_picture_is_named(tmp_path):
    noise_picture(60, 40, seed=0).save(tmp_path / "whole.png")
    half = (tmp_path / "whole.png").read_bytes()[:2000]
    (tmp_path / "half.png").write_bytes(half)
    (tmp_path / "text.png").write_text("no picture")
    for name in ("half.png", "text.png"):
        with pytest.raises(ValueError, match=rf"asked for the picture .*{name}.*does not open"):
            open_picture(tmp_path / name)
    with pytest.raises(ValueError, match=r"does not open as one"):
        open_picture(tmp_path)
    with pytest.raises(ValueError, match=r"does not open as one"):
        open_picture(3)


def test_two_pictures_are_refused():
    with pytest.raises(ValueError, match="asked for one picture, found 2; this takes one"):
        open_picture([noise_picture(8, 8, seed=0)] * 2)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_any_mode_becomes_rgb(mode):
    assert open_picture(noise_picture(8, 8, seed=0).convert(mode)).mode == "RGB"


def test_picture_turned_by_exif_is_put_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by 90 degrees
    noise_picture(60, 40, seed=0).save(tmp_path / "turned.jpg", exif=exif)
    assert open_picture(tmp_path / "turned.jpg").size == (40, 60)
