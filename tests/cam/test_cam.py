import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from captum.attr import LayerGradCam
from conftest import hooks_on, make_sample, noise_picture
from torch import nn

from irlib.attention import attention_flow, attention_map
from irlib.cam.cam import heat_of, llava_cam
from irlib.cam.targets import _tokens_of
from irlib.hooks.hooks import edit
from irlib.inputs.records import Answer

SITES = ["input_norm", "attention", "post_attention", "mlp", "block"]


@pytest.fixture
def asked(tiny_llava, sample):
    inputs = tiny_llava.prepare(sample)
    return inputs, tiny_llava.answer(inputs)


def read_at(vlm, inputs, answer, positions, ids):
    """z as a sum over (position, id) pairs of the teacher-forced logits."""
    logits = vlm.forward(inputs.followed_by(answer))[0]
    return sum(logits[p, i] for p, i in zip(positions, ids, strict=True))


def answer_rows(inputs, answer):
    """Equation (1) as pinned: row S-1+t reads token t."""
    return range(inputs.length - 1, inputs.length - 1 + len(answer.ids[0])), answer.ids[0].tolist()


def separate(vlm, inputs, answer, site, layer, z):
    """Oracle: A and dz/dA `[image token, channel]` by a forward and backward for one layer."""
    kept = {}

    def start(key, output):
        kept["a"] = output.detach().requires_grad_(True)
        return kept["a"]

    with torch.enable_grad(), edit({0: vlm.site(site)[layer]}, start):
        slope = torch.autograd.grad(z(), kept["a"])[0]
    image = inputs.spans.image[0].nonzero().flatten()
    return kept["a"].detach()[0, image], slope[0, image]


def naive(features, slope):
    """Oracle: equation (3) in loops."""
    features, slope = features.tolist(), slope.tolist()
    alpha = [sum(column) / len(slope) for column in zip(*slope, strict=True)]
    heat = [sum(a * x for a, x in zip(alpha, row, strict=True)) for row in features]
    return np.array([max(value, 0.0) for value in heat]).reshape(4, 4)


# float32 sums in another order; heat is around 0.05
CLOSE = {"rtol": 1e-4, "atol": 2e-6}


@pytest.mark.parametrize("site", SITES)
def test_one_backward_equals_a_backward_for_each_layer(tiny_llava, asked, site):
    inputs, answer = asked
    maps = llava_cam(tiny_llava, inputs, answer, site=site)
    for layer in range(4):
        features, slope = separate(
            tiny_llava, inputs, answer, site, layer,
            lambda: read_at(tiny_llava, inputs, answer, *answer_rows(inputs, answer)),
        )  # fmt: skip
        assert np.allclose(maps.heat[layer], naive(features, slope), **CLOSE)
    assert maps.heat.shape == (4, 4, 4)
    assert maps.heat.dtype == np.float32


def naive_by_token(features, slope):
    """Oracle: each token's own slopes times its features, in loops."""
    pairs = zip(features.tolist(), slope.tolist(), strict=True)
    heat = [sum(a * g for a, g in zip(*pair, strict=True)) for pair in pairs]
    return np.array([max(value, 0.0) for value in heat]).reshape(4, 4)


@pytest.mark.parametrize("site", SITES)
def test_token_by_token_heat_equals_a_backward_for_each_layer(tiny_llava, asked, site):
    inputs, answer = asked
    maps = llava_cam(tiny_llava, inputs, answer, site=site, pool="token")
    authors = llava_cam(
        tiny_llava, inputs, answer, site=site, pool="token", relu_grad=True, threshold=0.5
    )
    for layer in range(4):
        features, slope = separate(
            tiny_llava, inputs, answer, site, layer,
            lambda: read_at(tiny_llava, inputs, answer, *answer_rows(inputs, answer)),
        )  # fmt: skip
        assert np.allclose(maps.heat[layer], naive_by_token(features, slope), **CLOSE)
        heat = naive_by_token(features, slope.clamp_min(0))
        heat[heat < 0.5 * heat.max()] = 0
        assert np.allclose(authors.heat[layer], heat, **CLOSE)
    assert maps.pool == "token"
    mean = llava_cam(tiny_llava, inputs, answer, site=site)
    assert mean.pool == "mean"
    assert not np.allclose(maps.heat, mean.heat, rtol=0.1)
    laid = llava_cam(tiny_llava, inputs, answer, site=[site], pool="token")
    assert np.array_equal(laid[site].heat, maps.heat)


