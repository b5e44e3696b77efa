"""Where answers can be read: against the lens itself."""

import logging

import pytest

from irlib import load, load_task, logit_lens
from irlib.evidence import estimate, readable


@pytest.fixture(scope="module")
def mini():
    return load("mini-llava")


@pytest.fixture(scope="module")
def samples():
    return load_task("textvqa", n=3, per_picture=1)


def test_a_cell_is_what_the_lens_says_of_the_first_token(mini, samples):
    table = readable.readable(mini, samples, top=5, layers=[2, 11])
    said = [mini.answer(mini.prepare(one), max_new_tokens=1) for one in samples]
    assert len({answer.ids[0].item() for answer in said}) > 1
    for place, sample in enumerate(samples):
        inputs, mine = mini.prepare(sample), table[table["sample"] == sample.key]
        other = said[(place + 1) % 3]  # as it comes: it may be the same word
        for row, of, at, answer, most in (
            ("first", "own", "answer", said[place], 1),
            ("image", "own", "image", said[place], 5),
            ("image", "other", "image", other, 5),
        ):
            lens = logit_lens(mini, inputs, answer, at=at, layers=[2, 11])
            wanted = lens.groupby("layer")["rank"].min() < most
            found = mine[(mine["row"] == row) & (mine["of"] == of)].set_index("layer")["readable"]
            assert found.to_dict() == wanted.astype(int).to_dict()


def test_both_words_are_looked_for_at_one_reading_of_the_picture(mini, samples, monkeypatch):
    runs, real = [], type(mini).forward

    def count(vlm, *args, **kwargs):
        runs.append(1)
        return real(vlm, *args, **kwargs)

    monkeypatch.setattr(type(mini), "forward", count)
    readable.readable(mini, samples, layers=[2])
    assert len(runs) == 2 * len(samples)


def test_behind_the_last_layer_the_last_row_says_the_answer(mini, samples):
    table = readable.readable(mini, samples, layers=[11])
    assert set(table.loc[table["row"] == "first", "readable"]) == {1}


def test_another_answer_may_be_the_same_word_and_one_question_has_none(mini, samples):
    table = readable.readable(mini, [samples[0]] * 2, layers=[0])
    image = table[table["row"] == "image"].groupby("of")["readable"].sum()
    assert image["own"] == image["other"]
    assert set(readable.readable(mini, samples[0], layers=[0])["of"]) == {"own"}


def test_a_share_is_over_pictures(mini, samples):
    table = readable.readable(mini, samples, layers=[0])
    found = readable.by_layer(table).set_index(["row", "of"])
    mine = table[(table["row"] == "image") & (table["of"] == "own")]["readable"]
    wanted = estimate(mine, within=(0, 1))
    line = found.loc[("image", "own")]
    assert (line["value"], line["low"], line["n"]) == (wanted.value, wanted.low, 3)


def test_an_empty_answer_is_named(tiny_llava, sample, monkeypatch, caplog):
    monkeypatch.setattr(type(tiny_llava), "end_ids", tiny_llava.answer(
        tiny_llava.prepare(sample), max_new_tokens=1).ids[0])  # fmt: skip
    with caplog.at_level(logging.WARNING):
        assert readable.readable(tiny_llava, sample).empty
    assert "the answer is empty" in caplog.text


@pytest.mark.parametrize(
    ("options", "words"), [({"top": 0}, "top"), ({"layers": [4]}, "layers"), ({}, "no sample")]
)
def test_what_cannot_be_read_is_refused(tiny_llava, sample, options, words):
    with pytest.raises(ValueError, match=words):
        readable.readable(tiny_llava, [sample] if options else [], **options)


def test_samples_without_a_picture_are_refused(tiny_llava, text_sample):
    with pytest.raises(ValueError, match="without one"):
        readable.readable(tiny_llava, text_sample)
