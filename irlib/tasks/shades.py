"""What a model sees of a picture: RGB of 8 bits, from every mode, array and tensor.

It is what transformers' own processors make of an opened file; where those cut off what does not
fit 8 bits, the rule below stands in, and what it cannot tell is refused. Colour profiles (ICC) and
gamma are left out, as the processors do.

| mode, or dtype of an array | what the model sees |
|---|---|
| 1, bool | black and white |
| L, P, RGB, RGBX, CMYK, YCbCr, HSV, uint8 | its colours, 255 is white |
| LA, La, PA, RGBA, RGBa; 1, L, P, RGB, I;16 with a transparent colour | laid on white |
| I;16, I;16B, I;16L, I;16N, uint16; I of a PGM | 65535 is white, where its upper half is used |
| F, floats | 1 is white, from 0 to 1; or as the next |
| I, other whole numbers | 255 is white, where the upper half of 0 to 255 is used and no more |
| LAB | refused: processors take its A for transparency |

Where white is unknown (12 bits in 16, floats above 1) it is refused. Arrays and tensors are
`[row, column]`, `[row, column, channel]` or `[channel, row, column]` of 1, 3 or 4 channels.
"""

import numpy as np
from PIL import Image

CHANNELS = (1, 3, 4)


def in_rgb(picture: Image.Image) -> Image.Image:
    """The picture in RGB, laid on white where it is transparent; raises ValueError for LAB.

    >>> in_rgb(Image.new("LA", (3, 2))).getpixel((0, 0))
    (255, 255, 255)
    """
    if picture.mode == "LAB":
        raise ValueError("its mode is LAB; give its picture.convert('RGB')")
    if picture.has_transparency_data:
        picture = picture.convert("LA") if picture.mode == "La" else picture
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return picture.convert("RGB")


def in_bytes(picture: Image.Image, *, inverted: bool = False, deep: bool = False) -> Image.Image:
    """The picture itself, or in L or LA where its grey has more than 8 bits.

    `inverted` says that its white is 0, `deep` that it is 65535. Raises ValueError where
    white is unknown.

    >>> in_bytes(Image.new("F", (1, 1), 0.5)).getpixel((0, 0))
    128
    """
    if picture.mode[:1] not in ("I", "F"):
        return picture
    if inverted:
        raise ValueError("its white is 0, which PIL does not heed; invert it, and give 8 bits")
    values, clear = np.asarray(picture), picture.info.get("transparency")
    values = values.astype(np.uint16) if deep else values
    shades = Image.fromarray(_bytes(values))
    if clear is None:
        return shades
    return Image.merge("LA", [shades, Image.fromarray(_bytes(values != clear))])


def drawn(image) -> Image.Image:
    """A picture in L, RGB or RGBA of an array or a tensor; raises ValueError where it is none.

    >>> drawn(np.ones((1, 2, 5))).size
    (5, 2)
    """
    if hasattr(image, "detach"):
        image = image.detach().cpu()
        image = image.float() if image.is_floating_point() else image  # numpy has no bfloat16
    values = np.asarray(image)
    shape = values.shape
    first, last = (len(shape) == 3 and shape[axis] in CHANNELS for axis in (0, -1))
    if (first == last and len(shape) != 2) or 0 in shape:
        found = "channels first or last" if first and last else "no picture's"
        raise ValueError(
            f"its shape {shape} is {found}; give [row, column] or [row, column, channel] of "
            f"{', '.join(map(str, CHANNELS))} channels, or a PIL picture"
        )
    values = np.moveaxis(values, 0, -1) if first else values
    values = values[..., 0] if values.shape[2:] == (1,) else values
    return Image.fromarray(_bytes(values))


def _bytes(values: np.ndarray) -> np.ndarray:
    """The values from 0 to white as bytes from 0 to 255."""
    kind, deep = values.dtype.kind, values.dtype.str[1:] == "u2"
    if values.dtype == np.uint8:
        return values
    if kind == "b":
        return values.astype(np.uint8) * 255
    if kind not in "iuf":
        raise ValueError(f"its values are {values.dtype}; give uint8, whose white is 255")
    low, high = values.min(), values.max()
    if kind == "f" and low >= 0 and high <= 1:
        return np.rint(values.astype(float) * 255).astype(np.uint8)
    if deep and high >= 2**15:
        return (values >> 8).astype(np.uint8)
    if not deep and low >= 0 and 2**7 <= high <= 255:
        return values.astype(np.uint8)
    raise ValueError(
        f"its values go from {low} to {high} in {values.dtype}, and white is unknown; give 8 bits, "
        "whose white is 255, or floats from 0 to 1"
    )
