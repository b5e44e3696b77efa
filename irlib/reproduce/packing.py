"""What came out of a run as one file to send: figures, their numbers, and what machine it was."""

import io
import json
import os
import platform
import zipfile
from pathlib import Path

import psutil

from irlib import __version__, doors, store
from irlib.store import provenance

KINDS = (".csv", ".json", ".png", ".tex")
WHEN = (1980, 1, 1, 0, 0, 0)  # the same files are the same bytes, whenever they are packed


def pack(profile: str = "mini", *, out: str | Path | None = None) -> Path:
    """Return the zip file of a profile's figures, `out` or irlib-<profile>.zip in this folder.

    In it are csv, json, png and tex of each figure, how long each notebook took (summary.csv) and
    machine.json: versions, processor, memory, GPUs; no name of the machine or its user, no path.
    Raises FileNotFoundError where nothing came out yet, ValueError for a profile that is no plain
    name, OSError where the file cannot be written.
    """
    folder = store.figures(profile)
    files = sorted(path for path in folder.glob("*") if path.suffix in KINDS)
    if not files:
        raise FileNotFoundError(
            f"asked to pack the figures of {profile!r}, found none in {folder}; run `irlib "
            f"reproduce --profile {profile}` first"
        )
    told = folder / "notebooks/summary.csv"
    packed = {path.name: path.read_bytes() for path in [*files, *[told] * told.is_file()]}
    packed["machine.json"] = (json.dumps(machine(), indent=1, sort_keys=True) + "\n").encode()
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in packed.items():
            archive.writestr(zipfile.ZipInfo(f"irlib-{profile}/{name}", WHEN), data)
    path = doors.path("out", out) if out else Path(f"irlib-{profile}.zip")
    store.write(path, made.getvalue())
    return path


def machine() -> dict[str, object]:
    """Return what kind of machine this is, as JSON; none of it tells which one.

    >>> sorted(machine())
    ['accelerators', 'cores', 'irlib', 'memory GB', 'processor', 'system', 'threads', 'versions']
    """
    from irlib.models.devices import accelerators  # the rest of the room does without torch

    return {
        "irlib": __version__,
        "system": f"{platform.system()} {platform.release()}",
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "memory GB": round(psutil.virtual_memory().total / 1e9),
        "accelerators": accelerators(),
        **provenance.surroundings(),
    }
