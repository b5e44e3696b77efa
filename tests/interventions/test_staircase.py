"""The staircase against one truncated run at a time: every family, sdpa and eager, in a batch."""

import copy
from dataclasses import replace
from itertools import combinations

import families
import pytest
import torch
from conftest import hooks_on, wide_none_high

from irlib import load, load_task
from irlib.hooks.hooks import edit
from irlib.inputs.spans import Spans
from irlib.interventions import climbing
from irlib.interventions.decoding import Past
from irlib.interventions.prefill import run
from irlib.interventions.staircase import answers_by_layer, logits_by_layer
from irlib.interventions.truncation import truncate
from irlib.plan.costs import token_layers

# Of the logits' standard deviation. Float32 rounding of other kernels, masks and orders of
# summation through four layers; most seen over all families 6e-6, and one image token that stays
# or goes moves them by more than 0.01.
CLOSE = 2e-5

every_family = pytest.mark.parametrize("name", list(families.FAMILIES))
keeping = pytest.mark.parametrize("keep", [0, 3])


@pytest.fixture
def mixed():
    """A wide picture, none, a high picture; questions and limits of different length."""
    return wide_none_high(8, 3, 5)


@torch.no_grad()
def one_by_one(vlm, inputs, layers, keep=0):
    """Oracle: logits `[layer, row, vocabulary]` of one truncated forward a layer."""
    made = []
    for layer in layers:
        with truncate(vlm, inputs, layer=layer, keep=keep):
            made.append(vlm.forward(inputs)[:, -1])
    return torch.stack(made)


def said_one_by_one(vlm, inputs, layers, **settings):
    """Oracle: ids and texts of one truncated generation a layer."""
    keep, made = settings.pop("keep", 0), {}
    for layer in layers:
        with truncate(vlm, inputs, layer=layer, keep=keep):
            made[layer] = said(vlm.answer(inputs, **settings))
    return made


def said(answer):
    return [ids.tolist() for ids in answer.ids], list(answer.texts)


def same(answers, expected):
    assert {layer: said(answer) for layer, answer in answers.items()} == expected
    assert list(answers) == list(expected)


def assert_close(found, expected):
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= CLOSE * expected.std()


@families.every_way
@keeping
def test_logits_equal_those_of_one_truncated_forward_a_layer(
    model_of, mixed, name, attention, keep
):
    vlm, layers = model_of(name, attention), range(1 if keep else 0, 5)
    for samples in (mixed, mixed[2:]):  # padded, and alone with sdpa's shortcuts
        inputs = vlm.prepare(samples)
        expected = one_by_one(vlm, inputs, layers, keep)
        assert_close(logits_by_layer(vlm, inputs, layers=layers, keep=keep), expected)
        assert (expected[0] - expected[-1]).abs().max() > 0.1  # hiding is felt
    assert hooks_on(vlm.decoder) == 0
    assert vlm.decoder.config._attn_implementation == attention


@every_family
@pytest.mark.parametrize(("attention", "keep"), [("sdpa", 0), ("eager", 3)])
def test_answers_equal_one_truncated_generation_a_layer(model_of, mixed, name, attention, keep):
    vlm, layers = model_of(name, attention), range(1 if keep else 0, 5)
    inputs = vlm.prepare(mixed)
    expected = said_one_by_one(vlm, inputs, layers, keep=keep)
    same(answers_by_layer(vlm, inputs, layers=layers, keep=keep), expected)
    assert len({tuple(texts) for _, texts in expected.values()}) > 1
    assert hooks_on(vlm.decoder) == 0
    assert vlm.decoder.config._attn_implementation == attention


def staggering(answers):
    """Three tokens that end these answers at as many different places as three can."""

    def places(ends):
        return {next((i for i, x in enumerate(ids) if x in ends), None) for ids in answers}

    tokens = sorted({token for ids in answers for token in ids})
    return list(max(combinations(tokens, 3), key=lambda ends: len(places(ends))))


