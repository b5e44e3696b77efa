import copy
import re
import warnings

import numpy as np
import pytest
import torch
from conftest import make_sample, noise_picture

from irlib.inputs.preparing import _spans
from irlib.inputs.records import Answer
from irlib.inputs.spans import SEGMENTS
from irlib.models.families import VICUNA
from irlib.tasks.samples import Sample


def text_of(vlm, inputs, mask, row=0):
    return vlm.processor.tokenizer.decode(inputs.batch["input_ids"][row][mask[row]])


def test_prompt_is_vicuna_v1_to_the_letter(tiny_llava, sample):
    inputs = tiny_llava.prepare(sample)
    said = tiny_llava.processor.tokenizer.decode(inputs.batch["input_ids"][0])
    image = "<image>" * 16
    assert said == f"<s>{VICUNA} USER: {image}\n{sample.prompt} ASSISTANT:"


def test_segments_are_read_from_the_ids(tiny_llava, sample):
    inputs = tiny_llava.prepare(sample)
    assert text_of(tiny_llava, inputs, inputs.spans.system) == f"<s>{VICUNA} USER: "
    assert text_of(tiny_llava, inputs, inputs.spans.user) == f"\n{sample.prompt} ASSISTANT:"
    image = inputs.batch["input_ids"] == tiny_llava.image_token_id
    assert torch.equal(inputs.spans.image, image)
    assert not inputs.spans.between.any()
    assert not inputs.spans.answer.any()


def test_segments_and_padding_divide_every_row(tiny_llava, samples, text_sample):
    inputs = tiny_llava.prepare([*samples, text_sample])
    held = torch.stack([getattr(inputs.spans, name) for name in SEGMENTS]).sum(0)
    assert torch.equal(held, inputs.batch["attention_mask"])
    assert (held[:, -1] == 1).all()
    assert (held[:, 0] == 0).any()


def test_positions_among_the_image_tokens_are_between(tiny_llava, sample):
    """A marker inside the image, as families with tiles have it."""
    inputs = tiny_llava.prepare(sample)
    marked = inputs.batch["input_ids"].clone()
    marker = inputs.spans.image[0].nonzero()[5]
    marked[0, marker] = 300
    batch = inputs.batch | {"input_ids": marked}
    spans = _spans(tiny_llava, batch, inputs.samples, [""])
    assert spans.between[0].nonzero().tolist() == [marker.tolist()]
    assert spans.image.sum() == 15
    assert torch.equal(spans.user, inputs.spans.user)


def test_sample_without_picture_has_no_image_and_begins_with_the_question(tiny_llava, text_sample):
    inputs = tiny_llava.prepare(text_sample)
    assert not inputs.spans.image.any()
    assert inputs.grid is None
    assert "pixel_values" not in inputs.batch
    assert text_of(tiny_llava, inputs, inputs.spans.system).strip() == f"<s>{VICUNA} USER:"
    user = text_of(tiny_llava, inputs, inputs.spans.user).strip()
    assert user == f"{text_sample.prompt} ASSISTANT:"


def test_picture_and_question_of_the_user_make_a_sample(tiny_llava, photograph):
    inputs = tiny_llava.prepare(image=photograph, question="What is in the picture?")
    assert inputs.samples[0].task == "user"
    assert inputs.samples[0].key == "grace_hopper.jpg"
    assert text_of(tiny_llava, inputs, inputs.spans.user).strip().startswith("What is in")


def test_take_repeats_rows_with_their_pictures(tiny_llava, samples, text_sample):
    inputs = tiny_llava.prepare([samples[0], text_sample, samples[1]])
    taken = inputs.take([2, 1, 2])
    assert [sample.key for sample in taken.samples] == ["b", "text", "b"]
    assert torch.equal(taken.batch["pixel_values"], inputs.batch["pixel_values"][[1, 1]])
    assert torch.equal(taken.batch["input_ids"], inputs.batch["input_ids"][[2, 1, 2]])
    assert torch.equal(taken.spans.user, inputs.spans.user[[2, 1, 2]])
    assert "pixel_values" not in inputs.take([1]).batch


def test_answers_follow_their_prompts_padded_on_the_right(tiny_llava, samples):
    inputs = tiny_llava.prepare(samples)
    answer = Answer((torch.tensor([300]), torch.tensor([301, 302])), ("", ""))
    whole = inputs.followed_by(answer)
    assert whole.batch["input_ids"][:, -2:].tolist() == [[300, 0], [301, 302]]
    assert whole.batch["attention_mask"][:, -2:].tolist() == [[1, 0], [1, 1]]
    assert whole.spans.answer[:, -2:].tolist() == [[True, False], [True, True]]
    rows = whole.spans.predicting.nonzero().tolist()
    assert rows == [[0, inputs.length - 1], [1, inputs.length - 1], [1, inputs.length]]
    assert inputs.batch["input_ids"].shape[1] == inputs.length  # the prompt is left as it was


def test_answer_for_another_number_of_rows_is_refused(tiny_llava, samples):
    with pytest.raises(ValueError, match=r"asked to append an answer to each of 2 prompts"):
        tiny_llava.prepare(samples).followed_by(Answer((torch.tensor([300]),), ("",)))


def test_grid_of_several_rows_is_refused(tiny_llava, samples):
    with pytest.raises(ValueError, match=r"asked for the grid of the only row, found 2 rows"):
        _ = tiny_llava.prepare(samples).grid


