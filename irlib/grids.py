"""Where each image token lies on the original picture.

A processor resizes, crops and cuts a picture before the vision tower sees it. A `Grid` undoes that:
it gives every image token its box in the pixels of the picture that the user handed in.
"""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError


@dataclass(frozen=True, eq=False)
class Grid:
    """The image tokens of one picture, laid back on it.

    `size` is the picture's (width, height) in pixels; `cells [row, col]` holds the index of the
    image token that sits there, counted among the image tokens; `boxes [token, 4]` its x0, y0,
    x1, y1 in pixels of the original picture, which may reach beyond it where a processor pads.

    >>> grid = crop_grid((200, 100), shape=(2, 2), resize={"shortest_edge": 56}, crop=(56, 56))
    >>> grid.shape, grid.boxes[0].tolist()
    ((2, 2), [50.0, 0.0, 100.0, 50.0])
    """

    size: tuple[int, int]
    cells: np.ndarray
    boxes: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.cells.shape

    def lay(self, values: np.ndarray) -> np.ndarray:
        """`values [..., token]` as `[..., row, col]`."""
        return values[..., self.cells]

    def spread(self, heat: np.ndarray) -> np.ndarray:
        """`heat [row, col]` as `[y, x]`, a value for each pixel of the picture, 0 off the grid."""
        boxes = self.boxes[self.cells.ravel()]
        x0, y0 = np.round(boxes[:, :2].min(0)).astype(int)
        x1, y1 = np.round(boxes[:, 2:].max(0)).astype(int)
        drawn = Image.fromarray(heat.astype(np.float32)).resize((x1 - x0, y1 - y0), Image.BILINEAR)
        whole = Image.new("F", self.size, 0.0)
        whole.paste(drawn, (int(x0), int(y0)))
        return np.asarray(whole)

    def cover(self, boxes: np.ndarray) -> np.ndarray:
        """Share of each cell `[row, col]` that the union of `boxes [box, 4]` covers, in 0..1."""
        cells = self.lay(self.boxes.T).transpose(1, 2, 0)
        covered = sum((_overlap(cells, part) for part in _disjoint(boxes)), np.zeros(self.shape))
        return covered / _overlap(cells, [-np.inf, -np.inf, np.inf, np.inf])


def crop_grid(
    size: tuple[int, int],
    *,
    shape: tuple[int, int],
    resize: dict[str, int] | None = None,
    crop: tuple[int, int] | None = None,
) -> Grid:
    """The `Grid` of a processor that resizes a picture of `size` (width, height) and centre-crops.

    `shape` is the grid's (rows, cols); `resize` either {"shortest_edge": n}, which keeps the
    proportions, or {"height": h, "width": w}, or None; `crop` is (height, width) or None. LLaVA-1.5
    resizes the shortest edge and crops the middle, so that its grid covers the centre square.

    >>> crop_grid((90, 60), shape=(3, 3), resize={"height": 30, "width": 30}).boxes[-1].tolist()
    [60.0, 40.0, 90.0, 60.0]
    """
    width, height = size
    if resize is None:
        new_width, new_height = width, height
    elif "shortest_edge" in resize:
        edge = resize["shortest_edge"]
        short, long = min(size), int(edge * max(size) / min(size))
        new_width, new_height = (edge, long) if width == short else (long, edge)
    else:
        new_width, new_height = resize["width"], resize["height"]
    crop_height, crop_width = crop or (new_height, new_width)
    left, top = (new_width - crop_width) // 2, (new_height - crop_height) // 2
    rows, cols = shape
    x = (left + np.linspace(0, crop_width, cols + 1)) * (width / new_width)
    y = (top + np.linspace(0, crop_height, rows + 1)) * (height / new_height)
    edges = np.broadcast_arrays(x[None, :-1], y[:-1, None], x[None, 1:], y[1:, None])
    cells = np.arange(rows * cols).reshape(shape)
    return Grid(size=size, cells=cells, boxes=np.stack(edges, -1).reshape(-1, 4))


def llava_grid(vlm, batch: dict, row: int, size: tuple[int, int]) -> Grid:
    """The `Grid` of a LLaVA-1.5 picture: one token a patch of the cropped, resized picture.

    Where the processor first pads to a square (`do_pad`), boxes reach beyond the shorter side.
    """
    processor = vlm.processor.image_processor
    height, width = batch["pixel_values"].shape[-2:]
    patch = vlm.model.config.vision_config.patch_size
    side = (max(size), max(size)) if getattr(processor, "do_pad", False) else size
    left, top = (side[0] - size[0]) // 2, (side[1] - size[1]) // 2
    grid = crop_grid(
        side,
        shape=(height // patch, width // patch),
        resize=dict(processor.size) if processor.do_resize else None,
        crop=(height, width) if processor.do_center_crop else None,
    )
    return replace(grid, size=size, boxes=grid.boxes - [left, top, left, top])


def open_picture(image) -> Image.Image | None:
    """The picture (PIL, path or None) in RGB and upright; raises where it is missing or broken."""
    if image is None:
        return None
    if isinstance(image, (list, tuple)):
        raise ValueError(
            f"asked for one prompt, found {len(image)} pictures; "
            "give one picture a question, and a list of samples for a batch"
        )
    try:
        picture = image if isinstance(image, Image.Image) else Image.open(image)
        return ImageOps.exif_transpose(picture).convert("RGB")
    except FileNotFoundError:
        raise FileNotFoundError(
            f"asked for the picture {str(image)!r}, found no such file; check the path"
        ) from None
    except (UnidentifiedImageError, OSError, SyntaxError, TypeError, AttributeError) as error:
        raise ValueError(
            f"asked for the picture {str(image)!r}, found something that does not open as one "
            f"({error}); give a PIL picture or the path of a whole PNG or JPEG file"
        ) from error


def _overlap(cells, box):
    """Area of `cells [row, col, 4]` inside one box."""
    width = np.minimum(cells[..., 2], box[2]) - np.maximum(cells[..., 0], box[0])
    height = np.minimum(cells[..., 3], box[3]) - np.maximum(cells[..., 1], box[1])
    return width.clip(0) * height.clip(0)


def _disjoint(boxes):
    """Boxes that do not overlap and together cover what `boxes` cover."""
    boxes = np.asarray(boxes, float).reshape(-1, 4)
    xs, ys = np.unique(boxes[:, [0, 2]]), np.unique(boxes[:, [1, 3]])
    for x0, x1 in pairwise(xs):
        for y0, y1 in pairwise(ys):
            inside = (boxes[:, :2] <= (x0, y0)) & ((x1, y1) <= boxes[:, 2:])
            if inside.all(1).any():
                yield x0, y0, x1, y1
