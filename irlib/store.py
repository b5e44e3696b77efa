"""Where things are, and the only writer: figures with their provenance, tables that resume."""

import os
from pathlib import Path


def root() -> Path:
    """Return the project's folder: the one that holds irlib, notebooks, data and figures."""
    return Path(__file__).resolve().parents[1]
