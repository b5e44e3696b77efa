"""Pictures as they come, opened as a model's own processor sees them, or refused in words.

The model's reader and the tasks' reader open every picture here, so that both refuse alike, and a
figure draws what the model saw. A picture is turned upright as its EXIF says; of several frames or
pages it is the first, or the one that an open picture stands at; its colours are those of shades.
"""

import hashlib
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, ImageOps

from irlib.tasks import shades

# Those that PIL decodes by itself: EPS starts Ghostscript, WMF asks Windows, others hand on to more
FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
PHOTOMETRIC = 262  # TIFF's tag; 0 means that white is 0


class Embedded(Image.Image):
    """A picture as the bytes of its file: decoded when it is used, and not kept.

    It is a `PIL.Image.Image` whose pixels, size and mode are read anew from `encoded` at each use;
    draw on its `copy()`.

    >>> made = io.BytesIO()
    >>> Image.new("L", (3, 2)).save(made, "PNG")
    >>> Embedded(made.getvalue()).size
    (3, 2)
    """

    readonly = 1

    def __init__(self, encoded: bytes):
        self.encoded = encoded  # and nothing of PIL's own: that is asked of what `open` gives

    def open(self) -> Image.Image:
        """The picture upright, in the mode that it is kept in; raises what `open_picture` does."""
        return read(self.encoded)

    def __getattr__(self, name: str):
        if name == "encoded" or name.startswith("__"):  # what pickle and numpy ask for
            raise AttributeError(name)
        return getattr(self.open(), name)

    def __reduce__(self):
        return Embedded, (self.encoded,)

    def __eq__(self, other) -> bool:
        if isinstance(other, Embedded):
            return self.encoded == other.encoded
        return self.open() == other

    def __hash__(self) -> int:
        return hash(self.encoded)

    def __repr__(self) -> str:
        return f"Embedded({len(self.encoded)} bytes)"


def open_picture(image, *, whose: str = "") -> Image.Image | None:
    """The picture in RGB as the model sees it, by the table in shades; None of None.

    `image` is a PIL picture, a path, `Embedded`, a file's bytes, an array or a tensor. `whose`
    names the row in errors. Raises FileNotFoundError where there is no such file, ValueError where
    it is broken, empty, of another format, so large that PIL takes it for an attack, or its white
    is unknown.

    >>> open_picture(Image.new("LA", (3, 2))).getpixel((0, 0))
    (255, 255, 255)
    """
    if image is None:
        return None
    with _in_words(image, whose):
        return shades.in_rgb(_upright(image))


def identify(image, *, whose: str = "") -> str:
    """What a picture is known by: 16 hex digits of a sha256 of its pixels, "" where there is none.

    Of the pixels as a model's processor gets them, upright and in RGB: the same picture counts once
    under whatever name, in whatever file format, embedded or not. Several in a tuple are one, known
    by all of them in their order. Raises what `open_picture` does.

    >>> one = Image.new("RGB", (3, 2))
    >>> identify(one) == identify(one.convert("L")) != identify(one.rotate(90, expand=True))
    True
    """
    if image is None:
        return ""
    if isinstance(image, tuple):  # several that are asked about together: all of them, in order
        seen = " ".join(identify(one, whose=whose) for one in image)
        return hashlib.sha256(seen.encode()).hexdigest()[:16]
    picture = open_picture(image, whose=whose)
    seen = f"{picture.width} {picture.height} ".encode() + picture.tobytes()
    return hashlib.sha256(seen).hexdigest()[:16]


def read(image, *, whose: str = "") -> Image.Image:
    """The picture upright and in 8 bits, in its own mode; raises what `open_picture` does."""
    with _in_words(image, whose):
        return _upright(image)


def check_head(image: bytes | Path, *, whose: str = "") -> None:
    """Raise what `open_picture` does where a file's first bytes tell that it is no picture."""
    with _in_words(image, whose), _decoding():
        source = io.BytesIO(image) if isinstance(image, bytes) else image
        Image.open(source, formats=FORMATS).close()


def short(text: object) -> str:
    """The text, of a long one its beginning and its length.

    >>> short("a" * 20000)[-20:]
    'a... (20000 letters)'
    """
    text = str(text)
    return text if len(text) <= 300 else f"{text[:60]}... ({len(text)} letters)"


def _upright(image) -> Image.Image:
    """The picture decoded, turned as its EXIF says, its values in 8 bits."""
    if hasattr(image, "__array__"):
        return shades.drawn(image)
    if isinstance(image, Image.Image) and not isinstance(image, Embedded):
        form = getattr(image, "format", None)  # it may not be decoded yet
        if form not in (None, "MPO", *FORMATS):  # MPO is a JPEG with another behind it
            raise ValueError(f"its format is {form}; give its picture.copy() if it can be trusted")
        return _turned(image)
    with _decoding():
        encoded = getattr(image, "encoded", image)
        source = io.BytesIO(encoded) if isinstance(encoded, bytes) else encoded
        opened = Image.open(source, formats=FORMATS)
    with opened:
        return _turned(opened)


def _turned(picture: Image.Image) -> Image.Image:
    if 0 in picture.size:
        raise ValueError(f"it is {picture.width} by {picture.height} pixels; give another")
    with _decoding():
        upright = ImageOps.exif_transpose(picture)
    white = getattr(picture, "tag_v2", {}).get(PHOTOMETRIC)
    deep = picture.format == "PPM" and picture.mode == "I"  # PIL brings its white to 65535
    return shades.in_bytes(upright, inverted=white == 0, deep=deep)


@contextmanager
def _decoding() -> Iterator[None]:
    """Inside the block whatever a decoder raises is an OSError, besides what `_in_words` names."""
    try:
        yield
    except (Image.DecompressionBombWarning, Image.DecompressionBombError, OSError):
        raise
    except Exception as error:  # of broken data decoders raise what they like
        raise OSError(str(error) or type(error).__name__) from error


@contextmanager
def _in_words(image, whose: str) -> Iterator[None]:
    """Inside the block what is wrong with the picture is told in a sentence that names it."""
    whose = f"{whose}: " if whose else ""
    if isinstance(image, (list, tuple)):
        raise ValueError(
            f"{whose}asked for one picture, found {len(image)}; this takes one at a time: choose "
            "one of them, or ask about all together with vlm.prepare(pictures, question)"
        )
    asked = f"{whose}asked for the picture {_name(image)}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except FileNotFoundError:
        folder = short(Path(image).absolute().parent)
        raise FileNotFoundError(
            f"{asked}, found no such file in {folder}; check the path"
        ) from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ValueError(
            f"{asked}, found it too large ({error}); make it smaller, or raise "
            "PIL.Image.MAX_IMAGE_PIXELS where it can be trusted"
        ) from error
    except OSError as error:
        told = "cannot identify its format" if "BytesIO" in str(error) else error.strerror or error
        raise ValueError(
            f"{asked}, found something that does not open as one ({short(told)}); give a PIL "
            f"picture or the path of a whole file, one of {', '.join(FORMATS)}"
        ) from error
    except ValueError as error:
        raise ValueError(f"{asked}, found that {short(error)}") from error
    except (TypeError, NotImplementedError, RuntimeError) as error:  # of torch, numpy and PIL
        raise ValueError(
            f"{asked}, found that it has no values to read ({short(error)}); give a dense array "
            "or tensor, or a PIL picture"
        ) from error


def _name(image) -> str:
    if isinstance(image, (bytes, Embedded)):
        return f"of {len(getattr(image, 'encoded', image))} bytes"
    shape = getattr(image, "shape", None)
    return repr(short(image)) if shape is None else f"of shape {tuple(shape)}"
