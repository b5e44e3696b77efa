"""TextVQA: soft accuracy of a read answer against ten people's, normalised as EvalAI does."""

import re
from collections import Counter

import numpy as np

COUNTS = ("score",)

_PUNCTUATION = ';/[]"{}()=+\\_-><@`!'  # commas and question marks go before
# EvalAI's lookbehind is mistyped as a lookahead that always holds; kept, it turns "2." into "2".
_PERIOD = re.compile(r"(?!<=\d)(\.)(?!\d)")
_PERIODS = 32  # EvalAI passes re.UNICODE, which is 32, where the count belongs
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_DIGITS = {"none": "0"} | {word: str(i) for i, word in enumerate(_NUMBERS)}
_ARTICLES = ("a", "an", "the")
# EvalAI's contractions, as far as lower-cased words can meet them: written without one apostrophe
_ONE = """
    ain't aren't can't could've couldn't didn't doesn't don't hadn't hasn't haven't he'd he's
    how'd how'll how's isn't it'd it'll ma'am mightn't might've mustn't must've needn't not've
    o'clock oughtn't shan't should've shouldn't somebody'll somebody's someone'd someone'll
    someone's something'd something'll that's there'd there're there's they'd they'll they're
    they've 'twas wasn't we've weren't what'll what're what's what've when's where'd where's
    where've who'd who'll who's who've why'll why're why's won't would've wouldn't y'all you'd
    you'll you're you've
""".split()
_TWO = """
    couldn't've hadn't've he'd've it'd've mightn't've she'd've shouldn't've somebody'd've
    someone'd've something'd've there'd've they'd've we'd've who'd've wouldn't've you'd've
    y'all'll
""".split()
_CONTRACTIONS = (
    {word.replace("'", ""): word for word in _ONE}
    | {a + b + "'" + c: f"{a}'{b}'{c}" for a, b, c in (word.split("'") for word in _TWO)}
    | {a + "'" + b + c: f"{a}'{b}'{c}" for a, b, c in (word.split("'") for word in _TWO)}
    | dict.fromkeys(("yall'd've", "y'alld've", "y'all'dve"), "y'all'd've")
    | {"'ows'at": "'ow's'at", "somebody'd": "somebodyd"}
)


def normalise(text: str) -> str:
    """Return the answer as EvalAI's processor compares it, its oddities kept.

    >>> [normalise(t) for t in ("The two dogs", "King's Cross!", "2.", "A", "dont", "Coca-Cola")]
    ['2 dogs', "king 's cross", '2', '', "don't", 'coca cola']
    """
    text = text.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()
    text = text.replace("\n", " ").replace("\t", " ")
    spaced = text
    for mark in _PUNCTUATION:
        drop = f"{mark} " in text or f" {mark}" in text
        spaced = spaced.replace(mark, "" if drop else " ")
    words = _PERIOD.sub("", spaced, count=_PERIODS).split()
    words = [_DIGITS.get(word, word) for word in words]
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def score(reference, text: str, *, parser: str = "official") -> dict[str, float]:
    """Return (1/10) sum_i min(1, #{j != i: a_j equals the answer} / 3), all of them normalised.

    With k of ten people agreeing that is 0, 0.3, 0.6, 0.9 and 1 for k = 0, 1, 2, 3 and more; an
    answer that nobody gave scores 0.

    >>> score({"answers": ["stop"] * 3 + ["halt"] * 7}, "Stop.")
    {'score': 0.9}
    """
    answers = reference["answers"]
    matches = Counter(map(normalise, answers))[normalise(text)]
    others = len(answers) - matches
    agreeing = matches * min(1, (matches - 1) / 3) + others * min(1, matches / 3)
    return {"score": round(agreeing / len(answers), 12) if matches else 0.0}


def pool(counts: dict[str, np.ndarray], total) -> dict[str, np.ndarray]:
    """Return the mean over questions."""
    return {"TextVQA Acc": total(counts["score"]) / total(np.ones_like(counts["score"]))}