@pytest.mark.parametrize("question", [None, "", "  ", 3])
def test_missing_question_is_refused(tiny_llava, picture, question):
    with pytest.raises(ValueError, match=r"found the question"):
        tiny_llava.prepare(image=picture, question=question)


def test_no_samples_are_refused(tiny_llava):
    with pytest.raises(ValueError, match=r"found it empty; give at least one"):
        tiny_llava.prepare([])


@pytest.mark.parametrize("sample", [3, ["pope"], [None], {"image": None}])
def test_what_is_no_sample_is_refused(tiny_llava, sample):
    with pytest.raises(TypeError, match=r"as a sample, found a \w+; give one of load_task"):
        tiny_llava.prepare(sample)


@pytest.mark.parametrize("token", ["<image>", "</s>"])
@pytest.mark.parametrize("with_picture", [True, False])
def test_special_token_in_a_question_is_refused(tiny_llava, picture, token, with_picture):
    with pytest.raises(ValueError, match=r"asked the question .*special token.*leave it out"):
        tiny_llava.prepare(
            image=picture if with_picture else None, question=f"What is {token} this?"
        )


def test_missing_and_broken_pictures_are_named_at_the_door(tiny_llava, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n but no more")
    with pytest.raises(ValueError, match=r"broken.png"):
        tiny_llava.prepare(image=tmp_path / "broken.png", question="What is it?")
    with pytest.raises(FileNotFoundError, match=r"absent.png"):
        tiny_llava.prepare(image=str(tmp_path / "absent.png"), question="What is it?")
    with pytest.raises(FileNotFoundError, match=r"a.png"):
        tiny_llava.prepare(image=["a.png", "b.png"], question="What is it?")


@pytest.mark.parametrize(("copies", "found"), [("", 0), ("<image><image>", 2)])
def test_template_with_no_or_two_placeholders_is_refused(tiny_llava, sample, copies, found):
    processor = copy.copy(tiny_llava.processor)
    processor.chat_template = processor.chat_template.replace("<image>", copies)
    broken = type(tiny_llava)("broken", tiny_llava.model, processor, tiny_llava.family)
    with pytest.raises(ValueError, match=rf"with 1 picture, found {found} '<image>'.*repair"):
        broken.prepare(sample)


def test_no_image_token_where_there_is_a_picture_is_refused(tiny_llava, sample):
    model = copy.deepcopy(tiny_llava.model)
    model.config.image_token_id = 77
    other = type(tiny_llava)("other", model, tiny_llava.processor, tiny_llava.family)
    with pytest.raises(ValueError, match=r"found no image token 77.*disagree"):
        other.prepare(sample)


def test_processor_with_another_number_of_image_tokens_is_refused(tiny_llava, sample):
    processor = copy.copy(tiny_llava.processor)
    processor.num_additional_image_tokens = 0
    other = type(tiny_llava)("other", tiny_llava.model, processor, tiny_llava.family)
    with pytest.raises(ValueError, match=r"found 15 image tokens for 16 features"):
        other.prepare(sample)


def test_question_that_is_spelled_out_warns(tiny_llava, picture):
    with pytest.warns(UserWarning, match=r"takes .* tokens for 2 words: it is spelled out") as said:
        tiny_llava.prepare(image=picture, question="Xylophonists yodelling?")
    assert said[0].filename == __file__


def test_question_of_known_words_does_not_warn(tiny_llava, picture):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tiny_llava.prepare(image=picture, question="What is in the picture?")


def test_paths_and_pictures_prepare_alike(tiny_llava, tmp_path):
    picture = noise_picture(60, 40, seed=0)
    picture.save(tmp_path / "picture.png")
    by_path = make_sample(tmp_path / "picture.png")
    assert isinstance(by_path, Sample)
    a, b = tiny_llava.prepare(by_path), tiny_llava.prepare(make_sample(picture))
    assert torch.equal(a.batch["pixel_values"], b.batch["pixel_values"])


def test_a_picture_and_a_question_are_taken_in_every_form(tmp_path, tiny_llava, picture):
    """Oracle: the same pixels as a sample's."""
    path = tmp_path / "photo.png"
    picture.save(path)
    wanted = tiny_llava.prepare(image=picture, question="What is this?").batch
    forms = [picture, path, str(path), np.asarray(picture), path.read_bytes()]
    for form in forms:
        made = tiny_llava.prepare(form, "What is this?").batch
        assert all(torch.equal(made[key], wanted[key]) for key in wanted), type(form)


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        (("photo.jpg",), ValueError, "found the question None; give a sample, or a picture"),
        (("photo.jpg", " "), ValueError, "found the question ' '"),
        (("What is this?", "photo.jpg"), FileNotFoundError, "found no such file"),
        (("~nobody-here/a.jpg", "What?"), ValueError, "found no home of that name"),
        ((["a.jpg", "b.jpg"], "What?"), FileNotFoundError, "found no such file"),
        (([], "What?"), ValueError, "about a list of pictures, found it empty"),
        ((3, "What?"), ValueError, "asked for the picture"),
    ],
)
def test_what_is_no_picture_and_question_is_refused_in_words(tiny_llava, asked, error, message):
    with pytest.raises(error, match=re.escape(message)):
        tiny_llava.prepare(*asked)


def test_a_sample_is_not_asked_something_else(tiny_llava, sample, picture):
    for more in ({"question": "What?"}, {"image": picture}):
        with pytest.raises(ValueError, match="found it whole already"):
            tiny_llava.prepare(sample, **more)
    with pytest.raises(ValueError, match="found two pictures"):
        tiny_llava.prepare(picture, "What?", image=picture)
