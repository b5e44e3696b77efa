"""What llava_cam gives back: `Maps`, raw heat by layer and cell, laid on the original picture."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Integral

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from irlib.cam.pointing import pointing
from irlib.inputs.grids import Grid
from irlib.plots.cells import asked
from irlib.plots.single import picture_and_maps
from irlib.tasks.samples import Sample


@dataclass(frozen=True, eq=False)
class Maps:
    """LLaVA-CAM maps of one picture: `heat [layer, row, col]`, raw, float32, with what it is of.

    `hollow [row, col]` are cells that are drawn as outlines (see `without`). `layers` are the
    0-based layers that these are; all from 0 on where none are given.
    """

    heat: np.ndarray
    site: str
    grid: Grid
    picture: Image.Image
    sample: Sample
    model: str
    layers: tuple[int, ...] = ()
    pool: str = "mean"
    hollow: np.ndarray | None = None

    def __post_init__(self):
        object.__setattr__(self, "layers", tuple(self.layers or range(len(self.heat))))

    def __repr__(self) -> str:
        rows, cols = self.heat.shape[1:]
        which = f"{self.model}, {self.task} {self.sample.key}"
        return f"Maps({which}, {self.site}, {len(self.heat)} layers, {rows} x {cols} cells)"

    @property
    def answered(self) -> bool:
        """Whether there is a map: an empty answer has none, and all its heat is NaN."""
        return not np.isnan(self.heat).any()

    @property
    def task(self) -> str:
        """The sample's task."""
        return self.sample.task

    @property
    def boxes(self) -> np.ndarray:
        """What the question is about: `[box, 4]` as x0, y0, x1, y1 in pixels of the picture."""
        boxes = [(box.x0, box.y0, box.x1, box.y1) for box in self.sample.boxes]
        return np.array(boxes, float).reshape(-1, 4)

    def normalised(self) -> np.ndarray:
        """`heat` brought to a maximum of 1 in each layer; a map of zeros stays zero, and so do
        hollow cells."""
        heat = self.heat if self.hollow is None else np.where(self.hollow, 0, self.heat)
        peak = heat.max((1, 2), keepdims=True)
        return np.divide(heat, peak, out=np.zeros_like(heat), where=peak > 0)

    def without(self, tokens: np.ndarray) -> "Maps":
        """The same maps, the cells of these image tokens hollow: outlines, that scale nothing.

        `tokens [token]` is a mask of the image tokens, such as `sink_tokens(vlm, inputs)[layer, 0,
        inputs.spans.image[0]]`. A cell is hollow where one of them lies on it in any view. `heat`
        and `table` stay as they are. Raises `ValueError` for a mask of another length, and where
        tokens have no place (InstructBLIP).

        >>> from irlib import llava_cam, load, load_task
        >>> vlm = load("mini-llava")
        >>> maps = llava_cam(vlm, vlm.prepare(load_task("pope", n=1)), "Yes")
        >>> int(maps.without(np.arange(64) < 3).hollow.sum())
        3
        """
        tokens = np.asarray(tokens)
        if tokens.dtype != bool or tokens.shape != (len(self.grid.boxes),):
            raise ValueError(
                f"asked to draw image tokens hollow, found a mask {list(tokens.shape)} of "
                f"{tokens.dtype} for {len(self.grid.boxes)} image tokens; give one bool a token"
            )
        if not self.grid.views:
            raise ValueError(
                "asked to draw image tokens hollow, found tokens without a place on the picture; "
                "leave them as they are"
            )
        hollow = self.grid.lay(tokens.astype(float)) > 0
        return replace(self, hollow=hollow if self.hollow is None else hollow | self.hollow)

    def overlay(
        self,
        layer: int,
        *,
        colormap: str = "inferno",
        opacity: float = 0.75,
        pale: float = 0.65,
        smooth: bool = False,
    ) -> np.ndarray:
        """The normalised map of a layer over the original picture: RGB bytes `[y, x, 3]`.

        The hotter, the more opaque; parts that the model never saw, and maps of zeros, stay bare.
        The picture is brought to grey by the share `pale`, so that colour speaks of heat. Cells are
        drawn as they are; `smooth=True` blends them, as the authors' pictures do.
        """
        if layer not in self.layers:
            raise ValueError(
                f"asked for the map of layer {layer}, found {_listed(self.layers)}; use one of them"
            )
        heat = self.normalised()[self.layers.index(layer)]
        heat = self.grid.spread(heat, smooth=smooth).clip(0, 1)[..., None]
        colour = colormaps[colormap](heat[..., 0])[..., :3] * 255
        grey = np.asarray(self.picture.convert("L"), float)[..., None]
        base = (1 - pale) * np.asarray(self.picture) + pale * grey
        shown = base * (1 - opacity * heat) + colour * opacity * heat
        shown = Image.fromarray(shown.round().astype(np.uint8))
        if self.hollow is not None:
            draw, wide = ImageDraw.Draw(shown), max(1, min(self.grid.size) // 150)
            for x0, y0, x1, y1 in self.grid.cells[self.hollow].round().astype(int).tolist():
                draw.rectangle([x0, y0, x1 - 1, y1 - 1], outline="white", width=wide)
        return np.asarray(shown)

    def show(self, layers: Sequence[int] | int | None = None, *, title: str = "") -> Figure:
        """The picture and its maps at these layers as one figure, seven of them if None.

        Raises `ValueError` for a layer that it has no map of.

        >>> from irlib import llava_cam, load, load_task
        >>> vlm = load("mini-llava")
        >>> inputs = vlm.prepare(load_task("pope", n=1))
        >>> len(llava_cam(vlm, inputs, "Yes").show(layers=[0, 4]).axes)  # two of them the key
        5
        """
        most = [layers] if isinstance(layers, Integral) else layers
        return picture_and_maps(self, title or asked(self.sample), layers=most)

    def table(self) -> pd.DataFrame:
        """How well each layer's map points at the sample's boxes.

        Columns `model, task, sample, site, layer, inside, area, hit, peak`: `inside` the share of
        the heat within the boxes, `area` the same for an even map (chance: the share of the seen
        picture that they cover), `hit` 1.0 if the centre of the hottest cell lies in a box, `peak`
        the raw maximum. NaN where the map is zero everywhere, or the sample has no boxes; `peak` is
        NaN only where the answer is empty.
        """
        table = []
        for layer, heat in zip(self.layers, self.heat, strict=True):
            inside, area, hit = pointing(self.grid, heat, self.boxes)
            table.append((layer, inside, area, hit, float(heat.max())))
        table = pd.DataFrame(table, columns=["layer", "inside", "area", "hit", "peak"])
        head = {"model": self.model, "task": self.task, "sample": self.sample.key}
        return pd.DataFrame(head | {"site": self.site}, index=table.index).join(table)


def _listed(layers) -> str:
    if layers == tuple(range(len(layers))):
        return f"layers 0..{len(layers) - 1}"
    return f"layers {list(layers)}"
