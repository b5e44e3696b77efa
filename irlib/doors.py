"""What comes in at a public door is checked here: one way to count, one sentence where it fails."""

import sys
from collections.abc import Iterable
from operator import index
from pathlib import Path


def count(name: str, value: object, *, least: int = 0, most: int | None = None) -> int:
    """The whole number `value`, whatever integer type it has; `name` is what the door calls it.

    Raises ValueError for anything that is no whole number (a bool, a float, even 2.0, a text) and
    for one below `least` or above `most`.

    >>> count("n", 3), count("keep", 5, most=5)
    (3, 5)
    >>> count("n", True)
    Traceback (most recent call last):
    ValueError: asked for n=True, found a bool; give a whole number of at least 0
    """
    number = _whole(value)
    if number is None or number < least or (most is not None and number > most):
        found = f"a {type(value).__name__}" if number is None else "it out of range"
        span = f"of at least {least}" if most is None else f"in {least}..{most}"
        raise ValueError(f"asked for {name}={value!r}, found {found}; give a whole number {span}")
    return number


def counts(
    name: str, values: object, *, least: int = 0, most: int | None = None, some: bool = False
) -> list[int]:
    """The whole numbers in `values`, in their order, each as `count` takes it.

    Raises ValueError where `values` are no list of them, a single number and a text included
    (`one_or_more` takes that), and for an empty list where `some` must be there.

    >>> counts("layers", range(2), most=11)
    [0, 1]
    """
    if not listed(values) or isinstance(values, str | bytes):
        raise ValueError(
            f"asked for {name}={values!r}, found a {type(values).__name__}; give a list of whole "
            "numbers"
        )
    values = list(values)
    if some and not values:
        raise ValueError(f"asked for {name}=[], found none; give at least one whole number")
    return [count(f"{name}[{place}]", value, least=least, most=most)
            for place, value in enumerate(values)]  # fmt: skip


def one_or_more(name: str, values: object, **limits) -> list[int]:
    """A whole number alone or the whole numbers in a list, each as `count` takes it.

    >>> one_or_more("layer", 3), one_or_more("layers", range(2))
    ([3], [0, 1])
    """
    return counts(name, values if listed(values) else [values], **limits)


def number(
    name: str,
    value: object,
    *,
    least: float = 0.0,
    above: bool = False,
    most: float = sys.float_info.max,
) -> float:
    """The finite number `value` in `least`..`most`, or `above` `least`; no bool, no text, no NaN.

    >>> number("noise", 1)
    1.0
    """
    plain = hasattr(value, "__float__") and not isinstance(value, bool | str)
    found = float(value) if plain and getattr(value, "ndim", 0) == 0 else float("nan")
    if not (found > least if above else found >= least) or found > most:
        span = f"above {least:g}" if above else f"of at least {least:g}"
        span += f" and at most {most:g}" * (most < sys.float_info.max)
        raise ValueError(
            f"asked for {name}={value!r}, found a {type(value).__name__}; give a finite number "
            f"{span}"
        )
    return found


def flag(name: str, value: object) -> bool:
    """The bool `value`, of numpy too; raises TypeError for anything that is only taken for one.

    >>> flag("renormalise", "no")
    Traceback (most recent call last):
    TypeError: asked for renormalise='no', found a str; give True or False
    """
    if type(value).__name__ not in ("bool", "bool_"):
        raise TypeError(
            f"asked for {name}={value!r}, found a {type(value).__name__}; give True or False"
        )
    return bool(value)


def path(name: str, value: str | Path) -> Path:
    """The path `value`, its "~" the reader's home; raises ValueError for the home of nobody here.

    >>> path("image", "photo.jpg").name
    'photo.jpg'
    """
    kind(name, value, str, Path, give="a path")
    try:
        return Path(value).expanduser()
    except RuntimeError as error:
        raise ValueError(
            f"asked for {name}={str(value)!r}, found no home of that name; write the path from its "
            "root, or ./~... for a name that begins so"
        ) from error


def kind(name: str, value: object, *kinds: type, give: str) -> None:
    """Raise TypeError where `value` is of none of these kinds; `give` says what belongs there.

    >>> kind("answer", "yes", int, give="vlm.answer(inputs)")
    Traceback (most recent call last):
    TypeError: asked to take 'yes' as answer, found a str; give vlm.answer(inputs)
    """
    if not isinstance(value, kinds):
        shown = repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:57]}..."
        raise TypeError(
            f"asked to take {shown} as {name}, found a {type(value).__name__}; give {give}"
        )


def listed(values: object) -> bool:
    """Whether it holds several: a tensor or array of no axes is one number."""
    return isinstance(values, Iterable) and getattr(values, "ndim", 1) > 0


def _whole(value: object) -> int | None:
    """The integer that a value is, None where it is none."""
    if isinstance(value, bool) or str(getattr(value, "dtype", "")).endswith("bool"):
        return None
    try:
        return index(value)
    except TypeError:
        return None
