"""What is asked: samples, or one made of pictures and a question; and its pictures, opened."""

from pathlib import Path

from PIL import Image

from irlib import doors
from irlib.tasks.pictures import open_picture, short
from irlib.tasks.samples import Sample


def asked(sample, question, image) -> tuple[Sample, ...]:
    """The samples that are asked for: those given, or one made of a picture and a question."""
    listed = isinstance(sample, list | tuple)
    if isinstance(sample, Sample) or (listed and question is None and image is None):
        samples = tuple(sample) if listed else (sample,)
        if question is not None or image is not None:
            raise ValueError(
                f"asked to prepare {_name(sample)} with another question or picture, found it "
                "whole already; give the sample alone, or a picture and a question"
            )
        if not samples:
            raise ValueError(
                "asked to prepare a list of samples, found it empty; give at least one"
            )
        for item in samples:
            doors.kind(
                "a sample", item, Sample, give="one of load_task(...), or a picture and a question"
            )
        return samples
    picture = isinstance(sample, str | Path | bytes | Image.Image) or hasattr(sample, "__array__")
    if sample is not None and question is None and not picture:
        doors.kind(
            "a sample", sample, Sample, give="one of load_task(...), or a picture and a question"
        )
    if sample is not None and image is not None:
        raise ValueError(
            "asked to prepare a picture and a question, found two pictures; give one of them: "
            'vlm.prepare("photo.jpg", "What is this?")'
        )
    return (_own_sample(image if sample is None else sample, question),)


def _own_sample(image, question):
    if not isinstance(question, str) or not question.strip():
        raise ValueError(
            f"asked to prepare a picture, found the question {question!r}; give a sample, or a "
            'picture and a question: vlm.prepare("photo.jpg", "What is this?")'
        )
    if isinstance(image, list | tuple):
        if not image:
            raise ValueError(
                f"asked {question!r} about a list of pictures, found it empty; give one or more, "
                "or leave it out"
            )
        image = tuple(map(_own_picture, image))
    image = _own_picture(image)
    key = image.name if isinstance(image, Path) else "picture"
    return Sample(
        task="user", key=key, question=question, prompt=question, image=image, reference={},
        boxes=(), kind="", max_new_tokens=128,
    )  # fmt: skip


def _own_picture(image):
    """A path as such; raises `TypeError` for a sample among pictures."""
    if isinstance(image, Sample):
        raise TypeError(
            f"asked to prepare pictures and a question, found {_name(image)} among them; give "
            "its image, or a list of samples and no question"
        )
    return doors.path("image", image) if isinstance(image, str | Path) else image


def opened(vlm, sample) -> tuple[Image.Image, ...]:
    """A sample's pictures; `ValueError` for more than the family takes and for a box on none."""
    images = sample.images
    if len(images) > 1 and vlm.family.several is None:
        raise ValueError(
            f"{_name(sample)}: asked {vlm.name} about {len(images)} pictures at once, found that "
            f"{vlm.family.title} takes one a prompt; ask about each, or use another family"
        )
    if any(image is None for image in images):
        raise ValueError(
            f"{_name(sample)}: asked about {len(images)} pictures, found None among them; leave it "
            "out"
        )
    if lost := [box for box in sample.boxes if images and box.picture >= len(images)]:
        raise ValueError(
            f"{_name(sample)}: asked about {lost[0]}, found {len(images)} pictures, which count "
            "from 0; correct the box's picture"
        )
    return tuple(open_picture(image, whose=_name(sample)) for image in images)


def _name(sample):
    return f"task {sample.task!r}, row {short(sample.key)!r}"
