"""Twins: what patched states restore, against runs inside `patch`, and what is left out."""

import logging
from dataclasses import replace

import pandas as pd
import pytest
import torch
from conftest import make_sample, noise_picture

from irlib import load, load_task, patch, truncate
from irlib.evidence import estimate, mean_effect, restoration
from irlib.store import root


@pytest.fixture(scope="module")
def mini():
    return load("mini-llava")


@pytest.fixture(scope="module")
def pairs():
    tables = [load_task(root() / f"data/pairs/{kind}.parquet") for kind in ("presence", "chains")]
    return [pair for rows in tables for pair in restoration.twins(rows, n=2)]


def test_every_cell_is_what_a_run_inside_patch_says(mini, pairs):
    table = restoration.restoration(mini, pairs, layers=[0, 3, 8])
    assert len(table) == len(pairs) * 2 * 3 * 4
    for row in table.iloc[::5].itertuples():
        pair = next(pair for pair in pairs if row.sample in (one.key for one in pair))
        own, other = sorted(pair, key=lambda one: one.key != row.sample)
        inputs, donor = mini.prepare(own), mini.prepare(other)
        first, second = (mini.answer(one).ids[0][0] for one in (inputs, donor))
        with torch.no_grad():
            ahead = [mini.forward(one)[0, -1] for one in (inputs, donor)]
            if row.segment == "hidden":
                with truncate(mini, inputs, layer=row.layer):
                    ahead.append(mini.forward(inputs)[0, -1])
            else:
                with patch(mini, inputs, donor, segment=row.segment, layer=row.layer):
                    ahead.append(mini.forward(inputs)[0, -1])
        low, high, here = ((one[second] - one[first]).item() for one in ahead)
        assert row.restored == pytest.approx((here - low) / (high - low), abs=1e-4)
        assert row.flipped == (ahead[2].argmax() == second)
        assert row.changed == (ahead[2].argmax() != first)


def test_the_image_before_layer_0_brings_all_and_the_last_row_nothing(mini, pairs):
    table = restoration.restoration(mini, pairs, layers=[0]).groupby("segment")["restored"]
    assert table.min()["image"] == pytest.approx(1, abs=1e-3)
    assert table.max()["answer"] == pytest.approx(0, abs=1e-3)


def test_a_pair_given_both_ways_is_one_and_one_pair_will_do(mini, pairs):
    both = restoration.restoration(mini, [pairs[0], pairs[0][::-1]], layers=[0])
    one = restoration.restoration(mini, pairs[0], layers=[0])
    assert set(restoration.by_layer(both)["n"]) == {1}
    wanted = restoration.by_layer(one).drop(columns=["low", "high"])
    assert restoration.by_layer(both).drop(columns=["low", "high"]).equals(wanted)


def test_twins_are_two_of_a_name(pairs):
    every = [sample for pair in pairs[:2] for sample in pair]
    assert restoration.twins(every[::-1]) == pairs[:2]
    with pytest.raises(ValueError, match="without the other"):
        restoration.twins(every[:3])
    with pytest.raises(ValueError, match="without the other"):
        restoration.twins([*every, every[0]])
    with pytest.raises(ValueError, match="found 2; ask for fewer"):
        restoration.twins(every, n=3)


def test_wrong_answers_are_left_out_and_named(mini, pairs, caplog):
    one, other = pairs[0]
    upside_down = [(replace(one, reference=other.reference), other)]
    with caplog.at_level(logging.WARNING):
        assert restoration.restoration(mini, upside_down, layers=[0]).empty
    assert f"wrong about {one.key}; left out" in caplog.text


@pytest.mark.parametrize("which", ["none", "prompt", "bare", "layer"])
def test_what_are_no_twins_is_refused(tiny_llava, which):
    one = replace(make_sample(noise_picture(60, 40, seed=0)), task="own", key="1-a",
                  reference={"answers": ["no"]})  # fmt: skip
    other = replace(one, key="1-b", image=noise_picture(60, 40, seed=1))
    given = {
        "none": [], "prompt": [(one, replace(other, prompt="What?"))],
        "bare": [(one, replace(other, image=None))],
    }  # fmt: skip
    options = {"layers": [9]} if which == "layer" else {}
    words = {"none": "no pair", "layer": "layers"}
    with pytest.raises(ValueError, match=words.get(which, "more than its pictures")):
        restoration.restoration(tiny_llava, given.get(which, [(one, other)]), **options)


def test_a_pair_is_one_number_for_both_its_sides():
    told = {
        "picture": ["p", "p", "q", "q"], "task": "own", "segment": "image", "layer": 0,
        "restored": [0.0, 0.5, 1.0, 1.0], "flipped": [0, 1, 1, 1], "changed": [1, 1, 1, 1],
    }  # fmt: skip
    table = restoration.by_layer(pd.DataFrame(told)).set_index("measure")
    assert table["value"].to_dict() == {"flipped": 0.75, "changed": 1.0, "restored": 0.625}
    assert set(table["n"]) == {2}
    flipped, moved = estimate([0.5, 1.0], within=(0, 1)), mean_effect(pd.Series([0.25, 1.0]))
    assert table.loc["flipped", ["low", "high"]].tolist() == [flipped.low, flipped.high]
    assert table.loc["restored", ["low", "high"]].tolist() == [moved.low, moved.high]
