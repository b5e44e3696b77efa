"""Rows of one's own: an answer is one of those that count, or the right option's letter or text."""

import re
from string import ascii_uppercase as LETTERS

import numpy as np

from irlib.scores.textvqa import normalise

COUNTS = ("score",)
_LETTER = re.compile(r"\(?([A-Za-z])\)?[.:)]?", re.A)
_BEGINS = re.compile(r"\(?([A-Z])(?:\)|[.:])\s", re.A)
_SAYS = re.compile(r"\b[Aa]nswer is:? \(?([A-Z])\b", re.A)


def same(text: str) -> str:
    """Return what two answers are compared by: EvalAI's form, or the text where that is empty.

    >>> same("The two dogs."), same("A"), same("01") == same("1")
    ('2 dogs', 'a', False)
    """
    return normalise(text) or text.strip().lower()


def chosen(text: str, choices: tuple[str, ...]) -> int | None:
    """Return the option that an answer names, by its letter or its text; None for none of them.

    A letter is the whole answer ("B", "b", "(B).", "B:"), or begins it ("B. the cat", "(B) the
    cat"), or "answer is B" says it once. The text of an option goes before a letter.

    >>> [chosen(t, ("an owl", "a cat")) for t in ("B", "b.", "B. a cat", "Cat", "a bee", "C")]
    [1, 1, 1, 1, None, None]
    """
    named = [i for i, choice in enumerate(choices) if same(choice) == same(text)]
    if len(named) == 1:
        return named[0]
    text = text.strip()
    found = _LETTER.fullmatch(text) or _BEGINS.match(text)
    said = [found[1]] if found else _SAYS.findall(text)
    place = LETTERS.find(said[0].upper()) if len(said) == 1 else -1
    return place if 0 <= place < len(choices) else None


def score(reference, text: str, *, parser: str = "official") -> dict[str, float]:
    """Return 1 for an answer that is one of those that count, or the right option; else 0.

    Raises ValueError for a row without an answer: what is said there, only its reader can score.

    >>> score({"answers": ("stop", "halt")}, "Stop."), score({"answers": ("1",)}, "01")
    ({'score': 1.0}, {'score': 0.0})
    """
    if "choices" in reference:
        return {"score": float(chosen(text, reference["choices"]) == reference["answer"])}
    if not reference.get("answers"):
        raise ValueError(
            "a row without an answer was to be scored; nothing tells what is right there; give it "
            "a column answer or answers, or sweep(..., score=your own function of (sample, text))."
        )
    return {"score": float(same(text) in set(map(same, reference["answers"])))}


def pool(counts: dict[str, np.ndarray], total) -> dict[str, np.ndarray]:
    """Return the mean over rows."""
    return {"Own score": total(counts["score"]) / total(np.ones_like(counts["score"]))}
