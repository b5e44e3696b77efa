"""The official scores of POPE, TextVQA, ScienceQA and CHAIR: pure functions of strings.

A row is counted by its task's module, counts are pooled over rows.
"""

from typing import TYPE_CHECKING

from irlib.faces import face

if TYPE_CHECKING:
    from irlib.scores.counting import LOWER_IS_BETTER as LOWER_IS_BETTER
    from irlib.scores.counting import MAIN as MAIN
    from irlib.scores.counting import PARSERS as PARSERS
    from irlib.scores.counting import metrics as metrics
    from irlib.scores.counting import pooled as pooled
    from irlib.scores.counting import rescore as rescore
    from irlib.scores.counting import score as score
    from irlib.scores.counting import tallied as tallied

__getattr__, __dir__, __all__ = face(__name__)