@pytest.mark.parametrize("name", ["llava", "gemma3", "qwen3_vl", "paligemma"])
@keeping
def test_rows_that_end_leave_and_the_others_go_on(family, mixed, name, keep, monkeypatch):
    vlm, layers, left = family(name), range(1, 5), []
    inputs = vlm.prepare(mixed)
    free = said_one_by_one(vlm, inputs, layers, keep=keep, max_new_tokens=9)
    ends = staggering([row for ids, _ in free.values() for row in (ids[0], ids[2])])
    config = copy.deepcopy(vlm.model.generation_config)
    config.update(eos_token_id=ends)
    monkeypatch.setattr(vlm.model, "generation_config", config)
    monkeypatch.setattr("irlib.interventions.decoding.LEAVE", 99)  # each at once
    stay = Past.stay
    monkeypatch.setattr(Past, "stay", lambda past, rows: (left.append(len(rows)), stay(past, rows)))
    expected = said_one_by_one(vlm, inputs, layers, keep=keep, max_new_tokens=9)
    same(answers_by_layer(vlm, inputs, layers=layers, keep=keep, max_new_tokens=9), expected)
    assert expected != free
    assert len(left) > 1
    assert left == sorted(left, reverse=True)


def test_rows_leave_at_their_own_limits(tiny_llava, mixed, monkeypatch):
    left, stay = [], Past.stay
    config = copy.deepcopy(tiny_llava.model.generation_config)
    config.update(eos_token_id=None)
    monkeypatch.setattr(tiny_llava.model, "generation_config", config)
    monkeypatch.setattr("irlib.interventions.decoding.LEAVE", 99)
    monkeypatch.setattr(Past, "stay", lambda past, rows: (left.append(len(rows)), stay(past, rows)))
    answers_by_layer(tiny_llava, tiny_llava.prepare(mixed), layers=range(5))
    assert left == [10, 5]  # the row without a picture after 3 tokens, then one picture's after 5


def test_long_answers_equal_the_oracle_over_several_blocks(family, mixed, monkeypatch):
    monkeypatch.setattr("irlib.interventions.decoding.BLOCK", 3)
    for name in ("llava", "gemma3"):  # the window of 12 positions passes over the prompt
        vlm = family(name)
        inputs = vlm.prepare(mixed)
        expected = said_one_by_one(vlm, inputs, [0, 2, 4], max_new_tokens=20)
        same(answers_by_layer(vlm, inputs, layers=[0, 2, 4], max_new_tokens=20), expected)


@keeping
def test_some_layers_in_any_order_twice_over(tiny_llava, mixed, keep):
    inputs = tiny_llava.prepare(mixed)
    answers = answers_by_layer(tiny_llava, inputs, layers=[3, 1, 3], keep=keep)
    same(answers, said_one_by_one(tiny_llava, inputs, [3, 1], keep=keep))
    logits = logits_by_layer(tiny_llava, inputs, layers=[3, 1, 3], keep=keep)
    assert_close(logits, one_by_one(tiny_llava, inputs, [3, 1, 3], keep))


@keeping
@pytest.mark.parametrize("positions", [1, 150])
def test_parts_of_bounded_size_change_nothing(tiny_llava, mixed, keep, positions, monkeypatch):
    inputs, layers, sizes = tiny_llava.prepare(mixed), [1, 2, 3, 4], []
    expected = said_one_by_one(tiny_llava, inputs, layers, keep=keep)
    logits = logits_by_layer(tiny_llava, inputs, layers=layers, keep=keep)
    monkeypatch.setattr(climbing, "POSITIONS", positions)
    build = Past.__init__

    def spy(past, made, variants, **kwargs):
        sizes.append(len(variants) * (kwargs["index"].shape[1] + kwargs["most"]))
        build(past, made, variants, **kwargs)

    monkeypatch.setattr(Past, "__init__", spy)
    same(answers_by_layer(tiny_llava, inputs, layers=layers, keep=keep), expected)
    assert len(sizes) == 9 if positions == 1 else 1 < len(sizes) < 9
    assert positions == 1 or max(sizes) <= positions
    parted = logits_by_layer(tiny_llava, inputs, layers=layers, keep=keep)
    assert (parted - logits).abs().max() <= CLOSE * logits.std()


def tokens_through_layers(vlm, call):
    """How many tokens the decoder's layers are given by `call`, and how many pictures are seen."""
    counts, pictures = [], []

    def counting(module, note):  # no hook: with hooks on it a model's layers share nothing
        forward = module.forward

        def counted(states, *args, **kwargs):
            note(states)
            return forward(states, *args, **kwargs)

        return counted

    tower = vlm.model.model.vision_tower
    with pytest.MonkeyPatch.context() as patch:
        for layer in vlm.decoder.layers:
            told = counting(layer, lambda states: counts.append(states.shape[:2].numel()))
            patch.setattr(layer, "forward", told)
        patch.setattr(tower, "forward", counting(tower, lambda _: pictures.append(1)))
        call()
    return sum(counts), len(pictures)


