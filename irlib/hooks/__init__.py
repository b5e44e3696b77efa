"""Watching and changing a model's modules while it runs; knows nothing of vision."""

from typing import TYPE_CHECKING

from irlib.faces import face

if TYPE_CHECKING:
    from irlib.hooks.hooks import attend as attend
    from irlib.hooks.hooks import edit as edit
    from irlib.hooks.hooks import hooked as hooked
    from irlib.hooks.hooks import rows as rows
    from irlib.hooks.hooks import trace as trace

__getattr__, __dir__, __all__ = face(__name__)
