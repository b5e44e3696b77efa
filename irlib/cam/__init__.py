"""LLaVA-CAM: gradient maps of the image tokens, at every layer in one backward pass."""

from typing import TYPE_CHECKING

from irlib.faces import face

if TYPE_CHECKING:
    from irlib.cam.cam import llava_cam as llava_cam
    from irlib.cam.maps import Maps as Maps

__getattr__, __dir__, __all__ = face(__name__)
