"""Where things are: the project's folder, its figures, what is kept between runs."""

import json
import os
import re
from pathlib import Path

import platformdirs


def root() -> Path:
    """Return the project's folder: the one that holds irlib, notebooks, data and figures."""
    return Path(__file__).resolve().parents[2]


def figures(profile: str = "mini") -> Path:
    """Return the folder of a profile's figures, in IRLIB_FIGURES where that is set.

    IRLIB_OUT, where it is set, is the folder itself, whatever the profile. Raises ValueError for a
    profile that is no plain name.

    >>> figures("mini").name
    'mini'
    """
    folder = inside(Path(os.environ.get("IRLIB_FIGURES") or root() / "figures"), profile)
    return Path(os.environ.get("IRLIB_OUT") or folder)


def results() -> Path:
    """Return the folder of the answers that are kept between runs; IRLIB_RESULTS overrides it."""
    return Path(os.environ.get("IRLIB_RESULTS") or root() / "data/results")


def inside(folder: Path, name: str) -> Path:
    """Return folder/name; raise ValueError for a name that may lead elsewhere.

    >>> inside(Path("figures"), "mini").as_posix()
    'figures/mini'
    """
    if not (isinstance(name, str) and re.fullmatch(r"\w[\w.+ -]{0,99}", name)):
        raise ValueError(
            f"asked for {name!r} in {folder}; found no plain name in it; give one of letters, "
            "digits, '_', '-', '+' and '.', without a folder."
        )
    return folder / name


def cache() -> Path:
    """Return the folder of what was fetched and made once; IRLIB_CACHE overrides it."""
    return Path(os.environ.get("IRLIB_CACHE") or platformdirs.user_cache_path("irlib"))


def bundles() -> dict[str, Path]:
    """Return the models that `irlib fetch` puts together, by name, each with its bundle's folder.

    >>> sorted(bundles())
    ['smol-llava', 'smol-llava-projector', 'smol-llava-random']
    """
    made = {}
    for path in sorted((root() / "data/minis").glob("*/bundle.json")):
        made |= dict.fromkeys(json.loads(path.read_text(encoding="utf-8"))["models"], path.parent)
    return made
