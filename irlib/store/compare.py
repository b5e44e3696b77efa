"""Do two runs tell the same figure? The numbers of one machine against another's."""

import hashlib
import io
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

TOLERANCE = 0.02
SHARE = 0.05
SHADE, SEEN = 32, 0.005
"""Steps of 255 by which a pixel, and the share of pixels by which a picture may differ."""


def differences(fresh: pd.DataFrame, committed: pd.DataFrame) -> list[str]:
    """Return what differs between two tables of one figure beyond the tolerance, column by column.

    Processors sum floats in different orders, so last digits differ; and a row whose two best
    answers are nearly tied may then flip, which moves an answer, a figure pooled over n rows by
    1/n, or a cliff by a layer. So floats agree within 0.02 plus 2 %, all else when equal, and one
    cell of a column in twenty (at least one) may be off.

    >>> one, two = pd.DataFrame({"share": [0.5] * 9}), pd.DataFrame({"share": [0.51] * 9})
    >>> differences(one, two), differences(one, two + 1)
    ([], ['share: 9 of 9 cells differ, by 1.01 at the most'])
    """
    if list(fresh) != list(committed) or len(fresh) != len(committed):
        return [
            f"{len(fresh)} rows of {', '.join(fresh)}; committed are {len(committed)} of "
            f"{', '.join(committed)}"
        ]
    found = []
    allowed = max(1, int(SHARE * len(fresh)))
    for name in fresh:
        one, two = fresh[name], committed[name]
        if _floats(one, two):
            off, gap = _far(one.to_numpy(float), two.to_numpy(float))
            most = f", by {gap:.3g} at the most"
        else:
            off, most = ((one != two) & ~(one.isna() & two.isna())).to_numpy(), ""
        if off.sum() > allowed:
            found.append(f"{name}: {off.sum()} of {len(off)} cells differ{most}")
    return found


def stands(folder: Path, told: Mapping, *, csv: bytes, png: bytes) -> bool:
    """Return whether the figure that is there is whole and is the one that was drawn anew.

    It is where its json tells the same of parameters, seed, packages' versions and every hash, and
    of what is said the same words, with numbers that agree as those of the tables do; where csv and
    tex are those that its json knows, and its png, every byte of it, holds this very json; and
    where the pictures look alike. Threads and Python's version may differ: no number is meant to
    hang on them. What is not known (null) is never the same.

    `told` is the new json, `csv` and `png` are the new files.
    """
    png_there, csv_there, json_there = (
        folder / f"{told['stem']}.{kind}" for kind in ("png", "csv", "json")
    )
    try:
        text, kept = json_there.read_text(encoding="utf-8"), csv_there.read_bytes()
        there = json.loads(text)
        digests = {kind: _sha256(csv_there.with_suffix(f".{kind}")) for kind in there["files"]}
        one, two = _identity(there), _identity(told)
        same = one == two and None not in (one["sources"], one["notebook"])
        return (
            same
            and digests == there["files"]
            and _agree(there["said"], told["said"])
            and not differences(pd.read_csv(io.BytesIO(csv)), pd.read_csv(io.BytesIO(kept)))
            and _alike(png_there, text, png)
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SyntaxError):
        return False  # something is missing, torn or of another time: then it does not stand


def _identity(told: Mapping) -> dict:
    """What must be equal: a build's label (2.13.0+cpu) is the same release."""
    versions = {k: v.partition("+")[0] for k, v in told["versions"].items() if k != "python"}
    kinds = sorted(told["files"])  # their content is compared as numbers
    free = ("threads", "said")
    return {k: v for k, v in told.items() if k not in free} | {"versions": versions, "files": kinds}


def _agree(there: list, told: list) -> bool:
    """Whether what is said has the same words and counts, and numbers within the tolerance."""
    one, two = pd.DataFrame(there), pd.DataFrame(told)
    if list(one) != list(two) or len(one) != len(two):
        return False
    for name in one:
        if _floats(one[name], two[name]):
            if _far(one[name].to_numpy(float), two[name].to_numpy(float))[0].any():
                return False
        elif one[name].tolist() != two[name].tolist():
            return False
    return True


def _alike(path: Path, text: str, fresh: bytes) -> bool:
    """Whether the png at path is whole, holds the text, and looks like the fresh one."""
    from PIL import Image

    png = partial(Image.open, formats=["PNG"])
    with png(path) as picture:
        picture.verify()  # the checksum of every chunk
    with png(path) as there, png(io.BytesIO(fresh)) as new:
        if there.text.get("Provenance") != text or there.size != new.size:
            return False
        one, two = (np.asarray(picture.convert("RGB"), dtype=int) for picture in (there, new))
    return bool((np.abs(one - two).max(axis=-1) > SHADE).mean() <= SEEN)


def _floats(one: pd.Series, two: pd.Series) -> bool:
    """Whether both are numbers and one of them has fractions: written, 1.0 and 1 are the same."""
    kinds = [one.dtype, two.dtype]
    numbers = all(
        pd.api.types.is_numeric_dtype(kind) and not pd.api.types.is_bool_dtype(kind)
        for kind in kinds
    )
    return numbers and any(pd.api.types.is_float_dtype(kind) for kind in kinds)


def _far(one: np.ndarray, two: np.ndarray) -> tuple[np.ndarray, float]:
    """Where two arrays differ beyond the tolerance, and by how much at the most."""
    finite = np.isfinite(one) & np.isfinite(two)
    gap = np.abs(np.subtract(one, two, where=finite, out=np.zeros_like(one)))
    equal = (one == two) | (np.isnan(one) & np.isnan(two))
    off = np.where(finite, gap > TOLERANCE * (1 + np.abs(np.where(finite, two, 0))), ~equal)
    return off, float(gap.max(initial=0))


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
