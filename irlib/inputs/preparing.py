"""From a sample to what the model reads: `prepare`.

Spans are read from the token ids of each prompt, never written down: which positions belong to the
system prompt, the image and the user's words follows from where the image tokens stand.
"""

import warnings

import torch

from irlib.inputs.asking import asked, opened
from irlib.inputs.conversations import around, question_at
from irlib.inputs.records import Inputs
from irlib.inputs.spans import Spans
from irlib.inputs.tokens import pad, read

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
    samples = asked(sample, question, image)
    pictures = tuple(opened(vlm, item) for item in samples)
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


def _pictures(count):
    return f"{count} picture{'s' * (count != 1)}"


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
