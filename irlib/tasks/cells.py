"""What a cell of one's own table means: a text, answers, options, boxes; else what is wrong."""

import ast
import json
import math
import re
from collections.abc import Mapping, Sequence
from string import ascii_uppercase as LETTERS

from irlib.scores.own import same
from irlib.tasks.samples import Box

WRITE = "write a text"


def missing(value: object) -> bool:
    """Return whether a cell is empty: nothing, white space, or a float that is no number.

    >>> missing(float("nan")), missing(" "), missing("None"), missing(0)
    (True, True, False, False)
    """
    if isinstance(value, str):
        return not value.strip()
    return value is None or (isinstance(value, float) and math.isnan(value))


def text(value: object) -> str:
    """Return a cell's text; raise ValueError where it is empty or something else."""
    if missing(value):
        raise ValueError(f"is empty; {WRITE}")
    if not isinstance(value, str):
        raise ValueError(f"is {_short(value)}, a {type(value).__name__}; {WRITE}")
    return value


def answer(value: object) -> str:
    """Return an answer as it is compared; a whole number is its digits.

    Raises ValueError for a bool and a float that is whole (1.0 may have been 1), whose texts are
    not those that anybody wrote.

    >>> answer("01"), answer(7), answer("None")
    ('01', '7', 'None')
    """
    if isinstance(value, bool):
        raise ValueError(f"is the value {value}; write the text that counts, yes or true")
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float) and math.isfinite(value):
        if value.is_integer():
            raise ValueError(f"is the float {value}, which may have been {value:.0f}; {WRITE}")
        return repr(value)
    return text(value).strip()


def listed(value: object) -> list | None:
    """Return the list that a cell is or spells, as JSON or as Python writes it; None where none.

    Raises ValueError for brackets around something that does not read as a list.

    >>> listed('["a", "b"]'), listed("['a', 'b']"), listed("a, b")
    (['a', 'b'], ['a', 'b'], None)
    """
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return list(value)
    bare = value.strip() if isinstance(value, str) else ""
    if not (bare.startswith("[") and bare.endswith("]")):
        return None
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(bare)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        # numpy's "['a' 'b']" reads as ['ab']: Python joins texts that no comma divides
        tight = re.sub(r"\s", "", str(found)) == re.sub(r"\s", "", bare)
        if isinstance(found, list) and (read is json.loads or tight):
            return found
    raise ValueError(f"is {_short(value)}, in brackets and no list; write a JSON list of texts")


def answers(value: object, *, divided: bool = False) -> tuple[str, ...]:
    """Return the answers that count: a list's, those divided by "|" where that is meant, or one."""
    found = listed(value)
    if found is None and divided and isinstance(value, str) and not missing(value):
        found = value.split("|")
    found = [value] if found is None else found
    if not found:
        raise ValueError("is an empty list; give one answer or more")
    return tuple(map(answer, found))


def options(row: Mapping, lettered: Sequence[str], column: str | None) -> tuple[str, ...]:
    """Return a row's options: those of a list's column, or of the columns A, B, C, ... in order.

    Raises ValueError for fewer than two, and for one that is empty before another.
    """
    if column is not None:
        found = listed(row[column])
        if found is None and isinstance(row[column], str) and not missing(row[column]):
            found = row[column].split("|")
        found = found or []
    else:
        found = [row[name] for name in lettered]
        while found and missing(found[-1]):
            found.pop()
    if not 2 <= len(found) <= len(LETTERS):
        raise ValueError(f"has {len(found)} options; give 2 to {len(LETTERS)}")
    try:
        return tuple(map(answer, found))
    except ValueError as error:
        raise ValueError(f"has an option that {error}") from error


def right(value: object, choices: Sequence[str]) -> int:
    """Return which option is right, 0 for the first: by its letter, or by its text.

    Raises ValueError for neither, for a number (does it count from 0 or from 1?), and for a letter
    that is another option's text.

    >>> right("B", ("an owl", "a cat")), right("An owl", ("an owl", "a cat"))
    (1, 0)
    """
    if isinstance(value, int | float) and not missing(value) and str(value) not in choices:
        raise ValueError(f"is the number {value}, counted from who knows where; write a letter")
    told = answer(value)
    named = {i for i, choice in enumerate(choices) if same(choice) == same(told)}
    letter = LETTERS.find(told.upper()) if len(told) == 1 and told.isascii() else -1
    lettered = {letter} if 0 <= letter < len(choices) else set()
    if len(found := named | lettered) == 1:
        return found.pop()
    if not found:
        last = LETTERS[len(choices) - 1]
        raise ValueError(f"is {_short(value)}, no letter from A to {last} and no option's text")
    both = " and ".join(LETTERS[i] for i in sorted(found))
    raise ValueError(f"is {_short(value)}, which may be the options {both}; tell them apart")


def boxes(value: object) -> tuple[Box, ...]:
    """Return a row's boxes: a list of {label, x0, y0, x1, y1}, or of [x0, y0, x1, y1].

    In pixels of the picture; of several, {..., "picture": 1} says on which, from 0. Raises
    ValueError for what is none, and for one without a surface.
    """
    if missing(value):
        return ()
    found = listed(value)
    if found is None:
        raise ValueError(f"is {_short(value)}; write a JSON list of boxes [x0, y0, x1, y1]")
    return tuple(map(_box, found))


def _box(told: object) -> Box:
    wrong = ValueError(f"has the box {_short(told)}; write [x0, y0, x1, y1] in pixels, x0 < x1, "
                       "y0 < y1, and of several pictures its number from 0")  # fmt: skip
    label, corners, picture = "", told, 0
    if isinstance(told, Mapping):
        picture, label = told.get("picture"), told.get("label") or ""
        picture = 0 if picture is None else picture
        corners = [told.get(n) for n in ("x0", "y0", "x1", "y1")]
    plain = isinstance(corners, Sequence) and not isinstance(corners, str) and len(corners) == 4
    if not plain or not all(type(one) in (int, float) and math.isfinite(one) for one in corners):
        raise wrong
    x0, y0, x1, y1 = map(float, corners)
    known = isinstance(label, str) and type(picture) is int and picture >= 0
    if x0 >= x1 or y0 >= y1 or not known:
        raise wrong
    return Box(label=label, x0=x0, y0=y0, x1=x1, y1=y1, picture=picture)


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
