"""Processes that are started together and end together, and locks on what they write."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import psutil
from filelock import FileLock, Timeout

from irlib.store.files import ready

MARK = "IRLIB_RUN"
GRACE = 2.0  # seconds to end by oneself, as after ctrl-C, before it is done by force
PAUSE = 0.05


class Processes:
    """What is started here, and all that this starts, wherever it moves to; nothing of it is left.

    A kernel has a session of its own, and who started it may be gone: so each process is known by a
    mark in its environment, which it hands on.
    """

    def __init__(self):
        self._mark, self._over = uuid4().hex, threading.Event()

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, *_) -> None:
        self._over.set()
        self._end()

    def run(self, order: Sequence[str], *, setting: Mapping[str, str], **options) -> tuple:
        """Run a command to its end; return its exit code and what it wrote to stderr, if piped."""
        said = options.pop("input", None)
        with subprocess.Popen(order, env={**setting, MARK: self._mark}, **options) as child:
            if self._over.is_set():  # it started while all others were ended
                child.kill()
            _, wrote = child.communicate(said)
        return child.returncode, wrote

    def _end(self) -> None:
        asked, start = set(), time.monotonic()
        while left := _marked(self._mark):
            late = (time.monotonic() - start) / GRACE
            own = [one for one in left if _parent(one) == os.getpid()]
            for one in left:
                with suppress(psutil.Error):
                    if late > 2 or (late > 1 and one not in own):  # who started it sees it end
                        one.kill()
                    elif one not in asked:
                        one.send_signal(signal.SIGINT)
                        asked.add(one)
            if late > 5:
                return  # not even by force: the system waits for a device
            time.sleep(PAUSE)


@contextmanager
def locked(places: Iterable[Path]) -> Iterator[Mapping[Path, FileLock]]:
    """Hold a lock file at each place, made with its folder, so that no other run writes there.

    Raises BlockingIOError where another run holds one, OSError where a folder cannot be made; the
    operating system lets go of those of a process that dies.
    """
    with ExitStack() as held:
        locks = {}
        for place in places:
            ready(place.parent)
            locks[place] = FileLock(place)
            try:
                held.enter_context(locks[place].acquire(blocking=False))
            except Timeout as error:
                raise BlockingIOError(
                    f"{place.stem} was to be drawn into {place.parent.parent}; another run is "
                    "drawing it there; wait for that one, or name another folder by --out."
                ) from error
        yield locks


@contextmanager
def stoppable() -> Iterator[None]:
    """Inside, the first signal to end raises KeyboardInterrupt; others do not cut that short."""
    if threading.current_thread() is not threading.main_thread():
        yield  # there Python sets no handlers
        return
    ending = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if os.name == "posix" else [])]

    def stop(number: int, _) -> None:
        for one in ending:
            signal.signal(one, signal.SIG_IGN)
        raise KeyboardInterrupt(number)

    before = {one: signal.getsignal(one) for one in ending}
    try:
        for one in ending:
            if one in ending[:2] or before[one] is not signal.SIG_IGN:  # nohup stays nohup
                signal.signal(one, stop)
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _marked(mark: str) -> list[psutil.Process]:
    found = []
    for one in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if one.environ().get(MARK) == mark and one.status() != psutil.STATUS_ZOMBIE:
                found.append(one)
    return found


def _parent(one: psutil.Process) -> int | None:
    with suppress(psutil.Error):
        return one.ppid()
    return None
