"""From the text of a prompt to the token ids that a model reads: whole, and within its reach."""

import torch
from torch import Tensor

ALONE = {"padding": False, "truncation": False, "max_length": None, "return_tensors": "pt"}
WRITTEN = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids", "labels")


def read(vlm, text: str, pictures, *, question: str) -> tuple[Tensor, dict | None]:
    """Token ids `[position]` of a prompt, and the tensors of its pictures or None.

    Nothing that a folder sets cuts, pads or ends the prompt. Raises `ValueError` where the question
    or what follows it is not whole in the ids, and for ids beyond the model's embeddings.
    """
    tokenizer = vlm.processor.tokenizer
    bos = tokenizer.bos_token
    asked = ALONE | {"add_special_tokens": not (bos and text.startswith(bos))}
    made = see(vlm, text, pictures, **asked) if pictures else tokenizer(text, **asked)
    ids = made["input_ids"][0]
    if (end := _ending(tokenizer)) and ids[-len(end) :].tolist() == end:
        ids = ids[: -len(end)]  # the answer goes on from here
    rest = question.strip() + text.rpartition(question.strip())[2]
    rest = question.strip() if vlm.placeholder in rest else rest
    _check_whole(vlm, tokenizer, ids, rest)
    _check_known(vlm, ids)
    if not pictures:
        return ids, None
    if "qformer_input_ids" in made:
        own = vlm.processor.qformer_tokenizer
        _check_whole(vlm, own, made["qformer_input_ids"][0], question.strip())
    visual = {key: value.to(vlm.device) for key, value in made.items() if key not in WRITTEN}
    return ids, {
        key: value.to(vlm.dtype) if value.is_floating_point() else value
        for key, value in visual.items()
    }


def see(vlm, text: str, pictures, **options) -> dict:
    """What the processor makes of a text and the one or several pictures in it."""
    images = list(pictures) if len(pictures) == 1 else [list(pictures)]  # several are one prompt's
    return vlm.processor(images=images, text=[text], **{**ALONE, **options})


def pad(vlm, rows: list[Tensor]) -> dict[str, Tensor]:
    """Token ids of all rows, padded on the left, with their mask and types: `[row, position]`.

    Raises `ValueError` for a row that is longer than the model has positions.
    """
    tokenizer = vlm.processor.tokenizer
    spare = next(i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id, 0) if i is not None)
    length = max(len(row) for row in rows)
    check_length(vlm, length)
    ids = torch.full((len(rows), length), spare)
    mask = torch.zeros_like(ids)
    for index, row in enumerate(rows):
        ids[index, length - len(row) :] = row
        mask[index, length - len(row) :] = 1
    text = {"input_ids": ids, "attention_mask": mask}
    if types := vlm.family.types:
        text[types.name] = vlm.image_tokens(text) * types.image
    return {key: value.to(vlm.device) for key, value in text.items()}


def check_length(vlm, length: int, what: str = "a prompt") -> None:
    """Refuse so many tokens where the model knows fewer positions: `ValueError`."""
    most = positions(vlm.model.config.get_text_config())
    if most is not None and length > most:
        raise ValueError(
            f"asked {vlm.name} for {what} of {length} tokens, found that it knows {most} "
            "positions; shorten the question, take a smaller picture, or ask for fewer tokens"
        )


def positions(config) -> int | None:
    """How many positions a language model knows, as its config says; None where it does not.

    Rotary angles that are stretched by a factor reach that much farther than what they were
    stretched from, whichever of the two the config's `max_position_embeddings` is.

    >>> from types import SimpleNamespace
    >>> rope = {"rope_type": "linear", "factor": 4.0}
    >>> positions(SimpleNamespace(max_position_embeddings=4096, rope_parameters=rope))
    16384
    """
    most = getattr(config, "max_position_embeddings", None)
    if not isinstance(most, int):
        return None
    rope = getattr(config, "rope_parameters", None) or {}
    kinds = [rope, *(kind for kind in rope.values() if isinstance(kind, dict))]  # one a layer type
    reach = [
        int((kind.get("original_max_position_embeddings") or most) * kind["factor"])
        for kind in kinds
        if kind.get("factor")
    ]
    return max([most, *reach])


def _ending(tokenizer) -> list[int]:
    """The ids that a tokenizer puts behind a text of its own accord."""
    text, whole = (
        tokenizer("a", add_special_tokens=special)["input_ids"] for special in (False, True)
    )
    for start in range(len(whole) - len(text) + 1):
        if whole[start : start + len(text)] == text:
            return whole[start + len(text) :]
    return []


def _check_whole(vlm, tokenizer, ids, text):
    """Compared as the tokenizer itself spells it, which may fold case or white space."""
    own = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    read = {place for span in own["offset_mapping"] for place in range(*span)}
    if lost := "".join(c for i, c in enumerate(text) if i not in read and not c.isspace()):
        raise ValueError(
            f"asked {vlm.name} for the whole of {text!r}, found that its tokenizer drops {lost!r}; "
            "mend tokenizer.json in its folder, or ask in other words"
        )
    wanted, said = tokenizer.decode(own["input_ids"]).strip(), tokenizer.decode(ids)
    if wanted not in said:
        raise ValueError(
            f"asked {vlm.name} for the whole of {text!r}, found only {said[-len(text) - 40 :]!r} "
            "in what its tokenizer makes of it; mend tokenizer.json and tokenizer_config.json in "
            "its folder"
        )


def _check_known(vlm, ids):
    """Ids of a word that the model has no embedding for; of images some models have none."""
    rows = vlm.model.get_input_embeddings().weight.shape[0]
    if unknown := sorted({i for i in ids.tolist() if i >= rows and i != vlm.image_token_id}):
        words = vlm.processor.tokenizer.convert_ids_to_tokens(unknown[:3])
        raise ValueError(
            f"asked {vlm.name} for a prompt, found the token ids {unknown[:3]} ({words}) in it and "
            f"embeddings of {rows} tokens; take tokenizer and weights from one checkpoint"
        )
