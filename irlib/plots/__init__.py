"""Table in, figure out: one module a figure, pandas and numpy only, no torch.

`average()` makes the tidy table with intervals that the plots draw and the csv files keep.
"""

from irlib.plots.attention_shares import attention_shares
from irlib.plots.averages import average, pool
from irlib.plots.cam_gallery import cam_gallery
from irlib.plots.cam_layers import cam_layers
from irlib.plots.cam_sites import cam_sites
from irlib.plots.cells import asked, caption
from irlib.plots.explore import explore_view
from irlib.plots.generalisation import generalisation, latex
from irlib.plots.information_flow import information_flow
from irlib.plots.no_picture_needed import no_picture_needed
from irlib.plots.truncation_curves import truncation_curves
from irlib.plots.truncation_diagram import truncation_diagram

__all__ = [
    "asked",
    "attention_shares",
    "average",
    "cam_gallery",
    "cam_layers",
    "cam_sites",
    "caption",
    "explore_view",
    "generalisation",
    "information_flow",
    "latex",
    "no_picture_needed",
    "pool",
    "truncation_curves",
    "truncation_diagram",
]
