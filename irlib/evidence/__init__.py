"""What the numbers say: the cliff layer, its interval, verdicts."""

from typing import TYPE_CHECKING

from irlib.faces import face

if TYPE_CHECKING:
    from irlib.evidence.cliff import Cliff as Cliff
    from irlib.evidence.cliff import change_at as change_at
    from irlib.evidence.cliff import cliff_layer as cliff_layer
    from irlib.evidence.judging import Verdict as Verdict
    from irlib.evidence.judging import judge as judge
    from irlib.evidence.judging import verdict as verdict

__getattr__, __dir__, __all__ = face(__name__)
