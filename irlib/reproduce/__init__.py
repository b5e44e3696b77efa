"""The strict runner: notebooks in processes of their own, and what became of them."""

from typing import TYPE_CHECKING

from irlib.faces import face

if TYPE_CHECKING:
    from irlib.reproduce.jobs import plan as plan
    from irlib.reproduce.jobs import stems as stems
    from irlib.reproduce.parameters import declared as declared
    from irlib.reproduce.parameters import typed as typed
    from irlib.reproduce.runner import Job as Job
    from irlib.reproduce.runner import Outcome as Outcome
    from irlib.reproduce.runner import run as run

__getattr__, __dir__, __all__ = face(__name__)
