"""One split of a set laid out as the hub's: which files it has, and the rows in them.

The only door to `datasets`, whose failures are put in words.
"""

import errno
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import pyarrow as pa
import yaml

from irlib import store
from irlib.store import contents, provenance
from irlib.store.files import ready
from irlib.tasks import hub

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_READERS = MappingProxyType(  # by the ending of a file, as `datasets` names them
    {".parquet": "parquet", ".jsonl": "json", ".json": "json", ".csv": "csv", ".arrow": "arrow"}
)


def patterns(
    what: str, folder: Path, configs: Sequence[str], splits: Sequence[str]
) -> tuple[str, list[str]] | None:
    """Return the first config's first split that the card names, and the patterns of its files.

    None where there is no card, or it does not say. Raises ValueError where it names others.
    """
    with _in_words(what, folder):
        told = _card(folder)
    if not told:
        return None
    config = _first(configs, list(told), f"{what} from {folder}", "config")
    there = told[config]
    split = _first(splits, list(there), f"{what} from {folder}, config {config}", "split")
    return split, there[split]


def rows(what: str, folder: Path, configs: Sequence[str], splits: Sequence[str]) -> pa.Table:
    """Return the rows of one split of a folder, on the disk and pictures as they are stored.

    No other split is prepared, and each content once: files are known by their sha256, read once a
    process (`contents.file`). Raises ValueError where the rows cannot be read, lie in another
    folder, or are none.
    """
    import datasets  # a second to import: only readers of rows pay it

    named = patterns(what, folder, configs, splits)
    if named:
        split, globs = named
        with _in_words(what, folder):
            files = sorted({str(path) for glob in globs for path in folder.glob(glob)})
        if any("*" in glob for glob in globs):
            _check_whole(what, folder, files)
    else:
        split, files = _guessed(what, folder, configs, splits)
    if not files or Path(files[0]).suffix not in _READERS:
        found = f"files like {Path(files[0]).name}" if files else f"none of {', '.join(globs)}"
        raise ValueError(
            f"{what} was asked for from {folder}, split {split!r}; its files do not read as a "
            f"dataset: found {found}; put them there as {', '.join(_READERS)}."
        )
    _check_near(what, folder, files)
    prepared = ready(store.results() / "datasets")
    with _in_words(what, folder):
        known = provenance.fingerprint([contents.file(Path(file)) for file in files])
        builder = datasets.load_dataset_builder(
            _READERS[Path(files[0]).suffix],
            data_files={split: files},
            cache_dir=str(prepared / known[:20]),
        )
        builder.download_and_prepare()
    if not builder.info.splits[split].num_examples:
        raise ValueError(f"{what} was read from {folder}; it has no rows; give it some.")
    return builder.as_dataset(split).data.table  # a Dataset would decode pictures, by any decoder


def opened(dataset, split: str | None = None) -> pa.Table:
    """Return the rows of what `datasets` has open, in its order, pictures as they are stored.

    Raises ValueError for one of several splits where none is named, and for one that streams.
    """
    if hasattr(dataset, "keys"):
        names = list(dataset.keys())
        split = split or (names[0] if len(names) == 1 else "")
        if split not in names:
            raise ValueError(
                f"rows of your own were asked for of split {split!r}; found {', '.join(names)}; "
                "name one of them with split="
            )
        dataset = dataset[split]
    if not hasattr(dataset, "num_rows"):
        raise ValueError(
            f"rows of your own were asked for from a {type(dataset).__name__}, which streams; "
            "found no table; load it without streaming=True"
        )
    return dataset.with_format("arrow")[:]


def _check_near(what: str, folder: Path, files: Sequence[str]) -> None:
    """Refuse a set whose card or links lead out of its folder."""
    for file in map(Path, files):
        if not file.resolve().is_relative_to(hub.home(folder)):
            raise ValueError(
                f"{what} was asked for from {folder}; its card or a link leads out of it, to "
                f"{file.resolve()}; put the files into the folder."
            )


