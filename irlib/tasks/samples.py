"""A row of a task, as everything else takes it."""

from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image


@dataclass(frozen=True, kw_only=True)
class Box:
    """Where something is on the original picture, in its pixels."""

    label: str
    x0: float
    y0: float
    x1: float
    y1: float


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One row of a task. `key` is unique in the task; `question` is the bare question, `prompt`
    what stands in the user's turn; `reference` is what the scorer needs; `image` is a picture, a
    path to one, or None; `boxes` are what the question is about."""

    task: str
    key: str
    question: str
    prompt: str
    image: Image.Image | Path | None
    reference: dict = field(repr=False)
    boxes: tuple[Box, ...] = ()
    kind: str = ""
    max_new_tokens: int = 128