def test_token_by_token_heat_is_zero_where_only_a_norm_reads_the_features(tiny_llava, asked):
    """A norm's output is the same for features of any size: along them its slope is zero."""
    inputs, answer = asked
    maps = llava_cam(tiny_llava, inputs, answer, site="block", pool="token")
    assert not maps.heat[-2].any()
    assert maps.heat[-3].any()
    mean = llava_cam(tiny_llava, inputs, answer, site="block")
    assert mean.heat[-2].any()


def test_token_by_token_heat_of_a_padded_batch_with_noise_equals_single_runs(tiny_llava, samples):
    inputs = tiny_llava.prepare(samples)
    answer = tiny_llava.answer(inputs)
    options = {"pool": "token", "noise": 0.1, "n": 2, "seed": 3}
    together = llava_cam(tiny_llava, inputs, answer, **options)
    for row, sample in enumerate(samples):
        alone = llava_cam(tiny_llava, tiny_llava.prepare(sample), answer.take([row]), **options)
        assert np.allclose(together[row].heat, alone.heat, rtol=1e-3, atol=1e-5)
    with pytest.raises(ValueError, match=r"pool='max', found no such; use one of \('mean'"):
        llava_cam(tiny_llava, inputs, answer, pool="max")


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_slope_equals_central_finite_differences(tiny_llava, asked, layer):
    inputs, answer = asked
    model = copy.deepcopy(tiny_llava.model).double()
    vlm = type(tiny_llava)("double", model, tiny_llava.processor, tiny_llava.family)
    visual = {"pixel_values": inputs.batch["pixel_values"].double()}
    inputs = replace(inputs, visual=(visual,))
    image = inputs.spans.image[0].nonzero().flatten()
    direction = torch.randn(16, 64, dtype=torch.double, generator=torch.Generator().manual_seed(0))

    def z(step):
        def push(key, output):
            return output.index_add(1, image, step * direction[None].to(output))

        with edit({0: vlm.site("post_attention")[layer]}, push), torch.no_grad():
            return read_at(vlm, inputs, answer, *answer_rows(inputs, answer))

    _, slope = separate(
        vlm, inputs, answer, "post_attention", layer,
        lambda: read_at(vlm, inputs, answer, *answer_rows(inputs, answer)),
    )  # fmt: skip
    difference = (z(1e-3) - z(-1e-3)) / 2e-3
    # the norms compute in float32 whatever the model's dtype is
    assert torch.isclose((slope * direction).sum(), difference, rtol=0.02)


def test_heat_equals_captums_grad_cam_on_a_toy():
    torch.manual_seed(0)
    features = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.Tanh())
    toy = nn.Sequential(features, nn.Flatten(), nn.Linear(6 * 25, 3))
    picture = torch.randn(1, 1, 5, 5)
    captum = LayerGradCam(toy, features).attribute(picture, target=1, relu_attributions=True)
    a = features(picture).detach().requires_grad_(True)
    slope = torch.autograd.grad(toy[2](toy[1](a))[0, 1], a)[0]
    tokens = [x.detach().flatten(2).transpose(1, 2) for x in (a, slope)]
    assert torch.allclose(heat_of(*tokens, False, None)[0], captum.flatten(), atol=1e-6)


@pytest.mark.parametrize("site", ["attention", "post_attention", "mlp", "block"])
def test_last_layer_is_exactly_zero_behind_the_attention(tiny_llava, asked, site):
    heat = llava_cam(tiny_llava, *asked, site=site).heat
    assert (heat[-1] == 0).all()
    assert heat[0].max() > 0


def test_last_layer_is_not_zero_at_the_input_norm(tiny_llava, asked):
    assert llava_cam(tiny_llava, *asked, site="input_norm").heat[-1].max() > 0


