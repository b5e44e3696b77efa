"""What llava_cam gives back: `Maps`, raw heat by layer and cell, laid on the original picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.figure import Figure
from PIL import Image

from irlib.cam.pointing import pointing
from irlib.inputs.grids import Grid
from irlib.plots.cells import asked
from irlib.plots.single import picture_and_maps
from irlib.tasks.samples import Sample


@dataclass(frozen=True, eq=False)
class Maps:
    """LLaVA-CAM maps of one picture: `heat [layer, row, col]`, raw, float32, with what it is of.

    `layers` are the 0-based layers that these are; all from 0 on where none are given.
    """

    heat: np.ndarray
    site: str
    grid: Grid
    picture: Image.Image
    sample: Sample
    model: str
    layers: tuple[int, ...] = ()
    pool: str = "mean"

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
        """`heat` brought to a maximum of 1 in each layer; a map of zeros stays zero."""
        peak = self.heat.max((1, 2), keepdims=True)
        return np.divide(self.heat, peak, out=np.zeros_like(self.heat), where=peak > 0)

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
        return shown.round().astype(np.uint8)

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
