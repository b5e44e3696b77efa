"""Where things are: the project's folder, its figures, what is kept between runs."""

import json
import os
import re
from pathlib import Path

import platformdirs

PACKAGE = Path(__file__).resolve().parents[1]


def checkout() -> bool:
    """Return whether this irlib lies in its project's folder, and is not an installed package."""
    return not bundle(PACKAGE).is_dir()


def bundle(package: Path) -> Path:
    """Return where an installed package has its notebooks and data, whether it has any or not."""
    return package / "bundle"


def root() -> Path:
    """Return the folder that holds notebooks and data: the project's, which holds irlib too, or the
    one in the installed package, which is only read."""
    return PACKAGE.parent if checkout() else bundle(PACKAGE)


def project() -> Path:
    """Return the project's folder; raise ValueError where this is an installed package, which has
    no history and is only read."""
    if not checkout():
        raise ValueError(
            "asked for the project's own folder, found an installed package; clone the repository, "
            "and run this there."
        )
    return root()


def figures(profile: str = "mini") -> Path:
    """Return the folder of a profile's figures: in IRLIB_FIGURES where that is set, else in
    figures, in the project or, of an installed package, in the current folder.

    IRLIB_OUT, where it is set, is the folder itself, whatever the profile. Raises ValueError for a
    profile that is no plain name.

    >>> figures("mini").name
    'mini'
    """
    home = root() if checkout() else Path.cwd()
    folder = inside(Path(os.environ.get("IRLIB_FIGURES") or home / "figures"), profile)
    return Path(os.environ.get("IRLIB_OUT") or folder)


def results() -> Path:
    """Return the folder of the answers that are kept between runs: data/results in the project,
    results in the cache for an installed package; IRLIB_RESULTS overrides it."""
    kept = root() / "data/results" if checkout() else cache() / "results"
    return Path(os.environ.get("IRLIB_RESULTS") or kept)


def added(name: str) -> Path:
    """Return the folder of data that a reader adds: in the project's data, or in the cache.

    >>> added("coco").name
    'coco'
    """
    return root() / "data" / name if checkout() else cache() / name


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