def test_relu_on_gradients_and_threshold_follow_the_authors(tiny_llava, asked):
    inputs, answer = asked
    maps = llava_cam(tiny_llava, inputs, answer, relu_grad=True, threshold=0.5)
    for layer in range(4):
        features, slope = separate(
            tiny_llava, inputs, answer, "post_attention", layer,
            lambda: read_at(tiny_llava, inputs, answer, *answer_rows(inputs, answer)),
        )  # fmt: skip
        heat = naive(features, slope.clamp_min(0))
        heat[heat < 0.5 * heat.max()] = 0
        assert np.allclose(maps.heat[layer], heat, **CLOSE)


@pytest.mark.filterwarnings("ignore:target='authors'")
def test_authors_target_reads_the_rows_after_the_unexpanded_prompt(tiny_llava, asked):
    inputs, answer = asked
    maps = llava_cam(tiny_llava, inputs, answer, target="authors")
    p = inputs.length - 16 + 1
    rows = range(p, p + len(answer.ids[0]))
    for layer in range(4):
        # the authors' forward holds the prompt alone; by causality that changes nothing here
        def z():
            logits = tiny_llava.forward(inputs)[0]
            return sum(logits[r, i] for r, i in zip(rows, answer.ids[0].tolist(), strict=True))

        features, slope = separate(tiny_llava, inputs, answer, "post_attention", layer, z)
        assert np.allclose(maps.heat[layer], naive(features, slope), **CLOSE)


def test_authors_target_gives_image_rows_after_its_last_row_no_gradient(tiny_llava):
    sample = make_sample(noise_picture(40, 40, seed=2))
    short = type(sample)(**(vars(sample) | {"prompt": "What?", "question": "What is it?"}))
    inputs = tiny_llava.prepare(short)
    ids = tiny_llava.answer(inputs).ids[0][:3]
    answer = Answer((ids,), ("",))
    p, image = inputs.length - 15, inputs.spans.image[0].nonzero().flatten()
    assert image[0] <= p
    assert p + 2 < image[-1]
    for layer in range(4):
        _, slope = separate(
            tiny_llava, inputs, answer, "post_attention", layer,
            lambda: read_at(tiny_llava, inputs, answer, range(p, p + 3), ids.tolist()),
        )  # fmt: skip
        assert (slope[image > p + 2] == 0).all()
        assert slope[image <= p + 2].abs().max() > 0
    # layer 3 is the last: with these rows it has a gradient, with the right ones it has none
    ours = llava_cam(tiny_llava, inputs, answer)
    theirs = llava_cam(tiny_llava, inputs, answer, target="authors", relu_grad=True)
    assert ours.heat[-1].max() == 0 < theirs.heat[-1].max()


@pytest.mark.filterwarnings("ignore:target='authors'")
def test_authors_target_shifts_with_left_padding(tiny_llava, samples):
    inputs = tiny_llava.prepare(samples)
    answer = tiny_llava.answer(inputs, max_new_tokens=2)
    together = llava_cam(tiny_llava, inputs, answer, target="authors")
    for row, sample in enumerate(samples):
        one = Answer((answer.ids[row],), ("",))
        alone = llava_cam(tiny_llava, tiny_llava.prepare(sample), one, target="authors")
        assert np.allclose(together[row].heat, alone.heat, rtol=1e-3, atol=1e-5)


def test_authors_target_says_when_its_rows_miss_the_image(tiny_llava, samples):
    inputs = tiny_llava.prepare(
        image=samples[0].image, question="Is there a red cat in the picture? Describe it."
    )
    answer = Answer((torch.arange(300, 308),), ("",))
    with pytest.warns(UserWarning, match=r"8 rows from position .* fall on the image") as said:
        llava_cam(tiny_llava, inputs, answer, target="authors")
    assert said[0].filename == __file__


def test_authors_target_beyond_the_prompt_is_refused(tiny_llava, asked):
    answer = Answer((torch.arange(300, 316),), ("",))
    with pytest.raises(ValueError, match=r"authors' target.*beyond the prompt.*cut the answer"):
        llava_cam(tiny_llava, asked[0], answer, target="authors")


