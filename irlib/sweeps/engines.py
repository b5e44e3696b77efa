"""Where blocks of rows are computed: the executor that was given, or a cluster of dask workers."""

import logging
import os
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager

log = logging.getLogger(__name__)

SCHEDULER = "IRLIB_SCHEDULER"  # the environment's name for a scheduler's address


@contextmanager
def connect(address: str, *, timeout: float = 10) -> Iterator[Executor]:
    """An executor on the dask workers of the scheduler at `address`, such as tcp://127.0.0.1:8786.

    Where workers declare a resource GPU (`dask worker --resources GPU=1`) every task asks for one
    of them, so that a worker with one has one task at a time. Without any worker yet it waits for
    the first. Data travel as pickles: use addresses of your own machine or a network you trust, or
    tls://. Raises `ModuleNotFoundError` without the extra irlib[dask], `ConnectionError` where no
    scheduler answers within `timeout` seconds.
    """
    with _client(address, timeout) as client:
        if not client.scheduler_info()["workers"]:
            log.warning("the scheduler at %s has no workers yet; waiting for the first", address)
            client.wait_for_workers(1)
        workers = client.scheduler_info()["workers"].values()
        tagged = any(worker.get("resources", {}).get("GPU") for worker in workers)
        yield client.get_executor(pure=False, **({"resources": {"GPU": 1}} if tagged else {}))


@contextmanager
def given(executor: Executor | None) -> Iterator[Executor | None]:
    """The executor itself; without one that of the scheduler in IRLIB_SCHEDULER, else None.

    >>> with given(None) as executor:
    ...     executor is None
    True
    """
    address = os.environ.get(SCHEDULER)
    if executor is not None or not address:
        yield executor
    else:
        with connect(address) as executor:
            yield executor


def reach(address: str, *, timeout: float = 10) -> None:
    """Raise what `connect` would where there is no scheduler at `address`; tell of no workers."""
    with _client(address, timeout) as client:
        if not client.scheduler_info()["workers"]:
            log.warning(
                "the scheduler at %s has no workers yet: sweeps wait for the first", address
            )


def _client(address, timeout):
    try:
        from distributed import Client  # an extra, and a second to import
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"asked for the workers of the scheduler at {address}, found no package distributed; "
            "install the extra: pip install -c constraints.txt -e '.[dask]'"
        ) from error
    if "://" not in address:
        raise ValueError(
            f"asked for the scheduler at {address!r}, found no address in it; give the one that "
            "`dask scheduler` tells, such as tcp://127.0.0.1:8786"
        )
    try:
        return Client(address, timeout=timeout, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise ConnectionError(
            f"asked for the scheduler at {address}, found that it does not answer within {timeout} "
            f"s ({type(error).__name__}: {error}); start one with `dask scheduler --host "
            "127.0.0.1` and give the address that it tells, such as tcp://127.0.0.1:8786"
        ) from error