@keeping
def test_work_is_what_token_layers_counts(tiny_llava, sample, keep):
    inputs, layers = tiny_llava.prepare(sample), range(1 if keep else 0, 5)
    before, image = int(inputs.spans.system.sum()), int(inputs.spans.image.sum())
    after = inputs.length - before - image
    counted = token_layers(4, before, image, after, keep=keep)
    shared = tokens_through_layers(
        tiny_llava, lambda: logits_by_layer(tiny_llava, inputs, layers=layers, keep=keep)
    )
    assert shared == (counted["shared"], 1)
    with torch.no_grad():
        ranking = tokens_through_layers(tiny_llava, lambda: tiny_llava.forward(inputs))[0]
    naive = tokens_through_layers(
        tiny_llava, lambda: one_by_one(tiny_llava, tiny_llava.encode(inputs), layers)
    )[0]
    assert naive + bool(keep) * ranking == counted["naive"]
    assert token_layers(4, before, image, after, layers=[2, 2], keep=keep) == {
        "naive": (2 + bool(keep)) * ranking,  # the untouched model is always among them
        "shared": ranking + 2 * (after + keep),
    }


def test_rows_without_a_picture_answer_once_for_all_layers(tiny_llava, text_sample, monkeypatch):
    inputs, rows = tiny_llava.prepare([text_sample, text_sample]), []
    read = type(tiny_llava).read

    def spy(vlm, made, limits):
        rows.append(len(made))
        return read(vlm, made, limits)

    expected = said_one_by_one(tiny_llava, inputs, range(5))
    monkeypatch.setattr(type(tiny_llava), "read", spy)
    same(answers_by_layer(tiny_llava, inputs, layers=range(5), keep=3), expected)
    assert rows == [2]


def test_text_before_a_picture_that_sees_what_follows_is_carried_too(family, mixed):
    vlm = family("paligemma")  # sees its prompt both ways, but has the picture first
    inputs = vlm.prepare(mixed[0])
    order = torch.arange(inputs.length)
    order = torch.cat([order[-4:-1], order[:-4], order[-1:]])
    turned = replace(
        inputs,
        text={key: value[:, order] for key, value in inputs.text.items()},
        spans=Spans(**{key: mask[:, order] for key, mask in vars(inputs.spans).items()}),
    )
    expected = one_by_one(vlm, turned, range(5))
    assert (expected[0] - expected[-1]).abs().max() > 0.1
    assert_close(logits_by_layer(vlm, turned, layers=range(5)), expected)
    assert not run(vlm, turned, layers=[0]).before.any()


def test_keys_before_the_picture_are_shared_where_text_sees_only_what_stands_before(family, mixed):
    for name in ("llava", "gemma3", "qwen3_vl"):
        inputs = family(name).prepare(mixed)
        made = run(family(name), inputs, layers=[0], whole=False)
        assert torch.equal(made.before[[0, 2]], inputs.spans.system[[0, 2]])
        width = int(inputs.spans.image[[0, 2]].int().argmax(1).max())
        assert all(keys.shape[2] == width for pair in made.keys.values() for keys in pair)


def test_bundled_model_answers_as_layer_by_layer():
    vlm = load("mini-llava")
    for task, n in (("pope", 20), ("chair", 5)):
        inputs = vlm.encode(vlm.prepare(load_task(task, n=n)))
        layers = [0, 2, 4, 6, 8, 12]
        expected = said_one_by_one(vlm, inputs, layers)
        same(answers_by_layer(vlm, inputs, layers=layers), expected)
        assert len({tuple(texts) for _, texts in expected.values()}) > 1


def broken(vlm, name, row=slice(None)):
    """The same VLM with weights that are no numbers."""
    model = copy.deepcopy(vlm.model)
    getattr(model, name)().weight.data[row] = torch.nan
    return replace(vlm, model=model)


def test_weights_that_are_no_numbers_are_refused(tiny_llava, mixed):
    inputs = tiny_llava.prepare(mixed)
    vlm, refusal = broken(tiny_llava, "get_output_embeddings"), "logits that are not finite numbers"
    with pytest.raises(ValueError, match=refusal):
        answers_by_layer(vlm, inputs, layers=[0])
    with pytest.raises(ValueError, match=refusal):
        logits_by_layer(vlm, inputs, layers=[0])
    assert hooks_on(vlm.decoder) == 0