def test_word_target_reads_its_own_tokens_alone(tiny_llava, asked):
    inputs = asked[0]
    ids = tiny_llava.processor.tokenizer("yes no Describe it", add_special_tokens=False).input_ids
    answer = Answer((torch.tensor(ids),), ("yes no Describe it",))
    decode = tiny_llava.processor.tokenizer.decode
    at = [t for t in range(len(ids)) if decode(ids[: t + 1]).strip() == "yes no Describe"]
    assert len(at) == 1  # one token, the last of the word
    word = [t for t in range(len(ids)) if "yes no" in decode(ids[:t]) and t <= at[0]]
    rows, said = [inputs.length - 1 + t for t in word], [ids[t] for t in word]
    maps = llava_cam(tiny_llava, inputs, answer, target="Describe")
    features, slope = separate(
        tiny_llava, inputs, answer, "post_attention", 1,
        lambda: read_at(tiny_llava, inputs, answer, rows, said),
    )  # fmt: skip
    assert np.allclose(maps.heat[1], naive(features, slope), **CLOSE)
    whole = llava_cam(tiny_llava, inputs, answer, target="yes no Describe it")
    assert np.array_equal(whole.heat, llava_cam(tiny_llava, inputs, answer).heat)


def said(vlm, text):
    ids = vlm.processor.tokenizer(text, add_special_tokens=False).input_ids
    return Answer((torch.tensor(ids),), (text,))


@pytest.mark.parametrize(
    ("text", "target", "first"),
    [
        ("no cat, yes cat", "cat", "no cat"),  # said twice: where it is said first
        ("yes yes yes", "yes", "yes"),
        ("no yes no yes", "yes no", "no yes no"),
        ("a redcat is a cat", "cat", "a redcat is a cat"),  # a whole word before a part of one
        ("a redcat is it", "cat", "a redcat"),  # and a part of one where there is no other
        ("no CAT. A cat", "cat", "no CAT"),
        ("is it (a cat)? cat", "(a cat)?", "is it (a cat)?"),
    ],
)
def test_a_target_is_read_where_it_first_stands_as_whole_words(tiny_llava, text, target, first):
    decode, answer = tiny_llava.processor.tokenizer.decode, said(tiny_llava, text)
    chosen = _tokens_of(tiny_llava, answer.ids[0], target)
    ids = answer.ids[0]
    spelled = decode(ids[chosen])
    assert target.lower() in spelled.lower()
    assert chosen == list(range(chosen[0], chosen[-1] + 1))
    before, through = decode(ids[: chosen[0]]), decode(ids[: chosen[-1] + 1])
    assert len(before) <= len(first) - len(target) <= len(first) <= len(through)
    assert through.startswith(first)
    assert target.lower() not in decode(ids[chosen[1:]]).lower()  # no token more than it takes
    assert target.lower() not in decode(ids[chosen[:-1]]).lower()


@pytest.mark.parametrize("target", ["", " ", "\n"])
def test_a_target_of_no_words_is_refused(tiny_llava, asked, target):
    with pytest.raises(ValueError, match=r"asked for the words .* of the answer, found"):
        llava_cam(tiny_llava, *asked, target=target)


def test_word_that_the_answer_does_not_hold_is_refused(tiny_llava, asked):
    with pytest.raises(ValueError, match=r"asked for the words 'zebra' of the answer, found"):
        llava_cam(tiny_llava, *asked, target="zebra")


def test_callable_target_gets_the_logits_that_predict_the_answer(tiny_llava, asked):
    ids = asked[1].ids[0]
    seen = llava_cam(tiny_llava, *asked, target=lambda z: z[torch.arange(len(ids)), ids].sum())
    assert np.allclose(seen.heat, llava_cam(tiny_llava, *asked).heat, rtol=1e-5)


