"""Where things are, and the only writer: files whole or not at all, figures with provenance."""

import io
import json
import os
import threading
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from irlib import provenance


def root() -> Path:
    """Return the project's folder: the one that holds irlib, notebooks, data and figures."""
    return Path(__file__).resolve().parents[1]


def figures(profile: str = "mini") -> Path:
    """Return the folder of a profile's figures, in IRLIB_FIGURES where that is set.

    >>> figures("mini").name
    'mini'
    """
    return Path(os.environ.get("IRLIB_FIGURES") or root() / "figures") / profile


def results() -> Path:
    """Return the folder of the answers that are kept between runs; IRLIB_RESULTS overrides it."""
    return Path(os.environ.get("IRLIB_RESULTS") or root() / "data/results")


def save_figure(
    fig,
    stem: str,
    table: pd.DataFrame,
    *,
    profile: str = "mini",
    vlm=None,
    samples: Iterable | None = None,
    parameters: dict | None = None,
    verdicts: Iterable = (),
    seed: int = 0,
    tex: str = "",
) -> None:
    """Write figures/<profile>/<stem>: png and pdf, the numbers as csv, what made them as json.

    `fig` is a matplotlib figure, `table` its numbers (six significant digits in the csv), `vlm` a
    model, several, or {name: provenance.model(vlm)} where they were not held at once, `samples` the
    rows used; `tex`, where given, is the table in LaTeX, for <stem>.tex. json and png tell
    parameters, seed, versions, threads and hashes of irlib, the notebook, the models and the rows,
    and neither time nor commit: a rerun on one machine gives the same bytes. Raises TypeError for a
    table that is none, OSError where the folder cannot be written; files are replaced whole or not
    at all.
    """
    import matplotlib as mpl  # the rooms that draw nothing do without

    if not isinstance(table, pd.DataFrame):
        raise TypeError(
            f"save_figure was asked to keep {stem!r} with a {type(table).__name__} for its table; "
            "the csv needs a DataFrame; pass the table that was drawn."
        )
    if not isinstance(vlm, Mapping):
        models = [] if vlm is None else vlm if isinstance(vlm, list | tuple) else [vlm]
        vlm = {model.name: provenance.model(model) for model in models}
    told = {
        "stem": stem,
        "profile": profile,
        "parameters": provenance.identity(parameters or {}),
        "seed": seed,
        **provenance.surroundings(),
        "irlib": provenance.sources(root() / "irlib"),
        "notebook": provenance.notebook(root() / "notebooks" / f"{stem}.ipynb"),
        "models": dict(vlm),
        "tasks": provenance.rows(samples or ()),
        "verdicts": [_rounded(asdict(verdict)) for verdict in verdicts],
    }
    text = json.dumps(told, indent=1, sort_keys=True) + "\n"
    png, pdf = io.BytesIO(), io.BytesIO()
    with mpl.rc_context({"pdf.fonttype": 42}):
        fig.savefig(png, format="png", dpi=200, metadata={"Software": None, "Provenance": text})
        fig.savefig(pdf, format="pdf", metadata={"CreationDate": None})
    csv = table.to_csv(index=False, float_format="%.6g", lineterminator="\n")
    made = {
        "csv": csv.encode(),
        "pdf": pdf.getvalue(),
        "png": png.getvalue(),
        "json": text.encode(),
    }
    for kind, data in (made | ({"tex": tex.encode()} if tex else {})).items():
        write(figures(profile) / f"{stem}.{kind}", data)


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


def _rounded(values: dict) -> dict:
    """Return the values with floats at six significant digits, as in the csv."""
    return {k: float(f"{v:.6g}") if isinstance(v, float) else v for k, v in values.items()}
