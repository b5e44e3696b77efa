"""An answer as the words that a reader picks, each with the tokens that spell it."""

import unicodedata
from collections.abc import Sequence
from itertools import accumulate

from torch import Tensor


def words_of(vlm, ids: Tensor | Sequence[int]) -> list[dict]:
    """The words of an answer `ids [token]`, in order: `text`, `tokens`, and whether a `space`
    stands before it.

    Each token is in one word, and in one only: a word begins behind a space, at a letter that
    stands for itself (Chinese, Japanese, Korean) and behind one; tokens that spell no letter of
    their own (spaces, the further bytes of a letter) go with the word before them.

    >>> from irlib import load
    >>> vlm = load("mini-llava")
    >>> ids = vlm.processor.tokenizer("No, two signs.", add_special_tokens=False)["input_ids"]
    >>> [word["text"] for word in words_of(vlm, ids)]
    ['No,', 'two', 'signs.']
    """
    ids = [*ids] if isinstance(ids, list | tuple) else ids.tolist()
    tokenizer = vlm.processor.tokenizer
    told = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}
    ends = [len(tokenizer.decode(ids[: place + 1], **told)) for place in range(len(ids))]
    ends = [*accumulate(reversed(ends), min)][::-1]  # a half letter may be longer than the whole
    text = tokenizer.decode(ids, **told)
    words = []
    for place, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
        if words and not _begins(text, start, end):
            words[-1]["tokens"].append(place)
            words[-1]["end"] = end
        else:
            words.append({"tokens": [place], "start": start, "end": end})
    for word in words:
        start, end = word.pop("start"), word.pop("end")
        word["text"] = text[start:end].strip() or text[start:end]
        word["space"] = any(map(str.isspace, text[max(0, start - 1) : start + 1]))
    return words


def _begins(text: str, start: int, end: int) -> bool:
    """Whether a word begins with the letters from `start` to `end`."""
    if not text[start:end].strip():
        return False
    first, last = text[start], text[start - 1 : start]
    return first.isspace() or last.isspace() or _wide(first) or _wide(last)


def _wide(letter: str) -> bool:
    """Whether a letter stands for itself, as those do that take two places."""
    return bool(letter) and unicodedata.east_asian_width(letter) in "WF"