def test_padded_batch_equals_single_runs(tiny_llava, samples):
    inputs = tiny_llava.prepare(samples)
    ids = tiny_llava.answer(inputs).ids
    answer = Answer((ids[0][:2], ids[1]), ("", ""))
    together = llava_cam(tiny_llava, inputs, answer, noise=0.1, n=2)
    for row, sample in enumerate(samples):
        one = Answer((answer.ids[row],), ("",))
        alone = llava_cam(tiny_llava, tiny_llava.prepare(sample), one, noise=0.1, n=2)
        # another mask, another kernel: float32 rounding
        assert np.allclose(together[row].heat, alone.heat, rtol=1e-3, atol=1e-5)
        assert together[row].sample is sample


def test_noise_is_in_pixel_units_before_the_normalisation(tiny_llava, asked, monkeypatch):
    pixels = []
    encode = type(tiny_llava).encode

    def spy(self, inputs):
        pixels.extend(row["pixel_values"] for row in inputs.visual)
        return encode(self, inputs)

    monkeypatch.setattr(type(tiny_llava), "encode", spy)
    llava_cam(tiny_llava, *asked, noise=0.1, n=20)
    std = torch.tensor(tiny_llava.processor.image_processor.image_std)[:, None, None]
    grain = torch.cat([(x - asked[0].batch["pixel_values"]) * std for x in pixels])
    # 20 x 28 x 28 draws a channel: the estimate of 0.1 is within 4 of its standard errors
    error = 0.1 / (2 * 20 * 28 * 28) ** 0.5
    assert torch.allclose(grain.std((0, 2, 3)), torch.tensor(0.1), atol=4 * error)
    assert grain.mean().abs() < 0.003
    assert len({float(x.sum()) for x in pixels}) == 20


def test_noisy_map_is_the_mean_of_raw_maps_of_its_copies(tiny_llava, asked):
    inputs, answer = asked
    std = torch.tensor(tiny_llava.processor.image_processor.image_std)[:, None, None]
    draw, heats = torch.Generator().manual_seed(3), []
    for _ in range(3):
        pixels = inputs.batch["pixel_values"]
        noisy = pixels + 0.2 * torch.randn(pixels.shape[1:], generator=draw) / std
        copied = replace(inputs, visual=({"pixel_values": noisy},))
        heats.append(llava_cam(tiny_llava, copied, answer).heat)
    maps = llava_cam(tiny_llava, inputs, answer, noise=0.2, n=3, seed=3)
    assert np.allclose(maps.heat, np.mean(heats, 0), **CLOSE)
    other = llava_cam(tiny_llava, inputs, answer, noise=0.2, n=3, seed=4)
    assert not np.allclose(maps.heat, other.heat)


def test_inputs_and_model_are_left_as_they_were(tiny_llava, asked):
    before = {key: tensor.clone() for key, tensor in asked[0].batch.items()}
    llava_cam(tiny_llava, *asked, noise=0.1, n=2)
    assert all(torch.equal(asked[0].batch[key], before[key]) for key in before)
    assert hooks_on(tiny_llava.decoder) == 0
    assert not any(weight.requires_grad for weight in tiny_llava.model.parameters())


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_no_hook_is_left_after_an_error_in_the_target(tiny_llava, asked, error):
    def target(logits):
        raise error

    with pytest.raises(error):
        llava_cam(tiny_llava, *asked, target=target)
    assert hooks_on(tiny_llava.decoder) == 0


def test_sample_without_picture_is_refused(tiny_llava, text_sample):
    inputs = tiny_llava.prepare(text_sample)
    with pytest.raises(ValueError, match=r"asked for LLaVA-CAM, found a sample without a picture"):
        llava_cam(tiny_llava, inputs, tiny_llava.answer(inputs))


def test_encoded_inputs_are_refused(tiny_llava, asked):
    with pytest.raises(ValueError, match=r"found inputs without pixels; give those of vlm.prepare"):
        llava_cam(tiny_llava, tiny_llava.encode(asked[0]), asked[1])


