"""What a model reads: a prompt in its segments, the picture's grid, an answer."""

from typing import TYPE_CHECKING

from irlib.faces import face

if TYPE_CHECKING:
    from irlib.inputs.features import Features as Features
    from irlib.inputs.grids import Grid as Grid
    from irlib.inputs.preparing import prepare as prepare
    from irlib.inputs.records import Answer as Answer
    from irlib.inputs.records import Inputs as Inputs
    from irlib.inputs.spans import SEGMENTS as SEGMENTS
    from irlib.inputs.spans import Spans as Spans

__getattr__, __dir__, __all__ = face(__name__)
