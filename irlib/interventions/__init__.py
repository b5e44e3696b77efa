"""What happens to an answer when something is hidden, at one layer or at all at once."""

from typing import TYPE_CHECKING

from irlib.faces import face

if TYPE_CHECKING:
    from irlib.interventions.averages import image_means as image_means
    from irlib.interventions.edges import knockout as knockout
    from irlib.interventions.patched import patched_answers as patched_answers
    from irlib.interventions.patched import patched_logits as patched_logits
    from irlib.interventions.patching import patch as patch
    from irlib.interventions.staircase import answers_by_layer as answers_by_layer
    from irlib.interventions.staircase import logits_by_layer as logits_by_layer
    from irlib.interventions.ways import truncate as truncate

__getattr__, __dir__, __all__ = face(__name__)
