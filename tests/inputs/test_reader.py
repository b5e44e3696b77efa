import pytest
import torch

from irlib import attention_flow, llava_cam, load, load_task
from irlib.inputs.records import Answer
from irlib.models.spelling import spelled

MINIS = ["mini-llava", "mini-internvl", "mini-qwen2vl", "mini-instructblip", "mini-shikra"]


@pytest.mark.parametrize("name", MINIS)
def test_an_answer_given_as_text_has_the_tokens_that_the_model_said(name):
    """Oracle: the model's own greedy ids, in one word and in sentences."""
    vlm = load(name)
    samples = [*load_task("pope", n=3), *load_task("textvqa", n=3), *load_task("chair", n=2)]
    inputs = vlm.prepare(samples)
    said = vlm.answer(inputs)
    made = spelled(vlm, inputs, list(said.texts))
    assert [ids.tolist() for ids in made.ids] == [ids.tolist() for ids in said.ids]
    assert made.texts == said.texts


def test_instruments_take_text_where_they_take_an_answer():
    vlm = load("mini-llava")
    inputs = vlm.prepare(load_task("pope", n=1)[0])
    said = vlm.answer(inputs)
    flow, told = (attention_flow(vlm, inputs, one) for one in (said, said.text))
    assert flow.equals(told)
    maps, told = (llava_cam(vlm, inputs, one).heat for one in (said, said.text))
    assert (maps == told).all()
    assert not (maps == llava_cam(vlm, inputs, "A red car").heat).all()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("yes</s>", r"found the special token \['</s>'\]"),
        ("a <image>", "found the special token"),
        (["yes", "no"], "to 1 prompts, found 2; give one text a prompt"),
        ([], "found 0; give one text a prompt"),
    ],
)
def test_answers_in_text_that_would_be_another_text_are_refused(
    tiny_llava, sample, answer, message
):
    with pytest.raises(ValueError, match=message):
        spelled(tiny_llava, tiny_llava.prepare(sample), answer)


@pytest.mark.parametrize("answer", [None, 3, b"yes", [b"yes"], {"yes": 1}])
def test_answers_of_no_kind_are_refused(tiny_llava, sample, answer):
    with pytest.raises(TypeError, match="the text of an answer for each row"):
        spelled(tiny_llava, tiny_llava.prepare(sample), answer)


def test_an_empty_text_is_the_answer_of_a_model_that_ended_at_once(tiny_llava, sample):
    answer = spelled(tiny_llava, tiny_llava.prepare(sample), " ")
    assert (answer.spoken, answer.texts) == ([], ("",))


def test_inputs_of_another_model_are_refused_by_whatever_runs_it():
    one, other = load("mini-llava"), load("mini-internvl")
    sample = load_task("pope", n=1)[0]
    inputs, own = one.prepare(sample), other.prepare(sample)
    asked = [
        lambda: other.answer(inputs),
        lambda: other.forward(inputs),
        lambda: other.encode(inputs),
        lambda: attention_flow(other, inputs, one.answer(inputs)),
        lambda: llava_cam(other, own, one.answer(inputs)),
    ]
    for ask in asked:
        with pytest.raises(ValueError, match="made by mini-llava, whose words"):
            ask()


def test_inputs_of_the_same_words_and_another_cut_are_refused():
    """mini-llava-next has mini-llava's tokens and more of them for a picture."""
    one, other = load("mini-llava"), load("mini-llava-next")
    inputs = one.prepare(load_task("pope", n=1)[0])
    with pytest.raises(ValueError, match="whose pictures are others"):
        other.answer(inputs)


def test_inputs_may_be_shared_with_a_copy_of_the_model(tmp_path, tiny_folder, tiny_llava, sample):
    import shutil

    copy = load(str(shutil.copytree(tiny_folder, tmp_path / "copy")))
    inputs = tiny_llava.prepare(sample)
    assert torch.equal(copy.forward(inputs), tiny_llava.forward(inputs))


def test_inputs_of_another_dtype_are_refused(tiny_folder, tiny_llava, sample):
    half = load(str(tiny_folder), dtype="bfloat16")
    with pytest.raises(ValueError, match="with pixels in float32; prepare them with this model"):
        half.forward(tiny_llava.prepare(sample))


def test_answers_made_by_hand_go_with_any_inputs(tiny_llava, sample):
    inputs = tiny_llava.prepare(sample)
    assert inputs.followed_by(Answer((torch.tensor([300]),), ("",))).length == inputs.length + 1
