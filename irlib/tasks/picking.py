"""Which rows of a task are taken: of a kind, by name, of the finding or the judging part, by seed.

What is found on some rows (a layer, say) looks better on them than it is, and so it does on other
questions about their pictures: it is judged on rows of other pictures. Which part a row is in hangs
on its picture alone, so that it is the same in every task, source, order and draw.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from random import Random

from irlib import doors

PARTS = ("find", "judge")


def unit_of(words: str) -> str:
    """What a row without a picture is known by: 16 hex digits of a sha256 of its words."""
    return hashlib.sha256(words.encode()).hexdigest()[:16]


def part_of(unit: str) -> str:
    """The part that a unit (the hash of a picture, or of words) is in: each has half of them.

    >>> part_of("00000000000000f2"), part_of("00000000000000f3")
    ('find', 'judge')
    """
    return PARTS[int(unit, 16) % len(PARTS)]


def pick(
    kinds: Mapping[str, Sequence[str]],
    task: str,
    place: str,
    *,
    unit: Callable[[str], str],
    kind: str | None = None,
    part: str | None = None,
    per_picture: int | None = None,
    keys: Sequence | str | Path | None = None,
    n: int | None = None,
    seed: int = 0,
) -> list[str]:
    """Return the keys of a kind, of those named, of a part, n of them by seed, sorted.

    `kinds` are those of each row by its key; `unit(key)` is asked for as few rows as will do: to
    know a picture it must be read. Of one part, `per_picture` and seed a smaller n is among a
    larger one.
    """
    if per_picture is not None:
        per_picture = doors.count("per_picture", per_picture, least=1)
    if part not in (None, *PARTS):
        raise ValueError(
            f"load_task was asked for the part {part!r} of {task}; its parts are "
            f"{' and '.join(PARTS)}; take one, or None for all rows."
        )
    found = sorted(key for key, names in kinds.items() if kind is None or kind in names)
    if not found:
        there = sorted({name for names in kinds.values() for name in names})
        raise ValueError(
            f"load_task was asked for rows of {task} of kind {kind!r}; {place} has "
            f"{', '.join(there)}; take one of them."
        )
    if keys is not None:
        wanted = set(map(str, _listed(keys)))
        if not wanted:
            raise ValueError(
                f"load_task was asked for rows of {task} by name, and for none; name at least "
                f"one: names are like {found[0]!r}."
            )
        if unknown := sorted(wanted - set(found)):
            raise ValueError(
                f"load_task was asked for {len(wanted)} rows of {task} by name; {place} has no "
                f"{', '.join(unknown[:3])}{' ...' * (len(unknown) > 3)}; its names are like "
                f"{found[0]!r}."
            )
        found = sorted(wanted)
    try:
        n = n if n is None else doors.count("n", n, least=1, most=len(found))
    except ValueError as error:
        raise ValueError(
            f"load_task was asked for {n!r} rows of {task}; {place} has {len(found)} such rows; "
            f"ask for 1 to {len(found)}."
        ) from error
    if part is None and per_picture is None:
        return found if n is None else sorted(Random(seed).sample(found, n))
    shuffled, seen = Random(seed).sample(found, len(found)), Counter()

    def wanted_too(key: str) -> bool:
        of = unit(key)
        if part is not None and part_of(of) != part:
            return False
        seen[of] += 1
        return per_picture is None or seen[of] <= per_picture

    taken = list(islice(filter(wanted_too, shuffled), n))
    if not taken or len(taken) < (n or 0):
        which = [f"of the part {part!r}"] * (part is not None)
        which += [f"{per_picture} a picture at most"] * (per_picture is not None)
        raise ValueError(
            f"load_task was asked for {'rows' if n is None else f'{n} rows'} of {task}, "
            f"{', '.join(which)}; {place} has {len(taken)} such rows, of {len(found)} in all; ask "
            "for fewer."
        )
    return sorted(taken)


def _listed(keys: Sequence | str | Path) -> Iterable:
    """Return names as given, or those in a file: a JSON list, or one a line."""
    if not isinstance(keys, str | Path):
        if isinstance(keys, bytes) or not isinstance(keys, Iterable):
            raise TypeError(
                f"load_task was asked for the rows named {keys!r}; found a {type(keys).__name__}; "
                "give a list of names, or a file of them."
            )
        return keys
    asked = f"load_task was asked for the rows named in {keys}"
    try:
        told = doors.path("keys", keys).read_text(encoding="utf-8-sig").strip()
        listed = json.loads(told) if told[:1] in ("[", "{") else told.splitlines()
    except OSError as error:
        raise FileNotFoundError(
            f"{asked}; it cannot be read ({error.strerror}); give a list of names, or a file of "
            "them."
        ) from error
    except ValueError as error:  # of the encoding, or of the JSON
        raise ValueError(
            f"{asked}; it does not read ({error}); give a JSON list, or a name a line, in UTF-8."
        ) from error
    if not isinstance(listed, list):
        raise ValueError(
            f"{asked}; found {type(listed).__name__}; give a JSON list, or a name a line."
        )
    return listed