def test_unknown_site_is_refused(tiny_llava, asked):
    with pytest.raises(ValueError, match=r"asked for the site 'norm'.*use one of.*input_norm"):
        llava_cam(tiny_llava, *asked, site="norm")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n": 0}, r"n=0, found it out of range; give a whole number of at least 1"),
        ({"n": 2.0}, r"n=2.0, found a float"),
        ({"n": True}, r"n=True, found a bool"),
        ({"seed": 0.5}, r"seed=0.5, found a float"),
        ({"seed": -1}, r"seed=-1, found it out of range"),
        ({"noise": -0.1}, r"noise=-0.1, .*; give a finite number of at least 0"),
        ({"noise": float("nan")}, r"noise=nan, .*; give a finite number of at least 0"),
        ({"noise": "0.1"}, r"noise='0.1', found a str"),
        ({"memory": 0}, r"memory=0, .*; give a finite number above 0"),
        ({"threshold": "half"}, r"threshold='half', found a str"),
        ({"threshold": 1.5}, r"threshold=1.5, .*at least 0 and at most 1"),
        ({"views": "all"}, r"views='all', found no such; use one of"),
        ({"layers": 3}, r"layers=3, found a int; give a list of whole numbers"),
        ({"layers": [1.0]}, r"layers\[0\]=1.0, found a float"),
        ({"target": 99}, r"target 99, found a int .*; give one, .answer., .authors., words"),
        ({"target": None}, r"target None, found a NoneType"),
        ({"target": ""}, r"asked for the words ''"),
        ({"target": lambda logits: logits}, r"target of one number, found \["),
        ({"target": lambda logits: 3}, r"target of one number, found int"),
        ({"target": lambda logits: logits.detach().sum()}, r"computed from the logits"),
    ],
)
def test_what_is_of_the_wrong_kind_or_out_of_range_is_refused_in_words(
    tiny_llava, asked, wrong, message
):
    with pytest.raises(ValueError, match=message):
        llava_cam(tiny_llava, *asked, **wrong)
    assert hooks_on(tiny_llava.decoder) == 0


@pytest.mark.parametrize("site", [3, "norm", None])
def test_a_site_that_is_none_is_refused_with_those_that_are(tiny_llava, asked, site):
    with pytest.raises(ValueError, match=rf"the site {site!r}, found no such .*post_attention"):
        llava_cam(tiny_llava, *asked, site=site)


def test_what_are_no_inputs_and_no_answer_is_refused_in_words(tiny_llava, asked, sample, samples):
    inputs, answer = asked
    for call in (llava_cam, attention_flow, attention_map):
        with pytest.raises(TypeError, match=r"as inputs, found a Sample; give vlm.prepare"):
            call(tiny_llava, sample, answer)
        with pytest.raises(TypeError, match=r"as answer, found a int; give what vlm.answer"):
            call(tiny_llava, inputs, 3)
        with pytest.raises(ValueError, match=r"2 rows|2 prompts"):
            call(tiny_llava, tiny_llava.prepare(samples), answer)
    for ask in (tiny_llava.answer, tiny_llava.forward):
        with pytest.raises(TypeError, match=r"as inputs, found a Sample; give vlm.prepare"):
            ask(sample)


def test_whole_numbers_of_numpy_are_whole_numbers(tiny_llava, asked):
    wanted = llava_cam(tiny_llava, *asked, layers=[0, 2], noise=0.1, n=2, seed=3).heat
    numbers = {"layers": np.array([0, 2]), "n": np.int64(2), "seed": np.uint8(3)}
    assert np.array_equal(llava_cam(tiny_llava, *asked, noise=0.1, **numbers).heat, wanted)


def test_inference_mode_and_autocast_are_refused_and_what_was_made_inside_is_taken(
    tiny_llava, sample
):
    with torch.inference_mode():
        inputs = tiny_llava.prepare(sample)
        answer = tiny_llava.answer(inputs)
        assert answer.ids[0].is_inference()
        with pytest.raises(RuntimeError, match=r"found torch.inference_mode.*; leave that block"):
            llava_cam(tiny_llava, inputs, answer)
        vlm = replace(tiny_llava, model=copy.deepcopy(tiny_llava.model))
    with (
        torch.autocast("cpu", dtype=torch.bfloat16),
        pytest.raises(RuntimeError, match=r"found torch.autocast.*; leave that block"),
    ):
        llava_cam(tiny_llava, inputs, answer)
    with pytest.raises(RuntimeError, match=r"found torch.inference_mode.*or its load"):
        llava_cam(vlm, inputs, answer)
    with torch.no_grad():
        found = llava_cam(tiny_llava, inputs, answer).heat
    again = tiny_llava.prepare(sample)
    assert np.array_equal(found, llava_cam(tiny_llava, again, tiny_llava.answer(again)).heat)


