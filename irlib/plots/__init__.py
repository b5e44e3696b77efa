"""Table in, figure out: one module a figure, pandas and numpy only, no torch.

`average()` makes the tidy table with intervals that the plots draw and the csv files keep.
"""

from typing import TYPE_CHECKING

from irlib.faces import face

if TYPE_CHECKING:
    from irlib.plots.averages import average as average
    from irlib.plots.averages import pool as pool
    from irlib.plots.cells import asked as asked
    from irlib.plots.cells import caption as caption
    from irlib.plots.claims import claims_latex as claims_latex
    from irlib.plots.claims import claims_table as claims_table
    from irlib.plots.explore import explore_view as explore_view
    from irlib.plots.fig1_information_flow import information_flow as information_flow
    from irlib.plots.fig2_attention_shares import attention_shares as attention_shares
    from irlib.plots.fig3_cam_layers import cam_layers as cam_layers
    from irlib.plots.fig5_truncation import truncation_curves as truncation_curves
    from irlib.plots.fig6_truncation_diagram import truncation_diagram as truncation_diagram
    from irlib.plots.fig7_cam_sites import cam_sites as cam_sites
    from irlib.plots.fig8_cam_gallery import cam_gallery as cam_gallery
    from irlib.plots.fig9_no_picture_needed import no_picture_needed as no_picture_needed
    from irlib.plots.fig10_knockout import knockout_curves as knockout_curves
    from irlib.plots.fig11_faithfulness import map_faithfulness as map_faithfulness
    from irlib.plots.fig12_topk import tokens_kept as tokens_kept
    from irlib.plots.fig13_logit_lens import lens_curves as lens_curves
    from irlib.plots.fig14_patching import patching_curves as patching_curves
    from irlib.plots.single import attention_of as attention_of
    from irlib.plots.single import picture_and_maps as picture_and_maps
    from irlib.plots.table1_generalisation import generalisation as generalisation
    from irlib.plots.table1_generalisation import latex as latex

__getattr__, __dir__, __all__ = face(__name__)
