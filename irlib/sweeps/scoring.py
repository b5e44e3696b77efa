"""How a sweep scores answers: as the task's scorer does, or by the reader's own function."""

from collections.abc import Callable, Sequence

from irlib import doors
from irlib.scores import score
from irlib.tasks.samples import Sample

Own = Callable[[Sample, str], float]


def scorer(samples: Sequence[Sample], own: Own | None) -> Callable[[Sample, str], dict[str, float]]:
    """What turns a sample and its answer into counts; tried on an empty answer to each sample.

    So nothing is asked of a model whose answers cannot be scored. `own(sample, text)` returns a
    number in 0..1 (1 is best), and is for rows of one's own: other tasks pool more than a score.
    Raises ValueError for rows without an answer where there is no `own`, for other tasks where
    there is one, and for what it returns if that is no such number, TypeError for no function.
    """
    if own is None:
        for sample in samples:
            score(sample, "")
        return score
    if not callable(own):
        raise TypeError(
            f"asked to score by {own!r}, found a {type(own).__name__}; give a function of "
            "(sample, text) that returns a number in 0..1"
        )
    if other := sorted({sample.task for sample in samples} - {"own"}):
        raise ValueError(
            f"asked to score {', '.join(other)} by a function of your own, found a task that has "
            "its own scorer; leave score= out, or load the rows as your own table"
        )

    def counted(sample: Sample, text: str) -> dict[str, float]:
        value = own(sample, text)
        value = float(value) if type(value).__name__ in ("bool", "bool_") else value
        try:
            return {"score": doors.number("score", value, most=1)}
        except ValueError as error:
            raise ValueError(
                f"asked to score {text!r} for row {sample.key!r} by a function of your own: {error}"
            ) from error

    for sample in samples:
        counted(sample, "")
    return counted
