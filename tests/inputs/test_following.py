"""Inputs are taken row by row and followed by answers of any length, each argument with them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import make_sample, noise_picture

from irlib.inputs.records import Answer
from irlib.interventions.staircase import answers_by_layer
from irlib.interventions.truncation import truncate


@pytest.fixture
def three():
    """Samples of three lengths, the middle one without a picture."""
    return [
        make_sample(noise_picture(60, 40, seed=0)),
        make_sample(None, "Is there a red cat in the picture?", "text"),
        make_sample(noise_picture(40, 60, seed=1), "Describe it.", "b"),
    ]


def answers(*rows):
    return Answer(tuple(torch.tensor(row, dtype=torch.long) for row in rows), ("",) * len(rows))


@pytest.mark.parametrize("name", ["paligemma", "gemma3", "qwen2_vl", "llava"])
def test_rows_taken_are_followed_by_an_answer_as_the_whole_is(family, three, name):
    """PaliGemma's answer is of a type of its own: 1, where its prompt is 0."""
    vlm = family(name)
    inputs, said = vlm.prepare(three), answers([9], [8, 7, 6], [5, 4])
    whole = inputs.followed_by(said)
    types = vlm.family.types
    for rows in ([0], [2, 0], [1, 1, 2], [2]):
        taken = inputs.take(rows).followed_by(said.take(rows))
        assert taken.appended == inputs.appended
        length = taken.length
        assert length == inputs.length + max(len(said.ids[row]) for row in rows)
        for key, value in taken.text.items():
            real = taken.text["attention_mask"].bool()
            assert torch.equal(value[real], whole.text[key][rows][:, :length][real]), key
        for key, mask in vars(taken.spans).items():
            assert torch.equal(mask, getattr(whole.spans, key)[rows][:, :length]), key
        if types:
            marked = taken.text[types.name][taken.spans.answer]
            assert (marked == types.answer).all()
            assert len(marked) == sum(len(said.ids[row]) for row in rows)
        with torch.no_grad():
            alone = vlm.forward(taken)[taken.spans.predicting]
            real = whole.spans.predicting[rows]
            assert torch.allclose(alone, vlm.forward(whole)[rows][real], atol=1e-4)


def test_one_empty_answer_among_several_adds_nothing_to_its_row(family, three):
    for name in ("llava", "paligemma"):
        inputs = family(name).prepare(three)
        whole = inputs.followed_by(answers([9, 8], [], [7]))
        assert whole.spans.answer.sum(1).tolist() == [2, 0, 1]
        assert whole.spans.predicting.sum(1).tolist() == [2, 0, 1]
        assert whole.text["attention_mask"][:, inputs.length :].tolist() == [[1, 1], [0, 0], [1, 0]]
        assert torch.equal(whole.text["input_ids"][:, : inputs.length], inputs.text["input_ids"])
        assert answers([9, 8], [], [7]).spoken == [0, 2]
        with torch.no_grad():
            ends = family(name).forward(whole)[:, inputs.length - 1]
            assert torch.allclose(ends, family(name).forward(inputs)[:, -1], atol=1e-4)


def test_empty_answers_alone_leave_the_prompts_as_they_are(tiny_llava, three):
    inputs = tiny_llava.prepare(three)
    whole = inputs.followed_by(Answer((torch.tensor([]),) * 3, ("",) * 3))
    assert whole.length == inputs.length
    assert not whole.spans.predicting.any()


def test_answers_to_other_inputs_are_refused(tiny_llava, three):
    with pytest.raises(ValueError, match=r"each of 3 prompts, found answers of \[1, 2\] tokens"):
        tiny_llava.prepare(three).followed_by(answers([1], [2, 3]))
    with pytest.raises(TypeError, match=r"as answer, found a list; give what vlm.answer"):
        tiny_llava.prepare(three).followed_by([[1]])


@pytest.mark.parametrize("wrong", [0, -1, 2.5, 2.0, True, "3"])
def test_an_answer_of_no_whole_number_of_tokens_is_refused(tiny_llava, three, wrong):
    for samples in (three[:1], three):
        inputs = tiny_llava.prepare(samples)
        with pytest.raises(ValueError, match=r"asked for max_new_tokens=.*of at least 1"):
            tiny_llava.answer(inputs, max_new_tokens=wrong)
        with pytest.raises(ValueError, match=r"asked for max_new_tokens=.*of at least 1"):
            answers_by_layer(tiny_llava, inputs, layers=[0], max_new_tokens=wrong)


def test_each_rows_limit_is_the_number_asked_for_or_its_samples(tiny_llava, three):
    three[1] = replace(three[1], max_new_tokens=2)
    inputs = tiny_llava.prepare(three)
    assert inputs.limits() == [4, 2, 4]
    assert inputs.limits(np.int64(3)) == [3, 3, 3]
    assert max(map(len, tiny_llava.answer(inputs, max_new_tokens=1).ids)) <= 1
    assert len(tiny_llava.answer(inputs).ids[1]) <= 2
    with pytest.raises(ValueError, match=r"max_new_tokens=0"):
        tiny_llava.answer(tiny_llava.prepare(replace(three[0], max_new_tokens=0)))


def test_margins_count_the_steps_between_the_two_best_first_logits(tiny_llava, three):
    inputs = tiny_llava.prepare(three)
    with torch.no_grad():
        logits = tiny_llava.forward(inputs)[:, -1]
    logits[:, tiny_llava.image_token_id] = -torch.inf
    one, two = logits.double().sort(descending=True).values[:, :2].T
    step = (np.nextafter(one.float(), np.float32(np.inf)) - one.float()).double()
    answer = tiny_llava.answer(inputs, max_new_tokens=1)
    # the mask of generation may take another kernel: rounding of 1e-6 is some units itself
    assert np.allclose(answer.margins, (one - two) / step, rtol=0.01, atol=100)
    by_layer = answers_by_layer(tiny_llava, inputs, layers=[4, 0], max_new_tokens=1)
    assert np.allclose(by_layer[4].margins, answer.margins, rtol=0.01, atol=100)
    with truncate(tiny_llava, inputs, layer=0):
        hidden = tiny_llava.answer(inputs, max_new_tokens=1).margins
    assert np.allclose(by_layer[0].margins, hidden, rtol=0.01, atol=100)
    assert by_layer[0].margins[0] != answer.margins[0]
