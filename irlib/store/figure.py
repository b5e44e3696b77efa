"""A figure's files: the picture, its numbers as csv, and what made them as json."""

import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict

import pandas as pd

from irlib.store import provenance
from irlib.store.files import write
from irlib.store.places import figures, root


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


def _rounded(values: dict) -> dict:
    """Return the values with floats at six significant digits, as in the csv."""
    return {k: float(f"{v:.6g}") if isinstance(v, float) else v for k, v in values.items()}
