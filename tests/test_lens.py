"""What states say: the last layer is the model itself, others a norm and a head by hand."""

from dataclasses import replace

import families
import numpy as np
import pytest
import torch
from conftest import hooks_on, make_sample, noise_picture

from irlib import load, load_task, logit_lens
from irlib.inputs.records import Answer

every_family = pytest.mark.parametrize("name", list(families.FAMILIES))
CLOSE = 1e-6  # of a probability: the same products, of more or fewer rows at once


@pytest.fixture
def two():
    """A wide and a high picture; questions of different length."""
    high, question = noise_picture(60, 90, seed=1), "Is there a red cat in the picture?"
    return [make_sample(noise_picture(112, 60, seed=0)), make_sample(high, question, "b")]


@torch.no_grad()
def by_hand(vlm, whole):
    """Oracle: `{layer: probabilities [row, position, token]}`, by hooks of torch's own."""
    seen, handles = {}, []
    for number, layer in enumerate(vlm.decoder.layers):

        def keep(_, args, output, number=number):
            seen[number] = output[0] if isinstance(output, tuple) else output

        handles.append(layer.register_forward_hook(keep))
    logits = vlm.forward(whole)
    for handle in handles:
        handle.remove()
    last, head = len(handles) - 1, vlm.model.get_output_embeddings()
    made = {number: head(vlm.last_norm(states)) for number, states in seen.items() if number < last}
    if cap := getattr(vlm.model.config.get_text_config(), "final_logit_softcapping", None):
        made = {number: cap * (one / cap).tanh() for number, one in made.items()}
    return {number: one.softmax(-1) for number, one in (made | {last: logits}).items()}


def without_image_token(vlm, chances):
    """Oracle: the image token, which no answer holds, is never the likelier nor the likeliest."""
    others = chances.clone()
    others[..., vlm.image_token_id] = -1
    return others


@families.every_way
def test_the_answer_is_read_where_it_is_predicted(model_of, two, name, attention):
    vlm = model_of(name, attention)
    inputs = vlm.prepare(two)
    answer = vlm.answer(inputs, max_new_tokens=3)
    table = logit_lens(vlm, inputs, answer)
    wanted = by_hand(vlm, inputs.followed_by(answer))
    assert len(table) == vlm.n_layers * sum(len(ids) for ids in answer.ids)
    for line in table.itertuples():
        row = [sample.key for sample in inputs.samples].index(line.sample)
        chances = wanted[line.layer][row, inputs.length - 1 + line.step]
        own = chances[answer.ids[row][line.step]]
        assert line.probability == pytest.approx(own.item(), abs=CLOSE)
        others = without_image_token(vlm, chances)
        assert line.rank == (others > own).sum()
        assert line.top[0] == vlm.processor.tokenizer.decode([int(others.argmax())])
    assert hooks_on(vlm.decoder) == 0


@every_family
def test_the_picture_is_read_token_by_token(model_of, two, name):
    vlm = model_of(name)
    inputs = vlm.prepare(two)
    answer = vlm.answer(inputs, max_new_tokens=2)
    table = logit_lens(vlm, inputs, answer, at="image", layers=[1, 3], top=2)
    wanted = by_hand(vlm, inputs)
    image = inputs.spans.image
    assert len(table) == 2 * sum(int(image[row].sum()) * len(answer.ids[row]) for row in range(2))
    for row, sample in enumerate(inputs.samples):
        positions, boxes = image[row].nonzero().flatten(), inputs.grids[row].boxes
        for layer in (1, 3):
            mine = table[(table["sample"] == sample.key) & (table["layer"] == layer)]
            first = mine[mine["step"] == 0].sort_values("place")
            told = wanted[layer][row, positions][:, answer.ids[row][0]]
            assert np.allclose(first["probability"], told, atol=CLOSE)
            middle = (boxes[:, :2] + boxes[:, 2:]) / 2
            assert np.allclose(first[["x", "y"]], middle, equal_nan=True)


