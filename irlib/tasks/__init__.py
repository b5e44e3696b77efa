"""Rows of POPE, TextVQA, ScienceQA and CHAIR as samples, with their prompts; without torch."""

from typing import TYPE_CHECKING

from irlib.faces import face

if TYPE_CHECKING:
    from irlib.tasks.loading import load_task as load_task
    from irlib.tasks.protocols import TASKS as TASKS
    from irlib.tasks.samples import Box as Box
    from irlib.tasks.samples import Sample as Sample
    from irlib.tasks.tables import is_own as is_own

__getattr__, __dir__, __all__ = face(__name__)
