"""An answer's tokens as words: each token in one, and words where a reader sees them."""

import pytest

from irlib.explorer.words import words_of


class Letters:
    """A tokenizer whose tokens are bytes of UTF-8, several of which may spell one letter."""

    def decode(self, ids, **_):
        return b"".join(ids).decode(errors="replace")


class Told:
    """A model of which only the tokenizer is asked."""

    def __init__(self):
        self.processor = type("Processor", (), {"tokenizer": Letters()})()


def spelled(*tokens):
    return words_of(Told(), tokens)  # bytes for ids


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        ([b" No", b",", b" two", b" si", b"gns", b"."], [[0, 1], [2], [3, 4, 5]]),
        ([b"The", b" ", b"cat", b" ", b" "], [[0, 1], [2, 3, 4]]),
        (["猫".encode()[:1], "猫".encode()[1:2], "猫".encode()[2:], "と".encode(), b" dog"],
         [[0, 1, 2], [3], [4]]),
        ([b"caf", "é".encode()[:1], "é".encode()[1:], b" ok"], [[0, 1, 2], [3]]),
        ([b"one"], [[0]]),
        ([b"a\n", b"b"], [[0], [1]]),
        ([b"don", b"'t", b"-", b"know"], [[0, 1, 2, 3]]),
    ],
)  # fmt: skip
def test_each_token_is_in_the_word_that_a_reader_sees(tokens, words):
    found = spelled(*tokens)
    assert [word["tokens"] for word in found] == words
    assert sorted(t for word in found for t in word["tokens"]) == list(range(len(tokens)))


def test_words_with_their_spaces_are_the_answer():
    found = spelled(b"No", b", ", "猫".encode(), "犬".encode(), b" two")
    text = "".join(" " * word["space"] + word["text"] for word in found)
    assert text == "No, 猫犬 two"


def test_an_answer_without_a_token_has_no_words(tiny_llava):
    assert words_of(tiny_llava, []) == []


def test_a_models_answer_is_read_back_from_its_words(tiny_llava, sample):
    answer = tiny_llava.answer(tiny_llava.prepare(sample))
    words = words_of(tiny_llava, answer.ids[0])
    assert "".join(word["text"] for word in words) == "".join(answer.text.split())
