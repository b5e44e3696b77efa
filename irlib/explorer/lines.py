"""How Python says what was asked: the lines that make the same inputs."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from irlib.store.places import bundles, root
from irlib.tasks.samples import Sample

NAMES = ("Sample", "attention_flow", "llava_cam", "load", "load_task", "truncate")
SOMETIMES = ("Sample", "load_task")
LENGTH = 128  # tokens of an answer where vlm.prepare is given a picture and a question


class Said(NamedTuple):
    """What vlm.prepare takes (`inputs`), its picture alone (`image`), and the lines that come
    `first`."""

    image: str
    inputs: str
    first: tuple[str, ...] = ()

    def about(self, question: str) -> "Said":
        """Another question about the same picture."""
        first = tuple(line for line in self.first if line.startswith("picture = "))
        return Said(self.image, f"{self.image}, {question!r}", first)


def of_row(sample: Sample, source: str) -> Said:
    """A task's row as load_task gives it."""
    more = "" if source == "bundled" else f", source={source!r}"
    row = f"load_task({sample.task!r}, keys=[{sample.key!r}]{more})[0]"
    return Said(f"{row}.image", row)


def of_path(path: str, question: str) -> Said:
    """A question about a file."""
    return Said(repr(path), f"{path!r}, {question!r}")


def of_upload(name: str, question: str) -> Said:
    """A question about a file whose name alone is known."""
    first = f"picture = {name!r}  # an upload, of which the name alone is known: put its path here"
    return Said("picture", f"picture, {question!r}", (first,))


def of_sample(sample: Sample) -> Said:
    """Any sample; a picture that came as pixels has no path, and the lines say so.

    >>> one = Sample(task="user", key="a", question="What?", prompt="What?", image=Path("a.png"),
    ...              reference={})
    >>> of_sample(one).inputs
    "'a.png', 'What?'"
    """
    image, first = "None", ()
    if isinstance(sample.image, str | Path):
        image = repr(str(sample.image))
    elif sample.image is not None:
        image = "picture"
        first = ("picture = 'picture.png'  # it came as pixels: save them, and put the path here",)
    plain = Sample(
        task=sample.task, key=sample.key, question=sample.question, prompt=sample.question,
        image=None, reference={}, max_new_tokens=LENGTH,
    )  # fmt: skip
    if all(getattr(plain, name) == getattr(sample, name)
           for name in ("prompt", "boxes", "reference", "max_new_tokens")):  # fmt: skip
        return Said(image, f"{image}, {sample.question!r}", first)
    told = ("task", "key", "kind", "question", "prompt", "reference", "max_new_tokens")
    boxes = [f"Box(label={box.label!r}, x0={float(box.x0)}, y0={float(box.y0)}, "
             f"x1={float(box.x1)}, y1={float(box.y1)})" for box in sample.boxes]  # fmt: skip
    made = [
        "sample = Sample(",
        *(f"    {name}={_plain(getattr(sample, name))!r}," for name in told),
        f"    image={image if image in ('None', 'picture') else f'Path({image})'},",
        *([f"    boxes=({', '.join(boxes)},),"] if boxes else []),
        ")",
    ]
    return Said(image, "sample", (*first, *made))


def _plain(value):
    """The value as Python alone writes it: numpy's numbers and lists are Python's."""
    if isinstance(value, Mapping):
        return {_plain(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_plain, value))
    return value.tolist() if hasattr(value, "tolist") else value


def bundled(model: str) -> bool:
    """Whether a model of that name comes with irlib."""
    return model in bundles() or (root() / "data/minis" / model).is_dir()


def lines(model: str, said: Said) -> list[str]:
    """The lines from the imports to the answer of a model, by its name.

    >>> print(*lines("mini-llava", of_path("a.png", "What?")), sep="\\n")
    from irlib import attention_flow, llava_cam, load, truncate
    <BLANKLINE>
    vlm = load('mini-llava')
    inputs = vlm.prepare('a.png', 'What?')
    answer = vlm.answer(inputs)
    """
    code = "\n".join([*said.first, said.inputs])
    names = [name for name in NAMES if name not in SOMETIMES or f"{name}(" in code]
    found = "/" in model or bundled(model)
    return [
        *["from pathlib import Path", ""] * ("image=Path(" in code),
        f"from irlib import {', '.join(names)}",
        *["from irlib.tasks import Box"] * ("Box(label=" in code),
        "",
        f"vlm = load({model!r})" + "  # a folder: put its path here" * (not found),
        *said.first,
        f"inputs = vlm.prepare({said.inputs})",
        "answer = vlm.answer(inputs)",
    ]
