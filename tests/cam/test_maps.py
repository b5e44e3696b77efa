from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from irlib.cam.maps import Maps
from irlib.inputs.grids import crop_grid
from irlib.tasks.samples import Box, Sample


def make_maps(heat, boxes=(), size=(80, 40)):
    """Maps on a picture of 80 x 40 of which a 2 x 2 grid covers the middle 40 x 40."""
    sample = Sample(
        task="pope", key="a", question="?", prompt="?", image=None, reference={},
        boxes=tuple(Box(label="", x0=x0, y0=y0, x1=x1, y1=y1) for x0, y0, x1, y1 in boxes),
    )  # fmt: skip
    grid = crop_grid(size, shape=(2, 2), resize={"shortest_edge": 40}, crop=(40, 40))
    picture = Image.new("RGB", size, (10, 20, 30))
    heat = np.array(heat, np.float32)
    return Maps(heat=heat, site="block", grid=grid, picture=picture, sample=sample, model="m")


def test_inside_is_the_share_of_heat_weighted_by_overlap():
    # the box holds the upper left cell (20..40, 0..20) and half of the one to its right
    table = make_maps([[[3, 2], [1, 2]]], [(0, 0, 50, 20)]).table()
    assert table.inside.item() == pytest.approx((3 + 2 / 2) / 8)
    assert table.area.item() == pytest.approx(1.5 / 4)  # what an even map would give
    assert (table.hit.item(), table.peak.item()) == (1.0, 3.0)


def test_even_map_is_inside_as_much_as_the_area():
    table = make_maps(np.ones((1, 2, 2)), [(33, 7, 49, 31), (40, 0, 60, 15)]).table()
    assert table.inside.item() == pytest.approx(table.area.item())


def test_overlapping_boxes_count_once():
    one = make_maps([[[3, 2], [1, 2]]], [(20, 0, 45, 30)]).table()
    two = make_maps([[[3, 2], [1, 2]]], [(20, 0, 45, 30), (20, 0, 40, 25)]).table()
    assert one.inside.item() == pytest.approx(two.inside.item())


def test_hit_asks_where_the_centre_of_the_hottest_cell_lies():
    heat = [[[0, 1], [0, 0]]]  # its centre is (50, 10)
    assert make_maps(heat, [(49, 9, 51, 11)]).table().hit.item() == 1.0
    assert make_maps(heat, [(20, 0, 49, 40)]).table().hit.item() == 0.0


def test_map_of_zeros_has_no_place_and_stays_zero():
    maps = make_maps(np.zeros((1, 2, 2)), [(20, 0, 40, 20)])
    assert maps.table()[["inside", "hit"]].isna().all(axis=None)
    assert maps.table().peak.item() == 0
    assert (maps.normalised() == 0).all()
    assert (maps.overlay(0, pale=0) == np.asarray(maps.picture)).all()


def test_sample_without_boxes_has_no_place():
    table = make_maps(np.ones((1, 2, 2))).table()
    assert table[["inside", "area", "hit"]].isna().all(axis=None)
    columns = ["model", "task", "sample", "site", "layer", "inside", "area", "hit", "peak"]
    assert list(table) == columns


def test_each_layer_is_normalised_by_itself_and_heat_stays_raw():
    maps = make_maps([[[3, 2], [1, 2]], [[0, 0], [0, 8]]])
    assert maps.normalised().max((1, 2)).tolist() == [1, 1]
    assert maps.heat.max((1, 2)).tolist() == [3, 8]


def test_overlay_colours_the_hot_cell_and_leaves_what_was_not_seen():
    maps = make_maps([[[0, 0], [0, 1]]])
    shown = maps.overlay(0, pale=0).astype(int)
    assert shown.shape == (40, 80, 3)
    assert (shown[:, :20] == (10, 20, 30)).all()
    assert (shown[:, 60:] == (10, 20, 30)).all()
    change = np.abs(shown - (10, 20, 30)).sum(-1)
    y, x = np.unravel_index(change.argmax(), change.shape)
    assert 20 <= y < 40
    assert 40 <= x < 60


def test_a_paled_picture_is_its_own_grey():
    maps = make_maps(np.zeros((1, 2, 2)))
    grey = np.asarray(maps.picture.convert("L"))[..., None]
    assert (maps.overlay(0, pale=1) == grey).all()


def test_maps_of_some_layers_know_which_they_are():
    heat = np.array([[[1, 0], [0, 0]], [[0, 0], [0, 2]]], np.float32)
    every = make_maps(heat, [(20, 0, 40, 20)])
    some = replace(every, layers=(7, 3))
    assert every.layers == (0, 1)
    assert every.table().layer.tolist() == [0, 1]
    assert some.table().layer.tolist() == [7, 3]
    assert some.table().inside.tolist() == every.table().inside.tolist() == [1.0, 0.0]
    assert np.array_equal(some.overlay(3), every.overlay(1))
    assert not np.array_equal(some.overlay(3), some.overlay(7))
    with pytest.raises(ValueError, match=r"asked for the map of layer 1, found layers \[7, 3\]"):
        some.overlay(1)
