"""The answers that models gave, kept as shards: each whole or not there, and known by its checksum.

Answers are kept, not scores: these are pure functions of strings, made when a table is.
"""

import hashlib
import io
import json
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import pyarrow as pa
from filelock import FileLock, Timeout
from pyarrow import parquet

from irlib import store
from irlib.store import provenance

log = logging.getLogger(__name__)

SCHEMA = pa.schema(
    {"row": pa.string(), "layer": pa.int32(), "answer": pa.string(), "margin": pa.float32()}
    | {"task": pa.string(), "key": pa.string()}  # for a reader of the shard: nothing hangs on them
)
STALE = 3600  # seconds after which a file half written was left by a process that is no more


class Answers:
    """The answers of one setting: those kept in its folder and those added since, by row and layer.

    `setting` is all that determines an answer besides its row, as JSON; None keeps nothing on disk.
    `texts[row, layer]` is an answer, `row` a `provenance.asked`, `margins[row, layer]` how far its
    first token was ahead. With `fresh` what was kept before does not count; of two answers of a row
    the newer counts. Raises `OSError` where the folder cannot be written.

    >>> answers = Answers(None)
    >>> answers.add([("abc", 0, "yes", 312.0, "pope", "random/1")])
    >>> answers.missing("abc", [0, 1])
    [1]
    """

    def __init__(self, setting: Mapping | None, *, name: str = "", fresh: bool = False):
        self.texts: dict[tuple[str, int], str] = {}
        self.margins: dict[tuple[str, int], float] = {}
        self.folder: Path | None = None
        self._seen: set[str] = set()
        if setting is None:
            return
        self.folder = store.results() / "answers" / provenance.fingerprint(setting)[:20]
        note = self.folder / "setting.json"
        if not note.is_file():
            told = {"name": name, **setting}  # the name is for a reader: the model has a hash
            store.write(note, json.dumps(told, indent=1, sort_keys=True).encode())
        for part in self.folder.glob(".*.part"):
            with suppress(OSError):  # another process may be faster
                if time.time() - part.stat().st_mtime > STALE:
                    part.unlink()
        if fresh:
            self._seen = {path.name for path in self.folder.glob("*.parquet")}
        self.refresh()

    def missing(self, row: str, layers: Iterable[int]) -> list[int]:
        """The layers whose answer is not there."""
        return [layer for layer in layers if (row, layer) not in self.texts]

    def refresh(self) -> None:
        """Read the shards that were written since the last time, by this process or another.

        A shard whose bytes do not have the checksum in its name is renamed to .damaged and told in
        the log; its rows are missing again.
        """
        found = self.folder.glob("*.parquet") if self.folder else ()
        new = [path for path in found if path.name not in self._seen]
        for path in sorted(new, key=_age):
            try:
                data = path.read_bytes()
            except FileNotFoundError:  # another process has found it damaged
                continue
            if path.stem.partition("-")[2] != _checksum(data):
                log.warning("%s is damaged; its rows are computed again", path)
                with suppress(OSError):
                    path.replace(path.with_suffix(".damaged"))
                continue
            self._seen.add(path.name)
            table = parquet.read_table(io.BytesIO(data), columns=SCHEMA.names[:4])
            self._note(zip(*(column.to_pylist() for column in table.columns), strict=True))

    def _note(self, rows):
        for row, layer, text, margin, *_ in rows:
            self.texts[row, layer], self.margins[row, layer] = text, margin

    def add(self, rows: Sequence[tuple[str, int, str, float, str, str]]) -> None:
        """Keep answers, `(row, layer, answer, margin, task, key)` each, as one shard; known ones
        are there.

        Raises `OSError` where it cannot be written: then it is not there at all, the others are.
        """
        rows = [row for row in rows if row[:2] not in self.texts]
        if not rows:
            return
        if self.folder:
            columns = [list(column) for column in zip(*rows, strict=True)]
            written = io.BytesIO()
            parquet.write_table(pa.table(columns, schema=SCHEMA), written)
            data = written.getvalue()
            path = self.folder / f"{len(rows)}-{_checksum(data)}.parquet"
            store.write(path, data)
            self._seen.add(path.name)
        self._note(rows)

    def claim(self, rows: Iterable[str]) -> ExitStack | None:
        """Take rows to work on, None where another process has one of them; close it to let go.

        One lock a row, so that no two processes compute it whatever else they were asked for; the
        operating system lets go of those of a process that dies.
        """
        if not self.folder:
            return ExitStack()
        with ExitStack() as held:
            for row in sorted(rows):
                lock = FileLock(self.folder / "locks" / f"{row}.lock")
                try:
                    Path(lock.lock_file).parent.mkdir(exist_ok=True)
                    lock.acquire(blocking=False)
                except Timeout:
                    return None
                except OSError as error:
                    raise OSError(
                        f"the store was asked to lock {lock.lock_file}; {error.strerror or error}; "
                        "make room, raise `ulimit -n` where too many files are open, or choose "
                        "another folder with IRLIB_RESULTS."
                    ) from error
                held.callback(_let_go, lock)
            self.refresh()  # what another process had finished before it let go
            return held.pop_all()


def capacity() -> int:
    """How many rows one process may claim at once: each is an open file, most of which are others'.

    >>> capacity() >= 32
    True
    """
    try:
        import resource  # not on Windows
    except ImportError:
        return 64
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 4096 if limit == resource.RLIM_INFINITY else min(4096, max(32, limit // 4))


def _let_go(lock: FileLock) -> None:
    """Unlock and leave no file; who has it open already sees that it has no name and comes back."""
    with suppress(OSError):  # Windows does not unlink what is open
        Path(lock.lock_file).unlink()
    lock.release()


def _checksum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:20]


def _age(path: Path) -> tuple[int, str]:
    """What sorts older shards first."""
    try:
        return path.stat().st_mtime_ns, path.name
    except FileNotFoundError:
        return 0, path.name
