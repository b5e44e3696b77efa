"""States of one run in another: a hook of its own as oracle, and every layer at once against it."""

from contextlib import ExitStack
from dataclasses import replace

import families
import pytest
import torch
from conftest import hooks_on, noise_picture, wide_none_high

from irlib import patch, truncate
from irlib.hooks.hooks import edit
from irlib.interventions import answers_by_layer, patched_answers, patched_logits
from irlib.interventions.edges import segments_of

CLOSE = 2e-5  # of the logits' standard deviation, as in test_staircase: sums in another order

every_family = pytest.mark.parametrize("name", list(families.FAMILIES))
SEGMENTS = ("system", "image", "question", "answer")
LAYERS = [0, 2, 3, 4]  # of four


@pytest.fixture
def two():
    """A wide and a high picture; questions and limits of different length."""
    return wide_none_high(7, 1, 4)[::2]


@pytest.fixture
def twins(two):
    """The same questions about other pictures of the same sizes, in words of the same number."""
    return [
        replace(one, image=noise_picture(*one.image.size, seed=7 + place))
        for place, one in enumerate(two)
    ]


def asked_otherwise(samples):
    """The same pictures, the prompts said backwards: as many tokens in the segments, but others."""
    return [replace(one, prompt=one.prompt.replace("red", "cat")) for one in samples]


@torch.no_grad()
def naive(vlm, inputs, donor, segment, layer):
    """Oracle: logits after the prompts, by hooks of torch's own on that one layer."""
    module, there = vlm.decoder.layers[layer], segments_of(donor)[segment]
    here, seen = segments_of(inputs)[segment], {}
    with ExitStack() as stack:
        take = lambda _, args: seen.update(states=args[0].clone())  # noqa: E731
        stack.callback(module.register_forward_pre_hook(take).remove)
        vlm.forward(donor)
    with ExitStack() as stack:

        def give(_, args):
            states = args[0].clone()
            for row in range(len(states)):
                states[row, here[row]] = seen["states"][row, there[row]]
            return (states, *args[1:])

        stack.callback(module.register_forward_pre_hook(give).remove)
        return vlm.forward(inputs)[:, inputs.length - 1]


@families.every_way
def test_logits_equal_those_of_a_hook_at_one_layer(model_of, two, twins, name, attention):
    vlm = model_of(name, attention)
    inputs, donor = (vlm.encode(vlm.prepare(some)) for some in (two, twins))
    untouched = vlm.forward(inputs)[:, -1].detach()
    for segment in SEGMENTS if attention == "sdpa" else ("image", "answer"):
        if not segments_of(inputs)[segment].any(1).all():
            assert segment == "system"  # a picture that stands before all words has none
            continue
        found = patched_logits(vlm, inputs, donor, segment=segment, layers=LAYERS)
        for layer, logits in zip(LAYERS, found, strict=True):
            wanted = naive(vlm, inputs, donor, segment, layer) if layer < 4 else untouched
            assert (logits - wanted).abs().max() <= CLOSE * wanted.std(), (segment, layer)
            if layer < 4:
                with torch.no_grad(), patch(vlm, inputs, donor, segment=segment, layer=layer):
                    inside = vlm.forward(inputs)[:, -1]
                assert (inside - wanted).abs().max() <= CLOSE * wanted.std(), (segment, layer)
    moved = (found[1] - untouched).abs().max()  # its row knows the other picture by layer 2
    assert moved > 100 * CLOSE
    assert hooks_on(vlm.decoder) == 0


