"""Where things are: the project's folder, its figures, what is kept between runs."""

import os
from pathlib import Path


def root() -> Path:
    """Return the project's folder: the one that holds irlib, notebooks, data and figures."""
    return Path(__file__).resolve().parents[2]


def figures(profile: str = "mini") -> Path:
    """Return the folder of a profile's figures, in IRLIB_FIGURES where that is set.

    >>> figures("mini").name
    'mini'
    """
    return Path(os.environ.get("IRLIB_FIGURES") or root() / "figures") / profile


def results() -> Path:
    """Return the folder of the answers that are kept between runs; IRLIB_RESULTS overrides it."""
    return Path(os.environ.get("IRLIB_RESULTS") or root() / "data/results")