def test_numbers_that_end_with_the_picture_hidden_are_refused(tiny_llava, sample, monkeypatch):
    monkeypatch.setattr(climbing, "unembed", lambda vlm, states: states * torch.nan)
    with pytest.raises(ValueError, match=r"logits that are not finite numbers"):
        logits_by_layer(tiny_llava, tiny_llava.prepare(sample), layers=[0])


def test_padding_sees_itself_so_that_half_precision_has_a_softmax():
    mask = climbing._mask(torch.zeros(2, 3, 5, dtype=torch.bool), torch.float16)
    assert torch.equal(mask[1, 0] == 0, torch.eye(5, dtype=torch.bool)[2:])


def test_numbers_that_end_within_an_answer_are_refused(tiny_llava, sample):
    inputs = tiny_llava.prepare(sample)
    first = int(answers_by_layer(tiny_llava, inputs, layers=[0])[0].ids[0][0])
    vlm = broken(tiny_llava, "get_input_embeddings", first)
    assert first not in inputs.text["input_ids"]
    with pytest.raises(ValueError, match=r"logits that are not finite numbers"):
        answers_by_layer(vlm, inputs, layers=[0])
    assert hooks_on(vlm.decoder) == 0
    assert vlm.decoder.config._attn_implementation == "sdpa"


def test_what_truncation_refuses_is_refused(tiny_llava, mixed):
    inputs = tiny_llava.prepare(mixed)
    for call in (answers_by_layer, logits_by_layer):
        with pytest.raises(ValueError, match=r"asked to hide.*found 4 layers and 3 rows.*0..4"):
            call(tiny_llava, inputs, layers=[0, 5])
        with pytest.raises(ValueError, match=r"from layer 0 on.*no layer before it"):
            call(tiny_llava, inputs, layers=[0, 1], keep=2)
        with pytest.raises(ValueError, match=r"asked to keep 17 .*found \[16, 16\] a picture"):
            call(tiny_llava, inputs, layers=[1], keep=17)


def test_hooks_on_the_model_change_what_they_change_in_each_layers_own_run(tiny_llava, sample):
    inputs, layers = tiny_llava.prepare(sample), [0, 2, 4]

    def blank(_, states):
        states = states.clone()
        states[:, 3] = 0  # a place in the prompt that no shared pass gives to the layer as such
        return states

    untouched = logits_by_layer(tiny_llava, inputs, layers=layers)
    with edit({1: tiny_llava.decoder.layers[1]}, blank):
        found = logits_by_layer(tiny_llava, inputs, layers=layers)
        naive = one_by_one(tiny_llava, tiny_llava.encode(inputs), layers)
    assert (found - naive).abs().max() <= CLOSE * naive.std()
    assert (found - untouched).abs().max() > 0.1
    with edit({"decoder": tiny_llava.decoder.norm}, lambda _, states: states * -1):
        answers = answers_by_layer(tiny_llava, inputs, layers=[0, 4], max_new_tokens=5)
        for layer in (0, 4):
            with truncate(tiny_llava, inputs, layer=layer):
                said = tiny_llava.answer(inputs, max_new_tokens=5)
            assert answers[layer].ids[0].equal(said.ids[0])


def test_settings_of_generation_that_are_more_than_greedy_hold_for_every_layer(
    tiny_llava, sample, monkeypatch
):
    inputs = tiny_llava.prepare(sample)
    monkeypatch.setattr(tiny_llava.model.generation_config, "repetition_penalty", 3.0)
    answers = answers_by_layer(tiny_llava, inputs, layers=[0, 4], max_new_tokens=12)
    for layer in (0, 4):
        with truncate(tiny_llava, inputs, layer=layer):
            said = tiny_llava.answer(inputs, max_new_tokens=12)
        assert answers[layer].ids[0].equal(said.ids[0])


def test_large_keys_do_not_overflow_in_half_precision(family_folder, sample):
    vlm = load(str(family_folder("qwen2_vl")), device="cpu", dtype="float16")
    for layer in vlm.decoder.layers:
        layer.self_attn.k_proj.bias.fill_(300)
        layer.self_attn.q_proj.bias.fill_(60)
    inputs = vlm.prepare(sample)
    answers = answers_by_layer(vlm, inputs, layers=[vlm.n_layers], max_new_tokens=3)
    assert answers[vlm.n_layers].ids[0].equal(vlm.answer(inputs, max_new_tokens=3).ids[0])