def test_the_last_layer_says_what_the_model_says():
    vlm, samples = load("mini-llava"), load_task("pope", n=2)
    inputs = vlm.prepare(samples)
    table = logit_lens(vlm, inputs, vlm.answer(inputs), layers=[11])
    assert set(table["rank"]) == {0}
    assert (table["word"] == [top[0] for top in table["top"]]).all()


def test_a_word_of_ones_own_is_read_and_parts_change_nothing(tiny_llava, two):
    inputs = tiny_llava.prepare(two[0])
    whole = logit_lens(tiny_llava, inputs, "cat", at="image")
    parts = logit_lens(tiny_llava, inputs, "cat", at="image", memory=1e-5)
    assert np.allclose(whole["probability"], parts["probability"], atol=CLOSE)
    assert whole["rank"].equals(parts["rank"])
    assert set(whole["word"].str.strip()) == {"cat"}


def test_text_segments_name_their_tokens(tiny_llava, two):
    inputs = tiny_llava.prepare(two[0])
    table = logit_lens(tiny_llava, inputs, "cat", at="user", layers=[0], top=0)
    ids = inputs.text["input_ids"][0][inputs.spans.user[0]].tolist()
    first = table[table["step"] == 0]
    assert first["token"].tolist() == tiny_llava.processor.tokenizer.convert_ids_to_tokens(ids)
    assert first["x"].isna().all()
    assert set(table["top"]) == {()}


def test_the_image_token_is_no_rank_and_no_word(tiny_llava, two):
    inputs = tiny_llava.prepare(two[0])
    head = tiny_llava.model.get_output_embeddings()
    answer, before = tiny_llava.answer(inputs), head.weight.data.clone()
    try:
        head.weight.data[tiny_llava.image_token_id] = 100 * head.weight.data[answer.ids[0][0]]
        table = logit_lens(tiny_llava, inputs, answer, layers=[3])
    finally:
        head.weight.data = before
    first = table[table["step"] == 0].iloc[0]
    assert first["rank"] == 0
    assert first["probability"] < 0.5  # what the model's own softmax leaves
    assert all("<image>" not in top for top in table["top"])


def test_inputs_that_hold_an_answer_are_refused(tiny_llava, two):
    inputs = tiny_llava.prepare(two[0])
    whole = inputs.followed_by(tiny_llava.answer(inputs))
    with pytest.raises(ValueError, match="hold an answer"):
        logit_lens(tiny_llava, whole, "cat")


def test_an_empty_answer_has_no_row(tiny_llava, two):
    inputs = tiny_llava.prepare(two)
    said = tiny_llava.answer(inputs, max_new_tokens=1)
    answer = Answer((said.ids[0], said.ids[1][:0]), ("?", ""), reader=said.reader)
    assert set(logit_lens(tiny_llava, inputs, answer)["sample"]) == {two[0].key}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"at": "picture"}, "no such segment"),
        ({"at": "image"}, "no such position"),
        ({"layers": [4]}, "layers"),
        ({"layers": []}, "layers"),
        ({"memory": 0}, "memory"),
        ({"top": -1}, "top"),
        ({"answer": ["a", "b"]}, "2"),
    ],
)
def test_what_cannot_be_read_is_refused(tiny_llava, text_sample, options, words):
    inputs, options = tiny_llava.prepare(text_sample), {"answer": "cat"} | options
    with pytest.raises(ValueError, match=words):
        logit_lens(tiny_llava, inputs, **options)


def test_a_row_without_a_picture_beside_one_with(tiny_llava, two, text_sample):
    inputs = tiny_llava.prepare([replace(text_sample, key="t"), two[0]])
    answer = tiny_llava.answer(inputs, max_new_tokens=1)
    assert set(logit_lens(tiny_llava, inputs, answer, at="image")["sample"]) == {two[0].key}
