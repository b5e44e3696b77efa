"""Rows of a task, wherever they are: a folder laid out like the hub's, the hub, published files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from irlib import doors, store
from irlib.scores import chair, lemmas
from irlib.tasks import hub, originals, pictures, splits


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of one split; `place` is where they came from, pictures are read on demand.

    `plain` are the rows without their pictures, `cell(i)` is what stands for a picture: the name of
    a file in one of the folders `near` that lies in the folder `within`, the bytes of one, or a
    dict of both; a list of them where a row has several.
    """

    place: str
    folder: Path
    plain: Sequence[dict]
    has_image: Sequence[bool]
    cell: Callable[[int], object]
    near: Sequence[Path]
    within: Path
    embedded: dict[bytes, pictures.Embedded] = field(default_factory=dict)
    known: dict[tuple, str] = field(default_factory=dict)

    def image(
        self, row: int, *, whose: str, checked: bool = False
    ) -> pictures.Embedded | Path | tuple | None:
        """Return a row's picture: its bytes where it is embedded, its path where it is a file.

        A tuple of several. Raises ValueError for what is neither, and, if `checked`, for a file
        that does not begin as a picture; FileNotFoundError for a file that is not there.
        """
        cell = self.cell(row) if self.has_image[row] else None
        if isinstance(cell, list):
            return tuple(self._image(one, whose, checked) for one in cell)
        return self._image(cell, whose, checked)

    def _image(self, cell, whose, checked):
        stored = self._stored(cell, whose=whose)
        if not isinstance(stored, bytes):
            if checked:
                pictures.check_head(stored, whose=whose)
            return stored
        name = sha256(stored).digest()  # many rows ask of one picture: its bytes are kept once
        if name not in self.embedded:
            pictures.check_head(stored, whose=whose)
            self.embedded[name] = pictures.Embedded(stored)
        return self.embedded[name]

    def identify(self, row: int, *, whose: str) -> str:
        """Return what a row's picture is known by, "" where it has none; no picture stays open."""
        cell = self.cell(row) if self.has_image[row] else None
        several = cell if isinstance(cell, list) else [cell]
        stored = [self._stored(one, whose=whose) for one in several]
        name = tuple(sha256(one).digest() if isinstance(one, bytes) else one for one in stored)
        if name not in self.known:
            image = tuple(stored) if len(stored) > 1 else stored[0]
            self.known[name] = pictures.identify(image, whose=whose)
        return self.known[name]

    def _stored(self, cell: object, *, whose: str) -> bytes | Path | None:
        """A picture's bytes where it is embedded, its path where it is a file."""
        if isinstance(cell, dict):
            cell = cell["path"] if cell.get("bytes") is None else cell["bytes"]
        if isinstance(cell, str):
            return find(cell, self.near, within=self.within, whose=whose)
        if cell is not None and not isinstance(cell, bytes):
            raise ValueError(
                f"{whose}: asked for its picture, found {pictures.short(repr(cell))}; write the "
                "name of a file, or a file's bytes"
            )
        return cell

    def words(self) -> chair.Words:
        """Return the word table that belongs to the rows: the folder's own, else COCO's.

        Where it asks for base forms, NLTK's data are there as well.
        """
        own, coco = self.folder / "synonyms.txt", store.added("coco")
        words = chair.read_words(own if own.is_file() else chair.fetch_words(coco))
        if not words.listed:
            lemmas.fetch(coco)
        return words


