"""Compute what a store of answers lacks, block by block, beside others that do the same."""

import logging
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Future, wait
from contextlib import ExitStack, contextmanager

from irlib.sweeps.answers import Answers
from irlib.tasks.samples import Sample

log = logging.getLogger(__name__)

PAUSE = 0.2  # seconds before looking again at rows that another process works on


def fill(
    answers: Answers,
    blocks: Sequence[Sequence[str]],
    samples: Mapping[str, Sample],
    *,
    layers: Sequence[int],
    submit: Callable[[list[Sample], list[list[int]]], Future],
    at_once: int = 1,
    done: Callable[[int], object] = lambda rows: None,
) -> dict[str, str]:
    """Bring each row's answer at every layer into the store; `{row: reason}` of those that failed.

    `submit(samples, layers of each)` gives a future of one (`Told` by layer, failure) a sample;
    `at_once` blocks are under way and `done` is told how many rows each had. Blocks come from the
    request and not from what is missing, so that a sweep that goes on has the same batches:
    neighbours in a batch move the last digits. A block that another process works on is come back
    to when the others are done. Only here are answers written, each block as it comes back; where
    one raises, what else was under way is still kept, then `RuntimeError` is raised for lost
    workers, the error itself for any other. An interrupt, SIGTERM too where blocks are computed by
    others, ends it at once: what they have finished by then is kept, what has not begun is taken
    back, no row stays claimed.
    """
    waiting, running, failed, trouble = deque(blocks), {}, {}, None

    def gaps(block):
        found = {row: answers.missing(row, layers) for row in block if row not in failed}
        return {row: gap for row, gap in found.items() if gap}

    try:
        while waiting or running:
            elsewhere = []
            while waiting and len(running) < at_once:
                block = waiting.popleft()
                claim = answers.claim(missing) if (missing := gaps(block)) else None
                if missing and not claim:
                    elsewhere.append(block)
                elif missing := gaps(block):  # again: claiming has read what others have written
                    try:
                        future = submit([samples[row] for row in missing], list(missing.values()))
                    except BaseException as error:
                        claim.close()
                        if not isinstance(error, Exception):
                            raise
                        trouble = trouble or error  # what is under way is still kept
                        waiting.clear()
                        break
                    running[future] = block, missing, claim
                else:
                    _end(claim, done, block)
            waiting.extend(elsewhere)
            if not running and waiting:
                time.sleep(PAUSE)
                answers.refresh()
            for future in wait(running, return_when=FIRST_COMPLETED).done if running else ():
                block, missing, claim = running.pop(future)
                try:
                    failed |= _keep(answers, samples, missing, future.result())
                except Exception as error:
                    trouble = trouble or error
                    waiting.clear()
                    for other in running:
                        other.cancel()
                finally:
                    _end(claim, done, block)
    finally:
        _leave(answers, samples, running)
    if trouble:
        with telling():
            raise trouble
    return failed


@contextmanager
def ending() -> Iterator[None]:
    """Let SIGTERM end the block as ctrl-C does, by an exception: `SystemExit`, with code 143.

    Only in the main thread, and only where nobody else has a say in it.
    """
    mine = threading.current_thread() is threading.main_thread()
    if not mine or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def end(number, _):
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def telling() -> Iterator[None]:
    """Say in words that workers were lost."""
    try:
        yield
    except Exception as error:
        lost = isinstance(error, BrokenExecutor | CancelledError)
        if not lost and not type(error).__module__.startswith("distributed"):
            raise
        raise RuntimeError(
            f"asked workers for answers, found them lost ({type(error).__name__}: {error}); what "
            "was finished is kept: run again with workers that live, and with more memory where "
            "that was the reason"
        ) from error


def _end(claim, done, block):
    if claim:
        claim.close()
    done(len(block))


def _leave(answers, samples, running):
    """Take back what is under way, keep what of it is finished, let go of all rows."""
    for future in running:
        future.cancel()
    with ExitStack() as claims:
        for _, _, claim in running.values():
            claims.push(claim)
        for future, (_, missing, _) in running.items():
            if future.done() and not future.cancelled() and not future.exception():
                _keep(answers, samples, missing, future.result())


def _keep(answers, samples, missing, said) -> dict[str, str]:
    """Write the answers of a block; return its failures."""
    rows, failed = [], {}
    for row, (told, failure) in zip(missing, said, strict=True):
        task, key = samples[row].task, samples[row].key
        rows += [(row, layer, *one, task, key) for layer, one in told.items()]
        if failure:
            log.warning("%s %s could not be answered: %s", task, key, failure)
            failed[row] = failure
    answers.add(rows)
    return failed
