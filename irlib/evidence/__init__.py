"""What the numbers say: estimates, the certified cliff, rulers of maps, claims."""

from typing import TYPE_CHECKING

from irlib.faces import face

if TYPE_CHECKING:
    from irlib.evidence.bounds import Estimate as Estimate
    from irlib.evidence.bounds import estimate as estimate
    from irlib.evidence.bounds import proportion as proportion
    from irlib.evidence.bounds import resolves as resolves
    from irlib.evidence.bounds import units_for as units_for
    from irlib.evidence.change import Change as Change
    from irlib.evidence.change import change_at as change_at
    from irlib.evidence.claims import judge as judge
    from irlib.evidence.cliff import Cliff as Cliff
    from irlib.evidence.cliff import cliff_layer as cliff_layer
    from irlib.evidence.kept import top_tokens as top_tokens
    from irlib.evidence.means import mean_effect as mean_effect
    from irlib.evidence.rulers import faithfulness as faithfulness
    from irlib.evidence.units import by_unit as by_unit
    from irlib.evidence.units import distinct as distinct

__getattr__, __dir__, __all__ = face(__name__)
