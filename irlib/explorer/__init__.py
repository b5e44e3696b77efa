"""The interactive view of one sample."""

from typing import TYPE_CHECKING

from irlib.faces import face

if TYPE_CHECKING:
    from irlib.explorer.view import explore as explore

__getattr__, __dir__, __all__ = face(__name__)
