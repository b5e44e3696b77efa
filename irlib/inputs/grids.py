"""Where each image token lies on the original picture.

A processor resizes, crops, pads and cuts a picture before the vision tower sees it. A `Grid` undoes
that: it gives every image token its box in the pixels of the picture that the user handed in. How
the families' processors cut is in layouts.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from irlib.inputs.areas import covered, overlap
from irlib.inputs.crops import Crop, carried

VIEWS = ("mean", "finest")  # which views of a picture make a map


@dataclass(frozen=True, eq=False)
class Grid:
    """The image tokens of one picture, laid back on it.

    `size` is the picture's (width, height) in pixels; `boxes [token, 4]` the x0, y0, x1, y1 of each
    image token, which may reach beyond the picture where a processor pads, and NaN for a token that
    lies on no cell (the end of a row, a query). `views` are the layouts in which the picture is
    seen, the finest first: `[row, col]` index of the image token there. `cells [row, col, 4]` are
    the boxes of a map's cells, those of the finest view.

    Without views no token has a place of its own: `weights [row, col, token]` then say how much of
    a token's value each cell gets, `finest` the same of the finest view, and `note` says in words
    what that is; `crops` are where the patches lie that the tokens read.

    >>> grid = crop_grid((200, 100), shape=(2, 2), resize={"shortest_edge": 56}, crop=(56, 56))
    >>> grid.shape, grid.boxes[0].tolist()
    ((2, 2), [50.0, 0.0, 100.0, 50.0])
    """

    size: tuple[int, int]
    boxes: np.ndarray
    views: tuple[np.ndarray, ...]
    cells: np.ndarray
    weights: np.ndarray | None = None
    note: str = ""
    crops: tuple[Crop, ...] = ()
    finest: np.ndarray | None = None

    def __repr__(self) -> str:
        (width, height), (rows, cols) = self.size, self.shape
        seen = f"{len(self.boxes)} image tokens, {rows} x {cols} cells"
        return f"Grid({width} x {height} pixels, {seen})"

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of a map."""
        return self.cells.shape[:2]

    @property
    def placed(self) -> np.ndarray:
        """Mask `[token]` of the image tokens that lie on a cell."""
        return ~np.isnan(self.boxes).any(1)

    def lay(self, values: np.ndarray, *, views: str = "mean") -> np.ndarray:
        """`values [..., token]` as `[..., row, col]`, at the finest view's cells.

        Where a picture is seen in several views (a base view and tiles), "mean" is their mean, the
        coarser ones resampled by area, so that every token's value counts; "finest" takes the
        finest view alone. Raises `ValueError` for other views, and without views or weights.

        >>> grid = crop_grid((40, 40), shape=(2, 2))
        >>> grid.lay(np.arange(4)).tolist()
        [[0, 1], [2, 3]]
        """
        if views not in VIEWS:
            raise ValueError(f"asked for the views {views!r}, found no such; use one of {VIEWS}")
        if self.weights is not None:
            alone = views == "finest" and self.finest is not None
            weights = self.finest if alone else self.weights
            return np.einsum("...t,rct->...rc", values, weights)
        if not self.views:
            raise ValueError(
                "asked to lay values on a picture, found tokens without a place on it; give the "
                "grid weights first, as llava_cam does"
            )
        finest, *others = self.views
        if not others or views == "finest":
            return values[..., finest]
        total, count = values[..., finest].astype(float), np.ones(self.shape)
        for view in others:
            share = self._share(view.ravel())  # [row, col, token of the view]
            total = total + np.einsum("...t,rct->...rc", values[..., view.ravel()], share)
            count = count + share.sum(-1)
        return (total / count).astype(np.result_type(values, np.float32))

    def through(self, weights: np.ndarray) -> "Grid":
        """The same grid with the `weights [token, cell]` that bring tokens to cells."""
        return replace(self, weights=np.asarray(weights).T.reshape(*self.shape, -1))

    def read(self, weights: Sequence[np.ndarray]) -> "Grid":
        """The same grid with the `weights [token, patch]` by which tokens read the crops."""
        mean, finest = carried(self.cells, self.crops, weights)
        return replace(self, weights=mean, finest=finest)

    def spread(self, heat: np.ndarray, *, smooth: bool = False) -> np.ndarray:
        """`heat [row, col]` as `[y, x]`, a value for each pixel of the picture, 0 off the grid.

        Each cell is even, as what is known of it is one number; `smooth=True` goes from cell to
        cell without steps, as the authors' pictures do.
        """
        boxes = self.cells.reshape(-1, 4)
        x0, y0 = np.round(boxes[:, :2].min(0)).astype(int)
        x1, y1 = np.round(boxes[:, 2:].max(0)).astype(int)
        way = Image.BILINEAR if smooth else Image.NEAREST
        drawn = Image.fromarray(heat.astype(np.float32)).resize((x1 - x0, y1 - y0), way)
        whole = Image.new("F", self.size, 0.0)
        whole.paste(drawn, (int(x0), int(y0)))
        return np.asarray(whole)

    def cover(self, boxes: np.ndarray) -> np.ndarray:
        """Share of each cell `[row, col]` that the union of `boxes [box, 4]` covers, in 0..1."""
        return covered(self.cells, boxes)

    def _share(self, tokens) -> np.ndarray:
        """How each cell divides among these tokens by area: `[row, col, token]`, sums 1 or 0."""
        area = np.stack([overlap(self.cells, self.boxes[token]) for token in tokens], -1)
        whole = area.sum(-1, keepdims=True)
        return np.divide(area, whole, out=np.zeros_like(area), where=whole > 0)


