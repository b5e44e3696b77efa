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
from typing import NamedTuple

import pyarrow as pa
from filelock import FileLock, Timeout
from pyarrow import parquet

from irlib import store
from irlib.store import provenance

log = logging.getLogger(__name__)

SCHEMA = pa.schema(
    {"row": pa.string(), "layer": pa.int32(), "answer": pa.string(), "margin": pa.float32()}
    | {"kl": pa.float64(), "logprob": pa.float64()}  # nats; logprob is NaN where it was not asked
    | {"task": pa.string(), "key": pa.string()}  # for a reader of the shard: nothing hangs on them
)
STALE = 3600  # seconds after which a file half written was left by a process that is no more


class Told(NamedTuple):
    """An answer, how far its first token was ahead (models.rounding), the KL of that token from the
    untouched model and the log-probability of the untouched answer, in nats; NaN where not asked.
    """

    answer: str
    margin: float
    kl: float
    logprob: float = float("nan")


class Answers:
    """The answers of one setting: those kept in its folder and those added since, by row and layer.

    `setting` is all that determines an answer besides its row, as JSON; None keeps nothing on disk.
    `told[row, layer]` is a `Told`, `row` a `provenance.asked`. With `fresh` what was kept before
    does not count; of two answers of a row the newer counts. Raises `OSError` where the folder
    cannot be written.

    >>> answers = Answers(None)
    >>> answers.add([("abc", 0, *Told("yes", 312.0, 0.1), "pope", "random/1")])
    >>> answers.missing("abc", [0, 1])
    [1]
    """

    def __init__(self, setting: Mapping | None, *, name: str = "", fresh: bool = False):
        self.told: dict[tuple[str, int], Told] = {}
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
        return [layer for layer in layers if (row, layer) not in self.told]

    def refresh(self) -> None:
        """Read the shards that were written since the last time, by this process or another.

        A shard whose bytes do not have the checksum in its name is renamed to .damaged and told in
        the log; its rows are missing again. So are those of a shard with other columns, from
        another version of irlib, which stays as it is.
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
            table = parquet.read_table(io.BytesIO(data))
            if not table.schema.equals(SCHEMA):
                log.warning("%s has other columns; its rows are computed again", path)
                continue
            self._note(zip(*(column.to_pylist() for column in table.columns), strict=True))

    def _note(self, rows):
        for row, layer, *told, _, _ in rows:
            self.told[row, layer] = Told(*told)

    def add(self, rows: Sequence[tuple]) -> None:
        """Keep answers, `(row, layer, *Told, task, key)` each, as one shard; known ones are there.

        Raises `OSError` where it cannot be written: then it is not there at all, the others are.
        """
        rows = [row for row in rows if row[:2] not in self.told]
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
