"""Many rows, every layer: answers that are kept whatever happens, as one tidy table."""

from typing import TYPE_CHECKING

from irlib.faces import face

if TYPE_CHECKING:
    from irlib.sweeps.engines import SCHEDULER as SCHEDULER
    from irlib.sweeps.table import sweep as sweep
    from irlib.sweeps.without import baselines as baselines
    from irlib.sweeps.without import swapped as swapped

__getattr__, __dir__, __all__ = face(__name__)