def read(
    task: str,
    *,
    source: str | Path,
    hub_id: str,
    configs: Sequence[str],
    known: Sequence[str],
    columns: Sequence[str],
    split: str | None = None,
    revision: str | None = None,
    images: str | Path | None = None,
) -> Rows:
    """Return the rows of the first of the configs, and of `split` or the first of the `known` ones.

    `source` is "hub" (then `hub_id` is meant), "hub:OWNER/NAME", a folder laid out like the hub's,
    or one with the task's published files. Pictures that are named by a path are looked for in the
    folder `images`, else in the source, and lie nowhere else. Raises FileNotFoundError for no such
    folder, ConnectionError where the hub cannot be reached, ValueError for a config, split or
    column that is not there, and for no rows.
    """
    what, asked = f"task {task!r}", (split,) if split else known
    if str(source) == "hub" or str(source).startswith("hub:"):
        place = str(source).removeprefix("hub").removeprefix(":") or hub_id

        def wanted(card: Path) -> list[str] | None:
            named = splits.patterns(what, card, configs, asked)
            return named and named[1]

        folder = hub.fetch(what, place, wanted, revision=revision)
    else:
        folder = there(what, source)
        place = str(folder)
    near = [folder / name for name in originals.PICTURES if (folder / name).is_dir()]
    within = there(what, images) if images else hub.home(folder)
    near = [within, *near] if images else near
    if originals.published(task, folder):
        plain = originals.rows(task, folder, split=split)
        cells = [row.pop("image", None) for row in plain]
        names = [*(plain[0] if plain else columns), "image"]
        has_image = [cell is not None for cell in cells]
        cell = cells.__getitem__
    else:
        table = splits.rows(what, folder, configs, asked)
        names, has_image = table.column_names, []
        if "image" in names:
            has_image = _pictured(table.column("image"))
            plain = table.drop_columns("image").to_pylist()

        def cell(row: int) -> object:
            return table.column("image")[row].as_py()

    missing = [name for name in columns if not set(name.split("|")) & set(names)]
    if missing:
        raise ValueError(
            f"{what} was read from {place}; it has columns {', '.join(names)} but no "
            f"{', '.join(missing).replace('|', ' or ')}; name them as the hub's set does."
        )
    if not plain:
        asked_for = f" of split {split!r}" if split else ""
        raise ValueError(f"{what} was read from {place}; it has no rows{asked_for}; give it some.")
    return Rows(place, folder, plain, has_image, cell, near, within)


def find(name: str, folders: Sequence[Path], *, within: Path, whose: str) -> Path:
    """The first of the folders' files of that name which lies in the folder `within`.

    Raises FileNotFoundError where none has it, ValueError where it lies elsewhere, by its name or
    by a link.

    >>> here = Path(__file__).resolve().parent
    >>> find("reader.py", [here], within=here, whose="doctest").name
    'reader.py'
    """
    asked, astray = (
        f"{whose}{': ' * bool(whose)}asked for the picture {pictures.short(name)!r}",
        None,
    )
    for path in (place / name for place in folders):
        if not _is_file(path):
            continue
        if path.resolve().is_relative_to(within):
            return path
        astray = astray or path.resolve()
    if astray:
        raise ValueError(
            f"{asked}, found that it leads out of {within} to {pictures.short(astray)}; move it "
            f"there, or name {pictures.short(astray.parent)} with images= where it can be trusted"
        )
    raise FileNotFoundError(
        f"{asked}, found it in none of {', '.join(map(str, folders))}; put it there, or name its "
        "folder with images="
    )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name too long for any file
        return False


def there(what: str, named: str | Path) -> Path:
    folder = doors.path("a folder", named).resolve()
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{what} was asked for from {named}; there is no such folder; give a folder laid out "
            'like the hub\'s, "bundled", "hub" or "hub:OWNER/NAME".'
        )
    return folder


def _pictured(column: pa.ChunkedArray) -> list[bool]:
    """Return which rows have a picture; a struct of two nothings is none."""
    there = column.is_valid()
    if pa.types.is_struct(column.type):
        fields = [column.type.field(i).name for i in range(column.type.num_fields)]
        parts = [pc.struct_field(column, name).is_valid() for name in fields]
        for part in parts[1:]:
            parts[0] = pc.or_(parts[0], part)
        there = pc.and_(there, parts[0])
    return there.to_pylist()
