"""POPE: is there an X in the image? Accuracy, precision, recall, F1 and the share of yes."""

import numpy as np

COUNTS = ("score", "said_yes", "is_yes")


def says_yes(text: str, *, parser: str = "official") -> bool:
    """Return whether the answer counts as yes; whatever is not a no is a yes, case matters.

    "official" is POPE's own evaluate.py (the same in LLaVA): up to the first full stop, commas
    dropped, split at single spaces, no if a word is exactly "No", "not" or "no". "authors" is the
    recorder of the paper's code: the whole text, full stops dropped too, and "NO" or a word ending
    in "n't" count as no.

    >>> says_yes("A cat. No dog."), says_yes("A cat. No dog.", parser="authors")
    (True, False)
    >>> says_yes("It isn't."), says_yes("It isn't.", parser="authors")
    (True, False)
    """
    if parser == "authors":
        words = text.replace(".", "").replace(",", "").split(" ")
        return not any(word in ("No", "not", "no", "NO") or word.endswith("n't") for word in words)
    words = text.split(".")[0].replace(",", "").split(" ")
    return not any(word in ("No", "not", "no") for word in words)


def score(reference, text: str, *, parser: str = "official") -> dict[str, float]:
    """Return whether answer and label ("yes" or "no") agree, and both of them as 0 or 1.

    >>> score({"label": "yes"}, "Yes")
    {'score': 1.0, 'said_yes': 1.0, 'is_yes': 1.0}
    """
    said, truth = says_yes(text, parser=parser), reference["label"] == "yes"
    return {"score": float(said == truth), "said_yes": float(said), "is_yes": float(truth)}


def pool(counts: dict[str, np.ndarray], total) -> dict[str, np.ndarray]:
    """Return P = TP/(TP+FP), R = TP/(TP+FN), F1 = 2PR/(P+R); 0 where nothing was called yes."""
    said, truth = counts["said_yes"], counts["is_yes"]
    n, hits = total(np.ones_like(said)), total(said * truth)
    precision, recall = ratio(hits, total(said)), ratio(hits, total(truth))
    return {
        "POPE Acc": ratio(total(counts["score"]), n),
        "POPE P": precision,
        "POPE R": recall,
        "POPE F1": ratio(2 * precision * recall, precision + recall),
        "POPE yes": ratio(total(said), n),
    }


def ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Return above / below, and 0 where below is 0.

    >>> ratio(np.array([1.0, 2.0]), np.array([4.0, 0.0]))
    array([0.25, 0.  ])
    """
    above, below = np.broadcast_arrays(np.asarray(above, float), np.asarray(below, float))
    return np.divide(above, below, out=np.zeros(above.shape), where=below != 0)