@every_family
def test_answers_and_their_numbers_equal_those_of_one_run_a_layer(model_of, two, twins, name):
    vlm = model_of(name)
    inputs, donor = (vlm.encode(vlm.prepare(some)) for some in (two, twins))
    untouched = vlm.answer(inputs)
    whole = inputs.followed_by(untouched)
    found = patched_answers(vlm, inputs, donor, layers=LAYERS, logprob=True)
    for layer in LAYERS[:-1]:
        with torch.no_grad(), patch(vlm, inputs, donor, layer=layer):
            said, chances = vlm.answer(inputs), vlm.forward(whole).double().log_softmax(-1)
        assert [ids.tolist() for ids in found[layer].ids] == [ids.tolist() for ids in said.ids]
        for row, ids in enumerate(untouched.ids):
            at = torch.arange(len(ids)) + inputs.length - 1
            wanted = chances[row, at, ids].sum().item()
            assert found[layer].logprob[row] == pytest.approx(wanted, abs=1e-3)
    assert found[4].texts == untouched.texts


@pytest.mark.parametrize("name", [n for n in families.FAMILIES if "qwen3" not in n])
def test_the_donors_image_before_layer_0_is_the_donors_picture(model_of, two, twins, name):
    vlm = model_of(name)
    inputs, donor = (vlm.encode(vlm.prepare(some)) for some in (two, twins))
    found = patched_logits(vlm, inputs, donor, layers=[0])[0]
    wanted = vlm.forward(donor)[:, -1].detach()
    assert (found - wanted).abs().max() <= CLOSE * wanted.std()


def test_every_segment_but_the_words_that_differ_restores_nothing(tiny_llava, two):
    inputs, donor = (tiny_llava.prepare(some) for some in (two, asked_otherwise(two)))
    assert inputs.length == donor.length
    image = patched_logits(tiny_llava, inputs, donor, layers=[0])[0]
    own = tiny_llava.forward(inputs)[:, -1]
    assert (image - own).abs().max() <= CLOSE * own.std()  # the pictures are the same
    words = patched_logits(tiny_llava, inputs, donor, segment="question", layers=[0])[0]
    wanted = tiny_llava.forward(donor)[:, -1]
    assert (words - wanted).abs().max() <= CLOSE * wanted.std()


def test_a_donor_of_one_row_is_everybodys(tiny_llava, two, twins):
    inputs = tiny_llava.prepare([two[0], replace(two[0], prompt="What?")])
    donor, both = (tiny_llava.prepare(some) for some in (twins[0], [twins[0]] * 2))
    found, wanted = (
        patched_logits(tiny_llava, inputs, one, layers=[1, 3]) for one in (donor, both)
    )
    assert torch.equal(found, wanted)


def test_several_layers_are_each_given_the_donors_states(tiny_llava, two, twins):
    inputs, donor = tiny_llava.prepare(two), tiny_llava.prepare(twins)
    every = range(tiny_llava.n_layers)
    with torch.no_grad(), patch(tiny_llava, inputs, donor, segment="answer", layer=every):
        found = tiny_llava.forward(inputs)[:, -1]
    with torch.no_grad(), patch(tiny_llava, inputs, donor, segment="answer", layer=3):
        wanted = tiny_llava.forward(inputs)[:, -1]
    assert torch.equal(found, wanted)  # the last of them decides


def test_rows_that_are_taken_get_their_own_donors_states(tiny_llava, two, twins):
    inputs, donor = tiny_llava.prepare(two), tiny_llava.prepare(twins)
    with torch.no_grad(), patch(tiny_llava, inputs, donor, layer=1):
        both = tiny_llava.forward(inputs)[:, -1]
        second = tiny_llava.forward(inputs.take([1]))[:, -1]
    assert (second - both[1:]).abs().max() <= CLOSE * both.std()


def test_with_hooks_on_the_model_each_layer_is_a_run(tiny_llava, two, twins):
    inputs, donor = tiny_llava.prepare(two), tiny_llava.prepare(twins)
    wanted = patched_logits(tiny_llava, inputs, donor, layers=[1])
    same = {0: tiny_llava.decoder.layers[0]}
    with edit(same, lambda _, output: output):
        found = patched_logits(tiny_llava, inputs, donor, layers=[1])
    assert (found - wanted).abs().max() <= CLOSE * wanted.std()


