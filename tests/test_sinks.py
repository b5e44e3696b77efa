"""Attention sinks: planted ones are found, by a loop; told apart in shares and hollow on maps."""

from dataclasses import replace

import families
import numpy as np
import pytest
import torch
from conftest import eager_attention, hooks_on, make_sample, noise_picture

from irlib import attention_flow, attention_map, llava_cam
from irlib.attention import sink_tokens
from irlib.hooks.hooks import edit

CHANNEL, TAU = 5, 4.0  # 64 channels reach 8 at most


def planted(vlm, inputs, tokens):
    """Inside the block these positions of row 0, and each row's first, have a massive channel."""
    first = inputs.text["attention_mask"].int().argmax(1)

    def add(_, args, kwargs):
        states = args[0].clone()
        states[torch.arange(len(states)), first, CHANNEL] = 1e3
        states[0, tokens, CHANNEL] = -1e3
        return (states, *args[1:]), kwargs

    return edit({1: vlm.decoder.layers[1]}, add, at="input")


@pytest.mark.parametrize("name", list(families.FAMILIES))
def test_planted_states_are_found_where_they_are_planted(family, samples, name):
    vlm = family(name)
    inputs = vlm.prepare(samples)
    tokens = inputs.spans.image[0].nonzero().flatten()[[0, 2]]
    with planted(vlm, inputs, tokens):
        found = sink_tokens(vlm, inputs, tau=TAU)
    first = inputs.text["attention_mask"].int().argmax(1)
    wanted = torch.zeros_like(found[1])
    wanted[torch.arange(2), first] = True
    wanted[0, tokens] = True
    assert torch.equal(found[1], wanted)
    assert not found[0].any() or bool(found[0][torch.arange(2), first].all())
    assert hooks_on(vlm.decoder) == 0


def test_states_are_told_by_a_loop(tiny_llava, samples):
    inputs, seen = tiny_llava.prepare(samples), {}

    def keep(layer, args, kwargs):
        seen[layer] = args[0]
        return args, kwargs

    tau = 2.0  # low enough that a random model has some
    with edit(dict(enumerate(tiny_llava.decoder.layers)), keep, at="input"):
        found = sink_tokens(tiny_llava, inputs, tau=tau)
    real = inputs.text["attention_mask"].bool()
    for layer, states in seen.items():
        for row in range(2):
            size = states[row].abs() / states[row].square().mean(-1, keepdim=True).sqrt()
            (first, *_) = real[row].nonzero().flatten().tolist()
            channels = (size[first] >= tau).nonzero().flatten()
            for position in range(inputs.length):
                is_one = bool((size[position, channels] >= tau).any()) and bool(real[row, position])
                assert found[layer, row, position] == is_one
    assert found.any()


def test_mass_is_the_least_over_questions(tiny_llava, picture):
    asked = [make_sample(picture, question, key) for key, question in
             (("a", "What is it?"), ("b", "Is there a red cat in the picture?"))]  # fmt: skip
    inputs = tiny_llava.prepare(asked)
    weights = eager_attention(tiny_llava, inputs).mean(2)[:, :, -1]  # [layer, row, key]
    even = 1 / inputs.text["attention_mask"].sum(1)
    least = torch.stack([weights[:, row, inputs.spans.image[row]] / even[row] for row in (0, 1)])
    times = least.amin(0).median().item() + 1e-3  # some are, some are not
    found = sink_tokens(tiny_llava, inputs, rule="mass", times=times)
    for row in (0, 1):
        mine = found[:, row, inputs.spans.image[row]]
        assert torch.equal(mine, least.amin(0) >= times)
        assert not found[:, row, ~inputs.spans.image[row]].any()
    assert 0 < mine.sum() < mine.numel()


def test_shares_of_sinks_are_taken_from_their_segments(tiny_llava, samples):
    inputs = tiny_llava.prepare(samples)
    answer = tiny_llava.answer(inputs)
    sinks = torch.zeros(2, inputs.length, dtype=torch.bool)
    for row in range(2):
        sinks[row, inputs.spans.image[row].nonzero().flatten()[:3]] = True
        sinks[row, inputs.spans.user[row].nonzero().flatten()[:1]] = True
    whole = attention_flow(tiny_llava, inputs, answer)
    apart = attention_flow(tiny_llava, inputs, answer, sinks=sinks)
    layered = attention_flow(tiny_llava, inputs, answer, sinks=sinks.expand(4, -1, -1))
    assert apart.equals(layered)
    names = ["sample", "layer", "segment"]
    apart, whole = (table.set_index(names)[["share", "uniform"]] for table in (apart, whole))
    for segment in ("system", "image", "user"):
        both = sum(apart.xs(name, level=2) for name in (segment, f"{segment} sink"))
        assert np.allclose(both, whole.xs(segment, level=2), atol=1e-6)
    assert (apart.xs("image sink", level=2)["share"] > 0).all()
    assert (apart.xs("system sink", level=2)["share"] == 0).all()


