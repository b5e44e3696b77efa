"""What a profile would run and cost, before anything is downloaded."""

from typing import TYPE_CHECKING

from irlib.faces import face

if TYPE_CHECKING:
    from irlib.plan.ledger import tell as tell
    from irlib.plan.planning import Plan as Plan
    from irlib.plan.planning import estimate as estimate

__getattr__, __dir__, __all__ = face(__name__)