def grid_of(
    size: tuple[int, int], views: Sequence[tuple[np.ndarray, np.ndarray]], tokens: int, **facts
) -> Grid:
    """The `Grid` of `tokens` image tokens from its views, the finest first.

    Each view is (`index [row, col]` of the image token there, `boxes [row, col, 4]` on the
    picture). Tokens of no view get no box.

    >>> index, cells = np.array([[1, 0]]), cells_of([0, 10, 20], [0, 5])
    >>> grid_of((20, 5), [(index, cells)], 3).boxes.tolist()
    [[10.0, 0.0, 20.0, 5.0], [0.0, 0.0, 10.0, 5.0], [nan, nan, nan, nan]]
    """
    boxes = np.full((tokens, 4), np.nan)
    for index, cells in views:
        boxes[index] = cells
    return Grid(size, boxes, tuple(index for index, _ in views), views[0][1], **facts)


def cells_of(x: Sequence[float], y: Sequence[float]) -> np.ndarray:
    """Boxes `[row, col, 4]` of cells whose edges are at `x [col + 1]` and `y [row + 1]`.

    >>> cells_of([0, 2, 4], [0, 3])[0].tolist()
    [[0.0, 0.0, 2.0, 3.0], [2.0, 0.0, 4.0, 3.0]]
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    return np.stack(np.broadcast_arrays(x[None, :-1], y[:-1, None], x[None, 1:], y[1:, None]), -1)


def crop_grid(
    size: tuple[int, int],
    *,
    shape: tuple[int, int],
    resize: dict[str, int] | None = None,
    crop: tuple[int, int] | None = None,
    square: bool = False,
    first: int = 0,
) -> Grid:
    """The `Grid` of a processor that resizes a picture of `size` (width, height) and centre-crops.

    `shape` is the grid's (rows, cols); `resize` either {"shortest_edge": n}, which keeps the
    proportions, or {"height": h, "width": w}, or None; `crop` is (height, width) or None. LLaVA-1.5
    resizes the shortest edge and crops the middle, so that its grid covers the centre square.
    `square=True` pads the picture to a square before; `first` image tokens lie on no cell.

    >>> crop_grid((90, 60), shape=(3, 3), resize={"height": 30, "width": 30}).boxes[-1].tolist()
    [60.0, 40.0, 90.0, 60.0]
    """
    width, height = (max(size), max(size)) if square else size
    if resize is None:
        new_width, new_height = width, height
    elif "shortest_edge" in resize:
        edge = resize["shortest_edge"]
        long = int(edge * max(width, height) / min(width, height))
        new_width, new_height = (edge, long) if width <= height else (long, edge)
    else:
        new_width, new_height = resize["width"], resize["height"]
    crop_height, crop_width = crop or (new_height, new_width)
    left, top = (new_width - crop_width) // 2, (new_height - crop_height) // 2
    rows, cols = shape
    x = (left + np.linspace(0, crop_width, cols + 1)) * (width / new_width)
    y = (top + np.linspace(0, crop_height, rows + 1)) * (height / new_height)
    x, y = x - (width - size[0]) // 2, y - (height - size[1]) // 2
    index = first + np.arange(rows * cols).reshape(shape)
    return grid_of(size, [(index, cells_of(x, y))], first + rows * cols)