@pytest.mark.parametrize("site", ["post_attention", ["mlp", "block"]])
def test_an_empty_answer_has_a_map_of_nan_and_the_others_are_as_they_would_be(
    tiny_llava, samples, site, caplog
):
    inputs = tiny_llava.prepare([*samples, samples[0]])
    ids, settings = tiny_llava.answer(inputs).ids, {"site": site, "noise": 0.1, "n": 2}
    answer = Answer((ids[0][:2], torch.tensor([]), ids[2]), ("", "", ""))
    told = llava_cam(tiny_llava, inputs, answer, layers=[1, 2], **settings)
    assert caplog.messages == ["pope b: the answer is empty and has no map"]
    others = llava_cam(
        tiny_llava, inputs.take([0, 2]), answer.take([0, 2]), layers=[1, 2], **settings
    )
    for row, wanted in zip((0, 2), others, strict=True):
        for mine, one in zip(listed(told[row]), listed(wanted), strict=True):
            assert np.array_equal(mine.heat, one.heat)
            assert mine.answered
    alone = llava_cam(tiny_llava, inputs.take([1]), answer.take([1]), layers=[1, 2], **settings)
    for mine in [*listed(told[1]), *listed(alone)]:
        assert mine.heat.shape == (2, 4, 4)
        assert np.isnan(mine.heat).all()
        assert not mine.answered
        assert mine.sample is samples[1]
        assert mine.table()[["inside", "hit", "peak"]].isna().all(axis=None)
        assert mine.overlay(1).shape == (50, 40, 3)


def listed(maps):
    return list(maps.values()) if isinstance(maps, dict) else [maps]


def test_a_word_said_twice_is_read_where_it_is_said_first(tiny_llava, asked):
    inputs, tokenizer = asked[0], tiny_llava.processor.tokenizer
    ids = tokenizer("yes no yes no", add_special_tokens=False).input_ids
    text = tokenizer.decode(ids)
    answer, start = Answer((torch.tensor(ids),), (text,)), text.index("yes")
    ends = [len(tokenizer.decode(ids[: i + 1])) for i in range(len(ids))]
    for word, a, b in (("no", 4, 6), ("YES", 0, 3), ("no yes", 4, 10), ("yes no yes", 0, 10)):
        mine = [i for i, end in enumerate(ends)
                if end > start + a and (ends[i - 1] if i else 0) < start + b]  # fmt: skip
        rows, said = [inputs.length - 1 + i for i in mine], [ids[i] for i in mine]
        assert len(mine) < len(ids)
        maps = llava_cam(tiny_llava, inputs, answer, target=word)
        features, slope = separate(
            tiny_llava, inputs, answer, "post_attention", 0,
            lambda rows=rows, said=said: read_at(tiny_llava, inputs, answer, rows, said),
        )  # fmt: skip
        assert np.allclose(maps.heat[0], naive(features, slope), **CLOSE)


@pytest.mark.parametrize("wrong", [{"layers": [4]}, {"layers": []}, {"site": []}])
def test_layers_out_of_range_and_no_layer_or_site_are_refused(tiny_llava, asked, wrong):
    with pytest.raises(
        ValueError, match=r"found 4 layers; give one site or more, and some of 0..3"
    ):
        llava_cam(tiny_llava, *asked, **wrong)


def test_several_sites_give_a_dict_for_one_row_and_a_list_of_dicts_for_several(
    tiny_llava, asked, samples
):
    one = llava_cam(tiny_llava, *asked, site=["mlp"])
    assert [(site, maps.site) for site, maps in one.items()] == [("mlp", "mlp")]
    inputs = tiny_llava.prepare(samples)
    answer = tiny_llava.answer(inputs)
    several = llava_cam(tiny_llava, inputs, answer, site=("block", "mlp"), layers=[2])
    assert [list(row) for row in several] == [["block", "mlp"]] * 2
    assert [row["mlp"].sample for row in several] == samples
    alone = llava_cam(tiny_llava, inputs, answer, site="block")
    for row, maps in zip(several, alone, strict=True):
        assert np.allclose(row["block"].heat, maps.heat[2:3], **CLOSE)


