"""What is in a file and in a picture, as bytes that change with it."""

import hashlib
import os
import time
from functools import lru_cache
from pathlib import Path

STILL = 2  # seconds that a file must have lain as it is before its hash is kept


def file(path: Path) -> str:
    """Return the sha256 of a file, read once a process: a gigabyte takes one to four seconds.

    It is read again after any change: unlike the time stamp that `touch` and archives set, that of
    the last change of any kind (ctime) is the system's own. Where it is younger than `STILL`,
    it may not tell the next change, and Windows has none: then nothing is kept.

    >>> len(file(Path(__file__)))
    64
    """
    facts = path.stat()
    young = time.time() - facts.st_ctime < STILL
    if young or os.name == "nt":
        return _read.__wrapped__(path)
    return _read(path, facts.st_dev, facts.st_ino, facts.st_size, facts.st_ctime_ns)


@lru_cache(maxsize=1024)
def _read(path: Path, *state: int) -> str:
    """The sha256 of a file in that state, read a piece at a time."""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def picture(image) -> bytes:
    """Return what of a picture is seen, whether it is open, embedded, a file, an array or several.

    Raises OSError for a file that cannot be read and ValueError for something that is no picture.

    >>> picture(None)
    b''
    """
    if image is None:
        return b""
    if isinstance(image, tuple):
        parts = [picture(one) for one in image]
        return b"".join(f"{len(part)} ".encode() + part for part in parts)
    if isinstance(image, str | Path):
        return b"file" + Path(image).read_bytes()
    if isinstance(encoded := getattr(image, "encoded", image), bytes):
        return b"file" + encoded
    if hasattr(image, "tobytes") and hasattr(image, "getexif"):
        upright = image.getexif().get(0x0112)  # the tag that says how a picture is to be turned
        palette = (image.palette.mode, image.palette.tobytes()) if image.palette else None
        clear = image.info.get("transparency")
        told = f"{image.mode}{image.size}{upright}{palette}{clear}"
        return told.encode() + image.tobytes()
    if hasattr(image, "detach"):
        image = image.detach().cpu()
        image = image.float() if image.is_floating_point() else image  # numpy has no bfloat16
    if hasattr(image, "__array__"):
        values = image.__array__()
        return f"{values.dtype}{values.shape}".encode() + values.tobytes()
    raise ValueError(
        f"asked about a picture, found a {type(image).__name__}; give a PIL picture or a path"
    )
