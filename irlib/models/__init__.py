"""A model by its name, as one record with the facts of its family."""

from typing import TYPE_CHECKING

from irlib.faces import face

if TYPE_CHECKING:
    from irlib.models.families import FAMILIES as FAMILIES
    from irlib.models.family import Family as Family
    from irlib.models.loading import load as load
    from irlib.models.loading import minis as minis
    from irlib.models.shikra import convert as convert
    from irlib.models.sites import SITES as SITES
    from irlib.models.vlm import VLM as VLM

__getattr__, __dir__, __all__ = face(__name__)
