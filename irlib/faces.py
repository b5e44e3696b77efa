"""A room's face: the few names that it hands on, each loaded when it is first asked for."""

import ast
import sys
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path


def face(room: str) -> tuple[Callable[[str], object], Callable[[], list[str]], list[str]]:
    """Return `__getattr__`, `__dir__` and `__all__` of the package of this name, for PEP 562.

    The names are those that its `__init__.py` imports under `if TYPE_CHECKING`: there an editor
    reads them, and they stand nowhere else.

    >>> import irlib.sweeps
    >>> "sweep" in face("irlib.sweeps")[2]
    True
    """
    homes = handed(Path(sys.modules[room].__file__))

    def get(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"{room} has no {name!r}; it has {', '.join(homes)}")
        value = getattr(import_module(homes[name]), name)
        setattr(sys.modules[room], name, value)  # asked once
        return value

    return get, lambda: sorted(homes), list(homes)


@cache
def handed(path: Path) -> dict[str, str]:
    """Return the module of each name that a face hands on; none where the file is no face."""
    homes = {}
    for block in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(block, ast.If) and getattr(block.test, "id", "") == "TYPE_CHECKING":
            for node in block.body:
                homes |= {alias.name: node.module for alias in node.names}
    return homes
