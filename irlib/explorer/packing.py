"""Pictures and arrays as JSON: what a page can draw without asking anybody."""

import base64
import io
import math

import numpy as np
from PIL import Image

SIDE = 1024  # pixels of a picture's longer side in the page; boxes and cells keep the original's
FINE = 400_000  # numbers of all maps: above it each has 8 bits instead of 16


def picture(image: Image.Image) -> dict:
    """A picture as a raster data URL, at most SIDE pixels a side, with the original's size.

    PNG where few colours make it the smaller one, JPEG for photographs.

    >>> picture(Image.new("RGB", (2048, 1024)))["width"]
    2048
    """
    shown = image.convert("RGB")
    if max(shown.size) > SIDE:
        shown = shown.copy()
        shown.thumbnail((SIDE, SIDE), Image.LANCZOS)
    made = {}
    for kind, options in (("png", {"optimize": True}), ("jpeg", {"quality": 88})):
        into = io.BytesIO()
        shown.save(into, kind, **options)
        made[kind] = into.getvalue()
    kind = "png" if len(made["png"]) <= 2 * len(made["jpeg"]) else "jpeg"
    url = f"data:image/{kind};base64,{base64.b64encode(made[kind]).decode()}"
    return {"url": url, "width": image.width, "height": image.height}


def heat(values: np.ndarray, *, bits: int = 16) -> dict:
    """`values [layer, row, col]`, none below 0, as whole numbers of so many bits in base64: each
    layer brought to a maximum of 2**bits - 1, which its highest alone have, `peak [layer]` what it
    was; null where it is NaN.

    >>> heat(np.array([[[0.0, 0.5]], [[0.0, 0.0]]]), bits=8)
    {'bits': 8, 'data': 'AP8AAA==', 'peak': [0.5, 0.0]}
    """
    peak = values.max((1, 2), keepdims=True)
    share = np.divide(values, peak, out=np.zeros_like(values), where=peak > 0)
    most = 2**bits - 1
    whole = np.where(values < peak, np.rint(share * most).clip(max=most - 1), share * most)
    whole = whole.astype({8: "u1", 16: "<u2"}[bits])
    data = base64.b64encode(whole.tobytes()).decode()
    return {"bits": bits, "data": data, "peak": numbers(peak[:, 0, 0])}


def numbers(values) -> list:
    """Numbers of any shape as nested lists with six significant digits, null where not finite."""
    if hasattr(values, "tolist"):
        values = values.tolist()
    if isinstance(values, list | tuple):
        return [numbers(one) for one in values]
    if values is None or not math.isfinite(values):
        return None
    return float(f"{values:.6g}")