def test_truncation_is_what_it_was_beside_it(tiny_llava, two):
    inputs = tiny_llava.prepare(two)
    found = answers_by_layer(tiny_llava, inputs, layers=[1])
    with truncate(tiny_llava, inputs, layer=1):
        assert tiny_llava.answer(inputs).texts == found[1].texts


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"segment": "picture"}, "no such segment"),
        ({"layer": 4}, "layer"),
        ({"layer": -1}, "layer"),
        ({"layer": 0.5}, "layer"),
        ({"layer": []}, "layer"),
        ({"donor": "three"}, "a donor of 3"),
        ({"donor": "longer", "segment": "question"}, "positions and"),
        ({"donor": "larger"}, "positions and"),
        ({"donor": "none"}, "and 0 in the donor"),
        ({"donor": "text"}, "vlm.prepare"),
    ],
)
def test_what_cannot_be_patched_is_refused(family, two, text_sample, options, words):
    vlm = family("qwen2_vl")  # its pictures have as many tokens as they are large
    donors = {
        "three": vlm.prepare([*two, two[0]]),
        "longer": vlm.prepare([replace(one, prompt=one.prompt + " Or not?") for one in two]),
        "larger": vlm.prepare([replace(one, image=noise_picture(300, 200, seed=3)) for one in two]),
        "none": vlm.prepare([text_sample] * 2),
        "text": "a picture of a cat",
    }
    inputs = vlm.prepare(two)
    options = {"layer": 0, "donor": "same"} | options
    donor = donors.get(options.pop("donor"), inputs)
    with pytest.raises((ValueError, TypeError), match=words), patch(vlm, inputs, donor, **options):
        pass
    assert hooks_on(vlm.decoder) == 0


def test_a_patch_in_a_patch_is_refused_and_the_first_goes_on(tiny_llava, two, twins):
    inputs, donor = tiny_llava.prepare(two), tiny_llava.prepare(twins)
    with torch.no_grad(), patch(tiny_llava, inputs, donor, layer=0):
        before = tiny_llava.forward(inputs)[:, -1]
        with (
            pytest.raises(ValueError, match="inside another patch"),
            patch(tiny_llava, inputs, inputs.take([1, 0]), segment="answer", layer=3),
        ):
            pass
        assert torch.equal(tiny_llava.forward(inputs)[:, -1], before)
    with patch(tiny_llava, inputs, donor, layer=0):  # it is over
        pass


def test_equal_rows_with_other_donors_are_refused_in_a_block_and_exact_at_once(
    tiny_llava, two, twins
):
    inputs, donor = tiny_llava.prepare([two[0]] * 2), tiny_llava.prepare([two[0], twins[0]])
    with (
        pytest.raises(ValueError, match="their donors are not"),
        patch(tiny_llava, inputs, donor, layer=1),
    ):
        pass
    found = patched_logits(tiny_llava, inputs, donor, layers=[1])[0]
    for row in (0, 1):
        one = [some.take([row]) for some in (inputs, donor)]
        wanted = naive(tiny_llava, *one, "image", 1)[0]
        assert (found[row] - wanted).abs().max() <= CLOSE * wanted.std()


def test_pictures_cut_into_other_rows_and_columns_are_refused(family, two):
    vlm = family("qwen2_vl")
    wide, high = (
        vlm.prepare(replace(two[0], image=noise_picture(*size, seed=1)))
        for size in ((112, 448), (448, 112))
    )
    assert wide.spans.image.sum() == high.spans.image.sum()
    with pytest.raises(ValueError, match="same proportions"):
        patched_logits(vlm, wide, high, layers=[0])
    patched_logits(vlm, wide, high, segment="question", layers=[0])


def test_other_inputs_in_the_block_are_refused(tiny_llava, two, twins):
    inputs, donor = tiny_llava.prepare(two), tiny_llava.prepare(twins)
    with (
        pytest.raises(ValueError, match="other tokens or another picture"),
        patch(tiny_llava, inputs, donor, layer=0),
    ):
        tiny_llava.forward(donor)
