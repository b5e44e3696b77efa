"""A figure's files: the picture, its numbers as csv, and what made them as json."""

import hashlib
import inspect
import io
import json
import logging
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from irlib.store import provenance, sources
from irlib.store.compare import stands
from irlib.store.files import write
from irlib.store.places import PACKAGE, figures, inside, root

log = logging.getLogger(__name__)

IMPORTED = time.time()  # what was edited later is not what computes here


@dataclass(frozen=True, kw_only=True)
class Saved:
    """Where a figure's picture is, and whether its files were left as they were."""

    path: Path
    kept: bool

    def __str__(self) -> str:
        return f"{self.path}: " + ("left as it was, the numbers agree" if self.kept else "written")


def save_figure(
    fig,
    stem: str,
    table: pd.DataFrame,
    *,
    profile: str = "mini",
    vlm=None,
    samples: Iterable | None = None,
    parameters: dict | None = None,
    said: Mapping[str, object] | None = None,
    seed: int = 0,
    tex: str = "",
    pdf: bool = False,
) -> Saved:
    """Write figures/<profile>/<stem>.png, the numbers as csv, what made them as json; tell which.

    `fig` is a matplotlib figure, `table` its numbers (six significant digits in the csv), `vlm` a
    model, several, or {name: provenance.model(vlm)} where they were not held at once, `samples` the
    rows used; `said` are sentences on what came out and each one's `Estimate`; `tex`, where given,
    is the table in LaTeX, for <stem>.tex; `pdf` adds a pdf.

    json and png tell parameters, seed, versions, threads, and hashes: of the sources that compute
    and draw this figure, of the code that calls (the notebook's, the file's), of models, rows, csv
    and tex; neither time nor commit nor a place on this machine. Files that are there, whole, with
    the same hashes and with numbers that agree (compare.py) are left as they are: another processor
    moves the sixth digit. Code that cannot be read, typed at a prompt or edited while it ran, has
    no hash (null), and its figure is always written. Raises TypeError for a table that is none,
    ValueError for a stem or profile that is no plain name, OSError where the folder cannot be
    written; files are replaced whole or not at all.
    """
    import matplotlib as mpl  # the rooms that draw nothing do without

    if not isinstance(table, pd.DataFrame):
        raise TypeError(
            f"save_figure was asked to keep {stem!r} with a {type(table).__name__} for its table; "
            "the csv needs a DataFrame; pass the table that was drawn."
        )
    folder = inside(figures(profile), stem).parent
    if not isinstance(vlm, Mapping):
        models = [] if vlm is None else vlm if isinstance(vlm, list | tuple) else [vlm]
        vlm = {model.name: provenance.model(model) for model in models}
    csv = _rounded(table).to_csv(index=False, float_format="%.6g", lineterminator="\n").encode()
    made = {"csv": csv} | ({"tex": tex.encode()} if tex else {})
    told = {
        "stem": stem,
        "profile": profile,
        "parameters": parameters or {},
        "set": json.loads(os.environ.get("IRLIB_SET") or "{}"),
        "seed": seed,
        "models": vlm,
        "said": [{"says": says} | _finite(asdict(one)) for says, one in (said or {}).items()],
    }
    told = provenance.identity(told) | {
        **provenance.surroundings(),
        **_code(inspect.currentframe().f_back.f_code.co_filename, stem),
        "tasks": provenance.rows(samples or ()),
        "files": {kind: hashlib.sha256(data).hexdigest() for kind, data in made.items()},
    }
    text = json.dumps(told, indent=1, sort_keys=True, allow_nan=False) + "\n"
    told, picture, paper = json.loads(text), io.BytesIO(), io.BytesIO()
    about = {"Software": None, "Provenance": text}
    fig.savefig(picture, format="png", dpi=200, metadata=about)
    made |= {"png": picture.getvalue(), "json": text.encode()}  # the json, which vouches, last
    kept = stands(folder, told, csv=csv, png=made["png"])
    if pdf or os.environ.get("IRLIB_PDF"):
        with mpl.rc_context({"pdf.fonttype": 42}):
            fig.savefig(paper, format="pdf", metadata={"CreationDate": None})
        made = {"pdf": paper.getvalue()} | made
        write(folder / f"{stem}.pdf", made["pdf"])
    if not kept:
        for kind in {"pdf", "tex"} - made.keys() if folder.is_dir() else ():
            (folder / f"{stem}.{kind}").unlink(missing_ok=True)  # of another drawing
        for kind, data in made.items():
            write(folder / f"{stem}.{kind}", data)
    if os.environ.get("IRLIB_OUT"):  # the runner asks what became of it
        receipt = {"kept": kept, "files": list(made)}
        write(folder / "notebooks" / f"{stem}.json", json.dumps(receipt).encode())
    saved = Saved(path=folder / f"{stem}.png", kept=kept)
    log.info("%s", saved)
    return saved


def _code(caller: str, stem: str) -> dict[str, str | None]:
    """The hashes of the code that calls and of the sources that it hangs on; None for unknown."""
    unknown = {"notebook": None, "sources": None}
    running = os.environ.get("IRLIB_NOTEBOOK")
    place = Path(running) if running else root() / "notebooks" / f"{stem}.ipynb"
    if place.is_file():
        cells = sources.code_of(place)
    elif (place := Path(caller)).is_file():
        cells = [place.read_text(encoding="utf-8")]
    else:
        return unknown
    told = provenance.fingerprint(cells)
    files = sources.drawing("\n".join(cells), place.parent)
    edited = [path.name for path in files if path.stat().st_ctime > IMPORTED]
    if edited or os.environ.get("IRLIB_CODE", told) != told:
        log.warning("edited while it ran: %s", ", ".join(edited) or place.name)
        return unknown
    return {
        "notebook": told,
        "sources": sources.digest(files, root(), PACKAGE.parent, place.parent),
    }


def _finite(numbers: dict) -> dict:
    """What is no finite number as null: JSON has no other word for it."""
    return {
        k: v if not isinstance(v, float) or np.isfinite(v) else None for k, v in numbers.items()
    }


def _rounded(table: pd.DataFrame) -> pd.DataFrame:
    """The table with six significant digits in columns that mix floats with other things too."""
    table = table.copy()
    for i, kind in enumerate(table.dtypes):
        if kind == np.dtype(object):
            table.isetitem(i, [_six(value) for value in table.iloc[:, i]])
    return table


def _six(value: object) -> object:
    return f"{value:.6g}" if isinstance(value, float) and value == value else value
