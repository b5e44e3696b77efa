"""ScienceQA: a lettered choice. Accuracy over all rows, and over those with a picture."""

import re

import numpy as np

COUNTS = ("score", "has_image")
LETTERS = "ABCDE"


def letter(text: str) -> str | None:
    """Return the letter that LLaVA's eval_science_qa.py reads from an answer, or None.

    The whole text is one of A to E; or it starts with one and ". "; or "The answer is X." occurs
    exactly once (its full stop stands for any character, as there).

    >>> letter("B"), letter("B. the cat"), letter("The answer is C."), letter("B."), letter("b")
    ('B', 'B', 'C', None, None)
    """
    if text and text in LETTERS and len(text) == 1:
        return text
    if len(text) >= 3 and text[0] in LETTERS and text[1:3] == ". ":
        return text[0]
    found = re.findall(r"The answer is ([A-Z]).", text)
    return found[0] if len(found) == 1 else None


def score(reference, text: str, *, parser: str = "official") -> dict[str, float]:
    """Return whether the letter is the right one; none, or one beyond the choices, is wrong.

    >>> score({"answer": 1, "choices": ("dog", "cat"), "has_image": True}, "B")
    {'score': 1.0, 'has_image': 1.0}
    """
    chosen = letter(text)
    options = LETTERS[: len(reference["choices"])]
    right = chosen is not None and options.find(chosen) == reference["answer"]
    return {"score": float(right), "has_image": float(reference["has_image"])}


def pool(counts: dict[str, np.ndarray], total) -> dict[str, np.ndarray]:
    """Return both accuracies; "SQA IMG Acc" is NaN where no row has a picture."""
    right, pictured = counts["score"], counts["has_image"]
    with np.errstate(invalid="ignore"):
        return {
            "SQA IMG Acc": np.divide(total(right * pictured), total(pictured)),
            "SQA Acc": np.divide(total(right), total(np.ones_like(right))),
        }
