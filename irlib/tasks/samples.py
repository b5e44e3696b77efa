"""A row of a task, as everything else takes it."""

from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image


@dataclass(frozen=True, kw_only=True)
class Box:
    """Where something is on the original picture, in its pixels; of several, on which (from 0)."""

    label: str
    x0: float
    y0: float
    x1: float
    y1: float
    picture: int = 0


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One row of a task. `key` is unique in the task; `question` is the bare question, `prompt`
    what stands in the user's turn; `reference` is what the scorer needs; `image` is a picture, a
    path to one, a tuple of several, or None; `boxes` are what the question is about."""

    task: str
    key: str
    question: str
    prompt: str
    image: Image.Image | Path | tuple[Image.Image | Path, ...] | None
    reference: dict = field(repr=False)
    boxes: tuple[Box, ...] = ()
    kind: str = ""
    max_new_tokens: int = 128

    def __post_init__(self):
        if isinstance(self.image, list | tuple):  # one alone is that picture, none is none
            image = tuple(self.image) if len(self.image) > 1 else next(iter(self.image), None)
            object.__setattr__(self, "image", image)

    @property
    def images(self) -> tuple[Image.Image | Path, ...]:
        """Its pictures, in the order of the prompt: none, one or several."""
        if self.image is None:
            return ()
        return self.image if isinstance(self.image, tuple) else (self.image,)