class Graph:
    """Where autograd keeps something: the module that runs, by `spots` of {name: module}."""

    def __init__(self, spots):
        self.spots, self.now, self.kept = spots, "before", []

    def __enter__(self):
        self.handles = [
            module.register_forward_pre_hook(lambda *_, name=name: setattr(self, "now", name))
            for name, module in self.spots.items()
        ]
        self.hooks = torch.autograd.graph.saved_tensors_hooks(self.pack, lambda tensor: tensor)
        self.hooks.__enter__()
        return self

    def __exit__(self, *error):
        self.hooks.__exit__(*error)
        for handle in self.handles:
            handle.remove()

    def pack(self, tensor):
        self.kept.append(self.now)
        return tensor


@pytest.mark.parametrize("first", [0, 2])
def test_no_graph_is_built_below_the_first_layer_asked_for(tiny_llava, asked, first):
    vision = {"vision": tiny_llava.model.get_encoder("image")}
    spots = vision | dict(enumerate(tiny_llava.decoder.layers))
    with Graph(spots) as graph:
        llava_cam(tiny_llava, *asked, layers=[first, 3], site="input_norm")
    assert set(graph.kept) == set(range(first, 4))


def test_vision_tower_runs_once_a_noisy_copy_and_once_without_noise(tiny_llava, asked):
    runs = []
    tower = tiny_llava.model.get_encoder("image")
    handle = tower.register_forward_hook(
        lambda module, args, output: runs.append((len(output[0]), output[0].requires_grad))
    )
    for noise, memory, expected in [(0.1, 4, [5]), (0.1, 1e-6, [1] * 5), (0, 4, [1])]:
        runs.clear()
        llava_cam(tiny_llava, *asked, noise=noise, n=5, memory=memory)
        assert runs == [(pictures, False) for pictures in expected]
    handle.remove()


def test_little_memory_changes_nothing_but_what_is_kept(tiny_llava, asked):
    spots = dict(enumerate(tiny_llava.decoder.layers))
    maps, kept = [], []
    for memory in (4.0, 1e-6):
        with Graph(spots) as graph:
            maps.append(llava_cam(tiny_llava, *asked, site=SITES, memory=memory))
        kept.append(len(graph.kept))
    assert all(np.array_equal(maps[0][site].heat, maps[1][site].heat) for site in SITES)
    assert kept[1] < kept[0] / 4
    assert hooks_on(tiny_llava.decoder) == 0
    assert not any("forward" in vars(layer) for layer in tiny_llava.decoder.layers)


def test_a_position_is_the_word_that_stands_there(tiny_llava, sample):
    inputs = tiny_llava.prepare(sample)
    answer = Answer((torch.tensor([300, 301, 302]),), ("",))

    def second(logits):
        return logits[1, 301]

    at, oracle = (llava_cam(tiny_llava, inputs, answer, target=one).heat for one in (1, second))
    assert np.array_equal(at, oracle)
    assert not np.array_equal(at, llava_cam(tiny_llava, inputs, answer, target=0).heat)


@pytest.mark.parametrize("target", [3, -1, True, 1.0, None])
def test_a_position_that_the_answer_does_not_have_is_refused(tiny_llava, sample, target):
    answer = Answer((torch.tensor([300, 301, 302]),), ("",))
    with pytest.raises(ValueError, match=r"no position in 0..2 of the answer's tokens"):
        llava_cam(tiny_llava, tiny_llava.prepare(sample), answer, target=target)


@pytest.mark.parametrize("flag", ["no", 1, None])
def test_a_flag_that_is_only_taken_for_one_is_refused(tiny_llava, sample, flag):
    answer = Answer((torch.tensor([300]),), ("",))
    with pytest.raises(TypeError, match=r"asked for relu_grad=.*give True or False"):
        llava_cam(tiny_llava, tiny_llava.prepare(sample), answer, relu_grad=flag)
