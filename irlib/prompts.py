"""From a sample to what the model reads: `prepare`.

Spans are read from the token ids of each prompt, never written down: which positions belong to the
system prompt, the image and the user's words follows from where the image tokens stand.
"""

import warnings
from pathlib import Path

import torch

from irlib.grids import open_picture
from irlib.inputs import Inputs, Spans
from irlib.tasks import Sample

TOKENS_A_WORD = 2.5  # a question above it is spelled out, far outside a miniature's words


def prepare(vlm, sample=None, *, image=None, question: str | None = None) -> Inputs:
    """The `Inputs` of one sample, of a list of samples, or of any picture and question.

    `image` is a PIL picture, a path or None. The prompt is the family's chat template around the
    system prompt, the picture and the sample's `prompt`. Raises `FileNotFoundError` or `ValueError`
    for a picture that is missing or broken, a question with a special token in it, and a prompt
    whose image tokens do not match its picture; warns about a question far outside the model's
    words.
    """
    if sample is None:
        samples = (_own_sample(image, question),)
    else:
        samples = tuple(sample) if isinstance(sample, (list, tuple)) else (sample,)
    if not samples:
        raise ValueError("asked to prepare a list of samples, found it empty; give at least one")
    pictures = tuple(open_picture(item.image) for item in samples)
    texts = list(map(_prompt, [vlm] * len(samples), samples))
    tokenizer = vlm.processor.tokenizer
    bos = tokenizer.bos_token
    encoded = vlm.processor(
        text=texts,
        images=[picture for picture in pictures if picture is not None] or None,
        padding=True,
        padding_side="left",
        add_special_tokens=not (bos and texts[0].startswith(bos)),
        return_tensors="pt",
    )
    batch = {key: value.to(vlm.device) for key, value in encoded.items()}
    batch = {
        key: value.to(vlm.dtype) if value.is_floating_point() else value
        for key, value in batch.items()
    }
    return Inputs(
        batch=batch,
        spans=_spans(vlm, batch, samples, texts),
        grids=_grids(vlm, batch, pictures),
        pictures=pictures,
        samples=samples,
    )


def _own_sample(image, question):
    if not isinstance(question, str) or not question.strip():
        raise ValueError(
            f"asked to prepare a picture, found the question {question!r}; "
            'give a sample, or image=... and question="..."'
        )
    key = Path(image).name if isinstance(image, (str, Path)) else "picture"
    return Sample(
        task="user", key=key, question=question, prompt=question, image=image, reference={},
        boxes=(), kind="", max_new_tokens=128,
    )  # fmt: skip


def _prompt(vlm, sample):
    """The family's chat template around system prompt, picture and question, as text."""
    tokenizer, placeholder = vlm.processor.tokenizer, vlm.family.placeholder
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
    picture = [] if sample.image is None else [{"type": "image"}]
    user = {"role": "user", "content": [*picture, {"type": "text", "text": sample.prompt}]}
    system = vlm.family.system and [{"type": "text", "text": vlm.family.system}]
    messages = [{"role": "system", "content": system}, user] if system else [user]
    text = vlm.processor.apply_chat_template(messages, add_generation_prompt=True)
    if text.count(placeholder) != len(picture):
        raise ValueError(
            f"asked for a prompt with {len(picture)} picture, found {text.count(placeholder)} "
            f"{placeholder!r} in the text that the chat template of {vlm.name} gives; "
            "repair chat_template.jinja in the model's folder"
        )
    return text


def _spans(vlm, batch, samples, texts):
    """The segments, read from the ids; without a picture, from where the question's text begins."""
    ids, real = batch["input_ids"], batch["attention_mask"].bool()
    image = (ids == vlm.image_token_id) & real
    position = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    first = position.masked_fill(~image, ids.shape[1]).amin(1, keepdim=True)
    last = position.masked_fill(~image, -1).amax(1, keepdim=True)
    for row, (sample, text) in enumerate(zip(samples, texts, strict=True)):
        if sample.image is None:
            offsets = vlm.processor.tokenizer(
                text, return_offsets_mapping=True, add_special_tokens=False
            )["offset_mapping"]
            start = text.rindex(sample.prompt)
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


def _grids(vlm, batch, pictures):
    """One `Grid` a row, or None; checked against the number of image tokens."""
    counts = (batch["input_ids"] == vlm.image_token_id).sum(1).tolist()
    grids = []
    for row, picture in enumerate(pictures):
        grid = picture and vlm.family.grid(vlm, batch, row, picture.size)
        if grid and len(grid.boxes) != counts[row]:
            raise ValueError(
                f"asked for the grid of a picture, found {counts[row]} image tokens for "
                f"{len(grid.boxes)} cells; model and processor of {vlm.name} disagree: "
                "take both from one folder"
            )
        grids.append(grid)
    return tuple(grids)
