"""From a sample to what the model reads: `prepare`.

Spans are read from the token ids of each prompt, never written down: which positions belong to the
system prompt, the image and the user's words follows from where the image tokens stand.
"""

import warnings
from pathlib import Path

import torch
from PIL import Image

from irlib import doors
from irlib.inputs.conversations import around, question_at
from irlib.inputs.records import Inputs
from irlib.inputs.spans import Spans
from irlib.inputs.tokens import pad, read
from irlib.tasks.pictures import open_picture, short
from irlib.tasks.samples import Sample

TOKENS_A_WORD = 2.5  # a question above it is spelled out, far outside a miniature's words


def prepare(vlm, sample=None, question: str | None = None, *, image=None) -> Inputs:
    """The `Inputs` of one sample, of a list of samples, or of any picture and question.

    A picture, the first argument or `image`, is what `open_picture` takes: a path, PIL's, an array,
    a file's bytes; None for a question without one, a list for one about several. The prompt is the
    family's chat template around the system prompt, the pictures and the sample's `prompt`.
    Raises `FileNotFoundError` or `ValueError` for a picture that is missing or broken, for several
    where the family takes one, a question with a special token in it, a prompt that is longer than
    the model's positions, or whose image tokens do not match its pictures; warns about a question
    far outside the model's words.
    """
    samples = _samples(sample, question, image)
    pictures = tuple(_opened(vlm, item) for item in samples)
    texts = tuple(map(_prompt, [vlm] * len(samples), samples))  # warnings count the frames
    made = [
        read(vlm, text, shown, question=item.prompt)
        for text, shown, item in zip(texts, pictures, samples, strict=True)
    ]
    text = pad(vlm, [ids for ids, _ in made])
    visual = tuple(visual for _, visual in made)
    types = vlm.family.types
    return Inputs(
        text=text,
        visual=visual,
        spans=_spans(vlm, text, samples, texts),
        laid=_laid(vlm, text, visual, pictures),
        shown=pictures,
        samples=samples,
        appended={types.name: types.answer} if types else {},
        reader=vlm.reader,
    )


def _opened(vlm, sample) -> tuple[Image.Image, ...]:
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


def _pictures(count):
    return f"{count} picture{'s' * (count != 1)}"


def _name(sample):
    return f"task {sample.task!r}, row {short(sample.key)!r}"


def _samples(sample, question, image) -> tuple[Sample, ...]:
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


def _prompt(vlm, sample):
    """The chat template around system prompt, picture and question, as text.

    Raises `ValueError` for special tokens in the question and for a placeholder too many or few.
    """
    family, placeholder, tokenizer = vlm.family, vlm.placeholder, vlm.processor.tokenizer
    if found := [t for t in {placeholder, *tokenizer.all_special_tokens} if t in sample.prompt]:
        raise ValueError(
            f"asked the question {sample.prompt!r}, found the special token {sorted(found)} in it; "
            "leave it out: the picture's place is set by the chat template"
        )
    words = sample.question.split()
    tokens = tokenizer(sample.question, add_special_tokens=False)["input_ids"]
    if len(tokens) > TOKENS_A_WORD * len(words):
        warnings.warn(
            f"the question {sample.question!r} takes {len(tokens)} tokens for {len(words)} words: "
            f"it is spelled out, far outside the words that {vlm.name} was trained on",
            stacklevel=4,
        )
    text = around(vlm, sample)
    expected = len(sample.images) * family.placeholders
    if text.count(placeholder) != expected:
        raise ValueError(
            f"asked for a prompt with {_pictures(len(sample.images))}, found "
            f"{text.count(placeholder)} {placeholder!r} where {expected} belong, in the text that "
            f"the chat template of {vlm.name} gives; repair chat_template.jinja in its folder"
        )
    return text


def _spans(vlm, written, samples, texts):
    """The segments, read from the ids; without a picture, from where the question's text begins."""
    ids, real = written["input_ids"], written["attention_mask"].bool()
    image = vlm.image_tokens(written)
    position = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    first = position.masked_fill(~image, ids.shape[1]).amin(1, keepdim=True)
    last = position.masked_fill(~image, -1).amax(1, keepdim=True)
    for row, (sample, text) in enumerate(zip(samples, texts, strict=True)):
        if not sample.images:
            if image[row].any():
                raise ValueError(
                    f"asked for a prompt without a picture, found the image token "
                    f"{vlm.image_token_id} in its ids; model and processor of {vlm.name} disagree: "
                    "take both from one folder"
                )
            offsets = vlm.processor.tokenizer(
                text, return_offsets_mapping=True, add_special_tokens=False
            )["offset_mapping"]
            start = question_at(vlm, sample, text)
            user = sum(end > start for _, end in offsets)
            first[row] = ids.shape[1] - user
            last[row] = ids.shape[1] - user - 1
        elif not image[row].any():
            raise ValueError(
                f"asked for a prompt with a picture, found no image token {vlm.image_token_id} in "
                f"its ids; model and processor of {vlm.name} disagree: take both from one folder"
            )
    return Spans(
        system=(position < first) & real,
        image=image,
        between=(position > first) & (position < last) & ~image & real,
        user=(position > last) & real,
        answer=torch.zeros_like(real),
    )


def _laid(vlm, text, visual, pictures):
    """The `Grid` of each picture of each row; checked against the number of image tokens."""
    counts, laid = vlm.image_tokens(text).sum(1).tolist(), []
    for count, tensors, shown in zip(counts, visual, pictures, strict=True):
        parts = [tensors] * len(shown)
        parts = vlm.family.several(vlm, tensors, shown) if len(shown) > 1 else parts
        grids = tuple(
            vlm.family.layout(vlm, part, picture.size)
            for part, picture in zip(parts, shown, strict=True)
        )
        features = sum(len(grid.boxes) for grid in grids)
        if grids and features != count:
            raise ValueError(
                f"asked for the grid of {_pictures(len(grids))}, found "
                f"{count} image tokens for {features} features; model and processor of {vlm.name} "
                "disagree: take both from one folder"
            )
        laid.append(grids)
    return tuple(laid)
