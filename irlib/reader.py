"""Rows of a task from a folder or the hub: one reader, `datasets`, and its failures in words."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from PIL import Image

from irlib import store
from irlib.scores import chair


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of one split; `place` is where they came from, pictures are read on demand."""

    place: str
    folder: Path | None
    dataset: object
    has_image: tuple[bool, ...]

    def __len__(self) -> int:
        return len(self.has_image)

    def without_pictures(self) -> list[dict]:
        """Return every row as a dict, its picture left out."""
        return self.dataset.remove_columns("image").to_list()

    def image(self, row: int) -> Image.Image | Path | None:
        """Return a row's picture; a path in the column is relative to the folder."""
        if not self.has_image[row]:
            return None
        picture = self.dataset[row]["image"]
        return (self.folder or Path()) / picture if isinstance(picture, str) else picture

    def words(self) -> chair.Words:
        """Return the word table that belongs to the rows: the folder's own, else COCO's."""
        own = self.folder / "synonyms.txt" if self.folder else None
        here = own if own and own.is_file() else store.root() / "data/coco/synonyms.txt"
        return chair.read_words(here)


def read(
    what: str,
    *,
    source: str | Path,
    hub: str,
    configs: Sequence[str],
    splits: Sequence[str],
    columns: Sequence[str],
    revision: str | None = None,
) -> Rows:
    """Return the rows of the first config and split of those named that the source has.

    `source` is "hub" (then `hub` is the id), "hub:OWNER/NAME" or a folder. Raises
    FileNotFoundError for no such folder, ConnectionError where the hub cannot be reached,
    ValueError for a config, split or column that is not there, and for no rows.
    """
    import datasets  # a second to import: only readers of rows pay it

    remote = str(source) == "hub" or str(source).startswith("hub:")
    folder = None if remote else Path(source).expanduser().resolve()
    if folder and not folder.is_dir():
        raise FileNotFoundError(
            f"{what} was asked for from {source}; there is no such folder; give a folder laid out "
            'like the hub\'s, "bundled", "hub" or "hub:OWNER/NAME".'
        )
    place = str(source).removeprefix("hub").removeprefix(":") or hub if remote else str(folder)
    quiet = datasets.are_progress_bars_disabled()
    if not remote:
        datasets.disable_progress_bars()
    try:
        kept = None if remote else str(store.results() / "datasets" / _stamp(folder))
        found = datasets.get_dataset_config_names(place, revision=revision)
        config = _first(configs, found, f"{what} from {place}", "config")
        found = datasets.get_dataset_split_names(place, config, revision=revision)
        split = _first(splits, found, f"{what} from {place}, config {config}", "split")
        builder = datasets.load_dataset_builder(place, config, revision=revision, cache_dir=kept)
        builder.download_and_prepare()
    except (ConnectionError, datasets.exceptions.DatasetNotFoundError) as error:
        offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else ""
        raise ConnectionError(
            f"{what} was asked for from the hub, {place}; it cannot be reached{offline}: {error}; "
            'go online, or give source="bundled" or a folder laid out like the hub\'s.'
        ) from error
    except (
        datasets.exceptions.DatasetGenerationError,
        datasets.inspect.SplitsNotFoundError,
        FileNotFoundError,
    ) as error:
        cause = str(error.__cause__ or error).splitlines()[0]
        raise ValueError(
            f"{what} was asked for from {place}; its files do not read as a dataset: {cause}; lay "
            "it out as the hub does: README.md with configs, data/test-*.parquet."
        ) from error
    finally:
        if not quiet:
            datasets.enable_progress_bars()
    if not builder.info.splits[split].num_examples:
        raise ValueError(f"{what} was read from {place}; it has no rows; give it some.")
    dataset = builder.as_dataset(split)
    missing = [column for column in columns if column not in dataset.column_names]
    if missing:
        raise ValueError(
            f"{what} was read from {place}; it has columns {', '.join(dataset.column_names)} but "
            f"no {', '.join(missing)}; name them as the hub's set does."
        )
    pictured = dataset.data.column("image").is_valid().to_pylist()
    return Rows(place, folder, dataset, tuple(pictured))


def _stamp(folder: Path) -> str:
    """Return a name for the files of a folder as they are now.

    `datasets` keeps what it has read by the folder's name alone, and would go on giving the rows of
    a folder that was since drawn anew.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    facts = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return sha256(repr(facts).encode()).hexdigest()[:16]


def _first(wanted: Sequence[str], found: Sequence[str], what: str, noun: str) -> str:
    """Return the first wanted name among those found."""
    for name in wanted:
        if name in found:
            return name
    raise ValueError(
        f"{what} was asked for {noun} {' or '.join(map(repr, wanted))}; it has "
        f"{', '.join(map(repr, found)) or 'none'}; name one of them with {noun}=."
    )