def test_heads_are_those_of_eager_attention_and_their_mean_is_the_share(tiny_llava, samples):
    inputs = tiny_llava.prepare(samples)
    answer = tiny_llava.answer(inputs)
    table = attention_flow(tiny_llava, inputs, answer, by_head=True)
    whole = inputs.followed_by(answer)
    eager = eager_attention(tiny_llava, whole)  # [layer, row, head, query, key]
    image = table[table["segment"] == "image"]
    for row, sample in enumerate(samples):
        asking, keys = whole.spans.predicting[row], whole.spans.image[row]
        wanted = eager[:, row][:, :, asking][..., keys].sum(-1).mean(-1)
        mine = image[image["sample"] == sample.key].pivot(
            index="layer", columns="head", values="share"
        )
        assert np.allclose(mine, wanted, atol=1e-6)
    names = ["sample", "layer", "segment"]
    mean = table.groupby(names)["share"].mean()
    plain = attention_flow(tiny_llava, inputs, answer).set_index(names)["share"]
    assert np.allclose(mean.loc[plain.index], plain, atol=1e-6)


def test_a_matrix_a_head_is_eagers(tiny_llava, sample):
    inputs = tiny_llava.prepare(sample)
    answer = tiny_llava.answer(inputs)
    maps = attention_map(tiny_llava, inputs, answer, by_head=True, layers=[0, 2])
    eager = eager_attention(tiny_llava, inputs.followed_by(answer))[[0, 2], 0]
    assert maps.weights.shape == tuple(eager.shape)
    assert np.allclose(maps.weights, eager, atol=1e-6)
    parts = attention_map(tiny_llava, inputs, answer, by_head=True, layers=[0, 2], memory=1e-5)
    assert np.allclose(parts.weights, maps.weights, atol=1e-6)


@pytest.mark.parametrize("name", ["idefics3", "llava", "mistral3"])
def test_whatever_is_marked_shares_sum_to_one(family, samples, name):
    vlm = family(name)
    inputs = vlm.prepare(samples)
    marked = torch.rand(2, inputs.length, generator=torch.Generator().manual_seed(0)) < 0.5
    marked |= inputs.spans.between
    table = attention_flow(vlm, inputs, vlm.answer(inputs), sinks=marked)
    sums = table.groupby(["sample", "layer"])[["share", "uniform"]].sum()
    assert np.allclose(sums, 1, atol=1e-5)


@pytest.mark.parametrize("name", ["llava", "llava_next", "internvl"])
def test_hollow_cells_are_outlines_and_scale_nothing(family, sample, name):
    vlm = family(name)
    inputs = vlm.prepare(sample)
    maps = llava_cam(vlm, inputs, vlm.answer(inputs))
    finest = maps.grid.views[0]
    hottest = np.unravel_index(maps.heat[1].argmax(), maps.heat[1].shape)
    tokens = np.zeros(len(maps.grid.boxes), bool)
    tokens[finest[hottest]] = True
    less = maps.without(tokens)
    assert less.hollow[hottest]
    assert less.normalised()[1][hottest] == 0
    assert less.normalised()[1].max() == 1
    assert np.array_equal(less.heat, maps.heat)
    assert not np.array_equal(less.overlay(1), maps.overlay(1))
    x0, y0 = maps.grid.cells[hottest][:2].round().astype(int)
    assert less.overlay(1)[y0, x0].tolist() == [255, 255, 255]
    again = np.roll(tokens, 1)
    both = less.without(again).hollow
    assert np.array_equal(both, less.hollow | maps.without(again).hollow)
    none = maps.without(np.zeros_like(tokens))
    assert np.array_equal(none.overlay(1), maps.overlay(1))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rule": "sum"}, "no such rule"),
        ({"tau": 0}, "tau"),
        ({"tau": 8.1}, "64 channels, which reach 8.0 at most"),
        ({"rule": "mass"}, "one question about a picture"),
        ({"rule": "mass", "times": -1}, "times"),
    ],
)
def test_what_cannot_be_told_is_refused(tiny_llava, sample, options, words):
    inputs = tiny_llava.prepare([sample, replace(sample, key="same question again")])
    with pytest.raises(ValueError, match=words):
        sink_tokens(tiny_llava, inputs, **options)


def test_wrong_masks_are_refused(tiny_llava, family, sample):
    inputs = tiny_llava.prepare(sample)
    answer = tiny_llava.answer(inputs)
    with pytest.raises(ValueError, match="tell sinks apart"):
        attention_flow(tiny_llava, inputs, answer, sinks=torch.zeros(1, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="tell sinks apart"):
        attention_flow(tiny_llava, inputs, answer, sinks=torch.zeros(1, inputs.length))
    for wrong in (torch.rand(4, 1, inputs.length), torch.zeros(3, 1, inputs.length) > 0):
        with pytest.raises(ValueError, match="tell sinks apart"):
            attention_flow(tiny_llava, inputs, answer, sinks=wrong)
    maps = llava_cam(tiny_llava, inputs, answer)
    with pytest.raises(ValueError, match="one bool a token"):
        maps.without(np.zeros(5, bool))
    queries = family("instructblip")
    inputs = queries.prepare(make_sample(noise_picture(60, 40, seed=0)))
    maps = llava_cam(queries, inputs, queries.answer(inputs))
    with pytest.raises(ValueError, match="without a place"):
        maps.without(np.zeros(len(maps.grid.boxes), bool))
