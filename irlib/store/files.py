"""The only writer: a file is there whole, or not at all."""

import os
import threading
from pathlib import Path

BLOCK = 4096  # bytes that a disk gives at the least: an empty file fits on a full one


def write(path: Path, data: bytes) -> None:
    """Put data at path, whole or not at all; raise OSError, telling the file, where that fails."""
    part = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise OSError(
            f"the store was asked to write {path}; {error.strerror or error}; make room or choose "
            "a folder that can be written with IRLIB_FIGURES or IRLIB_RESULTS."
        ) from error


def ready(folder: Path) -> Path:
    """Return the folder, made where it was not there; raise OSError where it cannot be written."""
    probe = folder / f".{os.getpid()}-{threading.get_ident()}.probe"
    write(probe, b"\0" * BLOCK)
    probe.unlink(missing_ok=True)
    return folder
