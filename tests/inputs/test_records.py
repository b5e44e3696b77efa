"""Records show themselves in a line; rows are taken whole."""

import re

import pytest
import torch
from conftest import make_sample, noise_picture

from irlib.cam.cam import llava_cam
from irlib.inputs.records import Answer


def test_records_show_themselves_in_a_line(tiny_llava, samples):
    inputs = tiny_llava.prepare(samples[0])
    answer = Answer((torch.tensor([300, 301]),), ("a red cat",))
    shown = {
        repr(tiny_llava): "VLM(tiny-llava, LLaVA-1.5, 4 layers, float32 on cpu)",
        repr(inputs): "Inputs(1 row, 63 positions, 16 image tokens)",
        repr(inputs.spans): "Spans(system 32, image 16, between 0, user 15, answer 0)",
        repr(inputs.grid): "Grid(60 x 40 pixels, 16 image tokens, 4 x 4 cells)",
        repr(answer): "Answer('a red cat', 2 tokens)",
        repr(llava_cam(tiny_llava, inputs, answer)): "Maps(tiny-llava, pope a, post_attention, 4 "
        "layers, 4 x 4 cells)",
        repr(tiny_llava.encode(inputs).visual[0]["features"]): "Features(16 tokens, 64 channels)",
    }
    assert list(shown) == list(shown.values())


def test_records_of_several_rows_show_their_range(tiny_llava, samples, text_sample):
    inputs = tiny_llava.prepare([*samples, text_sample])
    assert re.fullmatch(r"Inputs\(3 rows, \d+ positions, 0 to 16 image tokens\)", repr(inputs))
    long = "word " * 40
    answer = Answer((torch.arange(40), torch.arange(2)), (long, "b"))
    assert re.fullmatch(r"Answer\('[word ]+ \.\.\.' and 1 more, 42 tokens\)", repr(answer))
    assert repr(Answer((torch.tensor([], dtype=int),), ("",))) == "Answer('', 0 tokens)"


@pytest.mark.parametrize("name", ["qwen3_vl", "llava_next", "instructblip"])
def test_records_of_every_kind_are_a_short_line(family, name):
    vlm = family(name)
    inputs = vlm.encode(vlm.prepare(make_sample(noise_picture(60, 40, seed=0))))
    told = [vlm, inputs, inputs.spans, inputs.grid, inputs.visual[0]["features"]]
    assert all(len(repr(one)) <= 110 and "\n" not in repr(one) for one in told)


@pytest.mark.parametrize("rows", [[False, True], [2], [-1], [0.0], 0])
def test_rows_that_are_not_there_and_a_mask_are_refused(tiny_llava, samples, rows):
    """Of a list of bools torch takes a mask and Python the rows 0 and 1."""
    inputs = tiny_llava.prepare(samples[:2])
    answer = Answer((torch.tensor([300]), torch.tensor([301])), ("", ""))
    for record in (inputs, answer):
        with pytest.raises(ValueError, match=r"asked for rows.*; give a "):
            record.take(rows)


@pytest.mark.parametrize("name", ["paligemma", "gemma3", "qwen2_vl"])
def test_rows_taken_before_an_answer_follows_are_those_taken_after(family, name):
    """PaliGemma tells the answer's tokens by a value that is not 0: rows must keep it."""
    vlm = family(name)
    samples = [
        make_sample(noise_picture(60, 40, seed=0)),
        make_sample(noise_picture(30, 50, seed=1), "Is there a red cat in the picture?", "b"),
    ]
    inputs = vlm.prepare(samples)
    answer = Answer((torch.tensor([300]), torch.tensor([301, 302])), ("", ""))
    after = inputs.followed_by(answer).take([1, 0])
    turned = Answer(answer.ids[::-1], answer.texts[::-1])
    before = inputs.take([1, 0]).followed_by(turned)
    assert before.appended == inputs.appended == after.appended
    assert all(torch.equal(before.text[key], after.text[key]) for key in inputs.text)
    types = vlm.family.types
    tail = before.text[types.name][:, inputs.length :]
    assert (tail == types.answer).all()
    assert all(
        torch.equal(getattr(before.spans, key), mask) for key, mask in vars(after.spans).items()
    )