def _check_whole(what: str, folder: Path, files: Sequence[str]) -> None:
    """Refuse a set whose files say that there are more of them."""
    told = [re.search(r"-of-(\d{5})\.", Path(file).name) for file in files]
    there = Counter(int(found[1]) for found in told if found)
    for total, count in there.items():
        if count % total:
            raise ValueError(
                f"{what} was asked for from {folder}; {count} files of {total} are there; fetch "
                "the others: online, or by hand."
            )


def _card(folder: Path) -> dict[str, dict[str, list[str]]]:
    """Return config, split and the patterns of its files, as the head of README.md lists them."""
    path = folder / "README.md"
    told = path.read_text(encoding="utf-8").split("---\n") if path.is_file() else []
    head = yaml.safe_load(told[1]) if len(told) > 2 and not told[0].strip() else {}
    listed = {}
    for config in (head or {}).get("configs") or ():
        files = config.get("data_files")
        if not files:
            return {}
        if isinstance(files, str) or isinstance(files[0], str):
            files = [{"split": "train", "path": files}]
        listed[config["config_name"]] = {
            str(one["split"]): [one["path"]] if isinstance(one["path"], str) else one["path"]
            for one in files
        }
    return listed


def _guessed(
    what: str, folder: Path, configs: Sequence[str], splits: Sequence[str]
) -> tuple[str, list[str]]:
    """Return the split and its files as `datasets` takes them from the names of the files."""
    import datasets

    with _in_words(what, folder):
        found = datasets.get_dataset_config_names(str(folder))
    config = _first(configs, found, f"{what} from {folder}", "config")
    with _in_words(what, folder):
        listed = datasets.load_dataset_builder(str(folder), config).config.data_files or {}
    split = _first(splits, list(listed), f"{what} from {folder}, config {config}", "split")
    return split, sorted(map(str, listed[split]))


@contextmanager
def _in_words(what: str, place: str | Path) -> Iterator[None]:
    """Inside the block `datasets` shows no progress, and fails with a sentence."""
    import datasets

    quiet = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    except (
        datasets.exceptions.DatasetsError,
        datasets.inspect.SplitsNotFoundError,
        yaml.YAMLError,
        pa.ArrowException,
        AttributeError,  # of a card that is no mapping
        OSError,
        ValueError,
        TypeError,
        KeyError,
        NotImplementedError,  # of a pattern that is no relative one
    ) as error:
        if full := _full(error):
            raise OSError(
                f"{what} was asked for from {place}; its rows are prepared in "
                f"{store.results() / 'datasets'}, which cannot be written "
                f"({full.strerror or full}); make room there, or name another folder by "
                "IRLIB_RESULTS"
            ) from error
        cause = str(error.__cause__ or error).splitlines() or [type(error).__name__]
        raise ValueError(
            f"{what} was asked for from {place}; its files do not read as a dataset: {cause[0]}; "
            "lay it out as the hub does: README.md with configs, data/test-*.parquet."
        ) from error
    finally:
        if not quiet:
            datasets.enable_progress_bars()


def _full(error: BaseException | None) -> OSError | None:
    """Return the error of a full disk that this one is, or came from: `datasets` wraps it, or has
    one of its own, without a number."""
    while error and not (
        isinstance(error, OSError) and (error.errno in FULL or "disk space" in str(error))
    ):
        error = error.__cause__ or error.__context__
    return error


def _first(wanted: Sequence[str], found: Sequence[str], what: str, noun: str) -> str:
    """Return the first wanted name among those found."""
    for name in wanted:
        if name in found:
            return str(name)
    raise ValueError(
        f"{what} was asked for {noun} {' or '.join(map(repr, wanted))}; it has "
        f"{', '.join(map(repr, map(str, found))) or 'none'}; name one of them with {noun}=."
    )
