"""One's own table, wherever it is: a csv, jsonl, json or parquet file, a folder of pictures with
its metadata, a folder laid out like the hub's, the hub, or what `datasets` has open."""

import json
import warnings
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
from pyarrow import parquet

from irlib import doors
from irlib.tasks import hub, originals, reader, splits

FILES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")
IMAGE = ("image", "file_name", "images")
SPLITS = ("test", "validation", "val", "train")
DIVIDERS = (",", ";", "\t")


def is_own(source: object) -> bool:
    """Return whether a source is one's own table: a file of rows, or a folder with metadata.

    >>> is_own("my.csv"), is_own("bundled"), is_own("hub:lmms-lab-encoder/POPE")
    (True, False, False)
    """
    if is_dataset(source):
        return True
    path = doors.path("source", source)
    if not str(source).strip():  # an empty text is not the current folder
        return False
    return path.suffix.lower() in FILES or bool(path.is_dir() and _metadata(path))


def is_dataset(source: object) -> bool:
    """Return whether `datasets` made it; without importing that."""
    return type(source).__module__.partition(".")[0] == "datasets"


def read(
    source,
    *,
    image: str | Sequence[str] | None = None,
    images: str | Path | None = None,
    config: str | None = None,
    split: str | None = None,
    revision: str | None = None,
) -> tuple[list[str], reader.Rows]:
    """Return the columns of a table and its rows; `image` is the column of pictures, or several.

    Raises ValueError for a table that does not read or is empty, FileNotFoundError for no such
    file or folder, ConnectionError where the hub cannot be reached.
    """
    what, anywhere = "rows of your own", False
    if is_dataset(source):
        anywhere, place, folder = True, f"a {type(source).__name__}", Path.cwd()
        table = splits.opened(source, split)
    elif str(source).startswith("hub:"):
        place, asked = str(source).removeprefix("hub:"), (split,) if split else SPLITS
        configs = (config or "default",)

        def wanted(card: Path) -> list[str] | None:
            named = splits.patterns(what, card, configs, asked)
            return named and named[1]

        folder = hub.fetch(what, place, wanted, revision=revision)
        table = splits.rows(what, folder, configs, asked)
    else:
        path = doors.path("source", source).resolve()
        if path.is_dir():
            found = _metadata(path, split)
            if len(found) > 1:
                raise ValueError(
                    f"{what} were asked for from {path}; it has "
                    f"{', '.join(str(one.relative_to(path)) for one in found)}; name one of them"
                )
            path = found[0] if found else path
        elif not path.is_file():
            raise FileNotFoundError(
                f"{what} were asked for from {source}; there is no such file or folder; give one "
                f"that ends in {', '.join(FILES)}, a folder of pictures with metadata.csv, or "
                "hub:OWNER/NAME"
            )
        place, folder = str(path), path if path.is_dir() else path.parent
        if path.is_dir():
            configs = (config or "default",)
            table = splits.rows(what, path, configs, (split,) if split else SPLITS)
        else:
            table = _file(path)
    names = table.column_names if isinstance(table, pa.Table) else _names(table)
    column = image or named(IMAGE, names)
    columns = [column] if isinstance(column, str) else list(column or ())
    plain = table if isinstance(table, list) else table.select(
        [name for name in names if name not in columns]).to_pylist()  # fmt: skip
    if not plain:
        raise ValueError(f"{what} were read from {place}; there are none; give it some")

    def cell(row: int) -> object:
        found = [table[row].get(one) if isinstance(table, list) else table[one][row].as_py()
                 for one in columns]  # fmt: skip
        return found if len(found) > 1 else next(iter(found), None)

    near = [folder / name for name in originals.PICTURES if (folder / name).is_dir()]
    within = Path(folder.anchor) if anywhere else hub.home(folder)
    if images:
        within = reader.there(what, images)
        near = [within, *near]
    return names, reader.Rows(place, folder, plain, [True] * len(plain), cell, near, within)


def named(ways: Sequence[str], names: Sequence[str]) -> str | None:
    """Return the column of one of these names, whatever its case; the exact one first.

    >>> named(("answer",), ["Image", "Answer "])
    'Answer '
    """
    for way in ways:
        same = [name for name in names if name == way]
        same = same or [name for name in names if name.strip().lower() == way]
        if len(same) == 1:
            return same[0]
    return None


def _metadata(folder: Path, split: str | None = None) -> list[Path]:
    """The metadata files of a folder of pictures, or of those of its splits."""
    own = [path for path in sorted(folder.glob("metadata.*")) if path.suffix in FILES]
    if own and not split:
        return own
    return [path for path in sorted(folder.glob(f"{split or '*'}/metadata.*"))
            if path.suffix in FILES]  # fmt: skip


def _file(path: Path) -> list[dict] | pa.Table:
    kind = path.suffix.lower()
    try:
        if kind == ".parquet":
            return parquet.read_table(path)
        if kind in (".csv", ".tsv"):
            return _separated(path)
        text = path.read_text(encoding="utf-8-sig")
        if kind == ".json":
            return _objects(json.loads(text), "element")
        lines = [(i, line) for i, line in enumerate(text.split("\n"), 1) if line.strip()]
        return _objects([_line(i, line) for i, line in lines], "row")
    except (ValueError, OSError, pa.ArrowException) as error:
        told = " ".join(str(error).split())
        raise ValueError(
            f"rows of your own were asked for from {path}; it does not read as {kind[1:]}: {told}; "
            "save it anew, in UTF-8"
        ) from error


def _line(number: int, line: str) -> object:
    try:
        return json.loads(line)
    except ValueError as error:
        raise ValueError(f"line {number} is no JSON ({error})") from error


def _objects(rows: object, noun: str) -> list[dict]:
    rows = rows if isinstance(rows, list) else [rows]
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise ValueError(f"{noun} {number} is no object with columns")
    return rows


def _separated(path: Path) -> list[dict]:
    """The rows of a csv, every cell a text; divided by what gives the first line most columns."""
    told = {"header": None, "dtype": str, "keep_default_na": False, "na_filter": False,
            "encoding": "utf-8-sig", "engine": "c"}  # fmt: skip
    heads = {mark: pd.read_csv(path, sep=mark, nrows=1, **told).shape[1] for mark in DIVIDERS}
    mark = max(DIVIDERS, key=lambda one: heads[one])
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        frame = pd.read_csv(path, sep=mark, **told)
    names = [str(name).strip() for name in frame.iloc[0]]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"it has several columns named {', '.join(map(repr, twice))}")
    return [dict(zip(names, row, strict=True)) for row in frame.iloc[1:].values.tolist()]


def _names(rows: Sequence[dict]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))
