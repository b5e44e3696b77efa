"""Stop a run of a model between two of its modules, when nobody waits for it any more."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch.nn.modules.module import register_module_forward_pre_hook


class Stopped(Exception):
    """What a run ends with that was to be stopped."""


@contextmanager
def stopping(over: Callable[[], bool]) -> Iterator[None]:
    """Inside the block this thread's runs of any torch module end with `Stopped` once `over()`.

    Asked before each module runs, in this thread alone: others go on. It is no hook of any one
    model, so that what shares the work of layers (interventions.staircase) still shares it.

    >>> from torch import nn, ones
    >>> with stopping(lambda: True):
    ...     nn.Linear(1, 1)(ones(1))
    Traceback (most recent call last):
    irlib.hooks.stopping.Stopped: asked to stop
    """
    mine = threading.get_ident()

    def check(*_) -> None:
        if threading.get_ident() == mine and over():
            raise Stopped("asked to stop")

    handle = register_module_forward_pre_hook(check)
    try:
        yield
    finally:
        handle.remove()
