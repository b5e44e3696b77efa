"""Pictures as they come: a file, a file's bytes or a PIL picture, read upright or refused in words.

The model's reader and the tasks' reader open every picture here, so that both refuse alike.
"""

import hashlib
import io
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError


def open_picture(image, *, whose: str = "") -> Image.Image | None:
    """The picture (PIL, path, a file's bytes, or None) in RGB and upright.

    Transparency is dropped, an animation's first frame taken, 16 bits of grey become 8. `whose`
    names the row in errors. Raises FileNotFoundError where there is no such file, ValueError where
    it is broken, empty, or so large that PIL takes it for an attack.

    >>> open_picture(Image.new("LA", (3, 2))).mode
    'RGB'
    """
    return None if image is None else read(image, whose=whose).convert("RGB")


def identify(image, *, whose: str = "") -> str:
    """What a picture is known by: 16 hex digits of a sha256 of its pixels, "" where there is none.

    Of the pixels as a model's processor gets them, upright and in RGB: the same picture counts once
    under whatever name, in whatever file format, embedded or not. Raises what `open_picture` does.

    >>> one = Image.new("RGB", (3, 2))
    >>> identify(one) == identify(one.convert("L")) != identify(one.rotate(90, expand=True))
    True
    """
    if image is None:
        return ""
    picture = open_picture(image, whose=whose)
    seen = f"{picture.width} {picture.height} ".encode() + picture.tobytes()
    return hashlib.sha256(seen).hexdigest()[:16]


def read(image, *, whose: str = "") -> Image.Image:
    """The picture upright, in the mode that it is kept in; raises what `open_picture` does."""
    asked = f"{whose + ': ' if whose else ''}asked for the picture {_name(image)}"
    if isinstance(image, (list, tuple)):
        raise ValueError(
            f"{whose + ': ' if whose else ''}asked for one prompt, found {len(image)} pictures; "
            "give one picture a question, and a list of samples for a batch"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = image if isinstance(image, Image.Image) else _opened(image)
            if 0 in picture.size:
                raise ValueError(f"it is {picture.width} by {picture.height} pixels")
            return _eight_bits(ImageOps.exif_transpose(picture))
    except FileNotFoundError:
        raise FileNotFoundError(f"{asked}, found no such file; check the path") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ValueError(
            f"{asked}, found it too large ({error}); make it smaller, or raise "
            "PIL.Image.MAX_IMAGE_PIXELS where it can be trusted"
        ) from error
    except (UnidentifiedImageError, OSError, SyntaxError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{asked}, found something that does not open as one ({_told(error)}); give a PIL "
            "picture or the path of a whole PNG or JPEG file"
        ) from error
    except ValueError as error:
        raise ValueError(f"{asked}, found one without content ({error}); give another") from error


def find(name: str, folders: Sequence[Path], *, whose: str) -> Path:
    """The first of the folders' files of that name; raises FileNotFoundError where none has it.

    >>> find("pictures.py", [Path(__file__).parent], whose="doctest").name
    'pictures.py'
    """
    for place in folders:
        if (place / name).is_file():
            return place / name
    raise FileNotFoundError(
        f"{whose}: asked for the picture {name!r}, found it in none of "
        f"{', '.join(map(str, folders))}; put it there, or name its folder with images="
    )


def _opened(image) -> Image.Image:
    picture = Image.open(io.BytesIO(image) if isinstance(image, bytes) else image)
    try:
        picture.load()  # closes the file, too
    except ValueError as error:  # some decoders say so of data that are cut short
        raise OSError(str(error)) from error
    return picture


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Grey of 16 bits in 8: PIL's own conversion would make all but the darkest of it white."""
    if picture.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    if picture.mode in ("I", "F"):
        low, high = picture.getextrema()
        if not 0 <= low <= high <= 255:
            raise ValueError(f"its values go from {low} to {high}, and white is unknown")
    return picture


def _name(image) -> str:
    return f"of {len(image)} bytes" if isinstance(image, bytes) else repr(str(image))


def _told(error: Exception) -> str:
    return "cannot identify its format" if "BytesIO" in str(error) else str(error)
