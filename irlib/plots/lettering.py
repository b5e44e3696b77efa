"""Text that people typed, ready to be drawn: letters that the font has, lines of a known width."""

from __future__ import annotations

import unicodedata
from bisect import bisect
from functools import cache, lru_cache
from itertools import groupby

from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ft2font import FT2Font, LoadFlags

FAMILY = "DejaVu Sans"
SPACING = 1.15
"""From line to line, in sizes of the letters; what every figure sets."""


def plain(text: object) -> str:
    """Return `text` on one line, every letter of it one that the figures' font can draw.

    A letter that the font lacks is shown by its plain form where it has one, a symbol by its name,
    a run of other letters by script and number; marks that show nothing are left out. Nothing else
    changes: a figure draws `$`, `\\` and `_` as what they are. An empty text is a dash.

    >>> plain("5 $ or 10 $?\\n～Ａ～"), plain("\\u732b\\u72ac \\U0001f34e"), plain("")
    ('5 $ or 10 $? ~A~', '[CJK × 2] [red apple]', '–')
    """
    letters = "".join(_near(letter) for letter in unicodedata.normalize("NFC", str(text)))
    shown = "".join(_named("".join(run), name) for name, run in groupby(letters, key=_script))
    return " ".join(shown.split()) or "–"


@lru_cache(4096)
def width(text: str, size: float, *, bold: bool = False) -> float:
    """Return how many inches one line of plain `text` is wide at `size` points."""
    font = _font(bold)
    font.set_size(size, 72)
    font.set_text(text, 0, flags=LoadFlags.NO_HINTING)
    return font.get_width_height()[0] / 64 / 72


def tall(text: str, size: float) -> float:
    """Return how many inches the lines of `text` are high at `size` points."""
    return (text.count("\n") + 1) * size * SPACING / 72


def wrap(text: object, wide: float, size: float, *, bold: bool = False) -> str:
    """Return plain `text` in lines of at most `wide` inches at `size` points, nothing cut off.

    A word that is wider than a line goes on in the next, after a mark within it where there is one.

    >>> wrap("a picture of mini-instructblip", 0.7, 8)
    'a picture of\\nmini-\\ninstructblip'
    """
    lines = [""]
    for word in plain(text).split(" "):
        both = f"{lines[-1]} {word}".lstrip()
        if width(both, size, bold=bold) <= wide:
            lines[-1] = both
            continue
        if lines[-1]:
            lines.append("")
        while width(word, size, bold=bold) > wide and len(word) > 1:
            ends = range(1, len(word))
            stop = max(1, bisect(ends, wide, key=lambda end: width(word[:end], size, bold=bold)))
            stop = max((word.rfind(mark, 0, stop) + 1 for mark in "-/_"), default=0) or stop
            lines[-1:] = [word[:stop], ""]
            word = word[stop:]
        lines[-1] = word
    return "\n".join(lines)


def _font(bold: bool) -> FT2Font:
    return get_font(_path(bold))


@cache
def _path(bold: bool) -> str:
    return findfont(FontProperties(family=FAMILY, weight="bold" if bold else "normal"))


@cache
def _drawable(letters: str) -> bool:
    return all(_font(bold).get_char_index(ord(one)) for one in letters for bold in (False, True))


def _near(letter: str) -> str:
    """The letter; a space for a break, nothing for a mark that only steers, else its plain form."""
    kind = unicodedata.category(letter)
    if kind in ("Cc", "Zl", "Zp", "Zs"):
        return " "
    if kind == "Cf" or "VARIATION SELECTOR" in unicodedata.name(letter, ""):
        return ""
    form = unicodedata.normalize("NFKC", letter)
    return form if not _drawable(letter) and _drawable(form) else letter


def _script(letter: str) -> str:
    """What an undrawable letter is called, '' for one that can be drawn."""
    if _drawable(letter):
        return ""
    name = unicodedata.name(letter, f"U+{ord(letter):04X}")
    if unicodedata.category(letter)[0] not in "LM":
        return name if name.startswith("U+") else name.lower()
    first = name.partition(" ")[0]
    return first if first in ("CJK", name) else first.capitalize()


def _named(letters: str, name: str) -> str:
    if not name:
        return letters
    return f"[{name}]" if len(letters) == 1 else f"[{name} × {len(letters)}]"
