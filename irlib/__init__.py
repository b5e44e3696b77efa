"""Instruments for information flow in vision-language models.

Everything public is one of the names below; each is loaded when it is first asked for, so that
reading a task or a score does not wait for torch.

>>> import irlib
>>> "sweep" in irlib.__all__
True
"""

from typing import TYPE_CHECKING

from irlib.faces import face

if TYPE_CHECKING:
    from irlib.attention.flow import attention_flow as attention_flow
    from irlib.attention.matrices import attention_map as attention_map
    from irlib.cam.cam import llava_cam as llava_cam
    from irlib.evidence.cliff import cliff_layer as cliff_layer
    from irlib.explorer.view import explore as explore
    from irlib.hooks.hooks import edit as edit
    from irlib.hooks.hooks import trace as trace
    from irlib.interventions.edges import knockout as knockout
    from irlib.interventions.patching import patch as patch
    from irlib.interventions.ways import truncate as truncate
    from irlib.lens import logit_lens as logit_lens
    from irlib.models.loading import load as load
    from irlib.scores.counting import metrics as metrics
    from irlib.scores.counting import rescore as rescore
    from irlib.store.figure import save_figure as save_figure
    from irlib.sweeps.table import sweep as sweep
    from irlib.tasks.loading import load_task as load_task
    from irlib.tasks.samples import Sample as Sample

__version__ = "0.2.0"
__getattr__, __dir__, __all__ = face(__name__)
