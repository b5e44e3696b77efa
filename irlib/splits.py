"""One split of a set laid out as the hub's: which files it has, and the rows in them.

The only door to `datasets`, whose failures are put in words.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import yaml

from irlib import store


def resolve(
    what: str,
    place: str,
    configs: Sequence[str],
    splits: Sequence[str],
    *,
    revision: str | None = None,
) -> tuple[object, str, list[str]]:
    """Return the builder, the split and its files: the first config and split that the set has.

    `place` is a folder or an id of the hub. Raises ValueError where there is none of them, or where
    the set does not read.
    """
    import datasets  # a second to import: only readers of rows pay it

    with _in_words(what, place):
        found = datasets.get_dataset_config_names(place, revision=revision)
    config = _first(configs, found, f"{what} from {place}", "config")
    with _in_words(what, place):
        builder = datasets.load_dataset_builder(place, config, revision=revision)
        files = builder.config.data_files or {}
    split = _first(splits, list(files), f"{what} from {place}, config {config}", "split")
    if not files[split]:
        raise ValueError(
            f"{what} was asked for from {place}, split {split!r}; its files are not there; fetch "
            "them, or name another split=."
        )
    return builder, split, list(files[split])


def rows(what: str, folder: Path, configs: Sequence[str], splits: Sequence[str]):
    """Return the rows of one split of a folder as a `Dataset`, pictures left as they are stored.

    No other split is prepared. Raises ValueError where it cannot be read.
    """
    import datasets

    builder, split, files = resolve(what, str(folder), configs, splits)
    with _in_words(what, folder):
        builder = datasets.load_dataset_builder(
            builder.name,
            data_files={split: files},
            features=builder.info.features,
            cache_dir=str(store.results() / "datasets" / _stamp(folder)),
        )
        builder.download_and_prepare()
    if not builder.info.splits[split].num_examples:
        raise ValueError(f"{what} was read from {folder}; it has no rows; give it some.")
    dataset = builder.as_dataset(split)
    if isinstance(dataset.features.get("image"), datasets.Image):
        dataset = dataset.cast_column("image", datasets.Image(decode=False))
    return dataset


@contextmanager
def _in_words(what: str, place: str | Path) -> Iterator[None]:
    """Inside the block `datasets` shows no progress, and fails with a sentence."""
    import datasets

    quiet = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    except ConnectionError:
        raise
    except (
        datasets.exceptions.DatasetsError,
        datasets.inspect.SplitsNotFoundError,
        yaml.YAMLError,
        pa.ArrowException,
        OSError,
        ValueError,
        TypeError,
        KeyError,
    ) as error:
        cause = str(error.__cause__ or error).splitlines() or [type(error).__name__]
        raise ValueError(
            f"{what} was asked for from {place}; its files do not read as a dataset: {cause[0]}; "
            "lay it out as the hub does: README.md with configs, data/test-*.parquet."
        ) from error
    finally:
        if not quiet:
            datasets.enable_progress_bars()


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
            return str(name)
    raise ValueError(
        f"{what} was asked for {noun} {' or '.join(map(repr, wanted))}; it has "
        f"{', '.join(map(repr, map(str, found))) or 'none'}; name one of them with {noun}=."
    )
