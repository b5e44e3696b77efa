"""What made inputs: the words and pictures of a model, and how an answer is spelled in them."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

TAIL = 8  # tokens of a prompt's end that an answer is spelled behind


@dataclass(frozen=True, eq=False)
class Reader:
    """Whose words and pictures inputs are made of: a model's name, its processor and family.

    Two models whose `words` and `pictures` agree may share their inputs, as two sizes of one family
    do.
    """

    name: str
    processor: object
    family: object

    def __repr__(self) -> str:
        return f"Reader({self.name})"

    @property
    def placeholder(self) -> str:
        """The text that stands for the picture in a prompt."""
        token = self.processor.image_token
        return getattr(token, "content", token)

    @cached_property
    def words(self) -> str:
        """A sha256 of what each token id means."""
        return _digest(self.processor.tokenizer.get_vocab())

    @cached_property
    def pictures(self) -> str:
        """A sha256 of how a picture becomes numbers and image tokens."""
        images = getattr(self.processor, "image_processor", None)
        sizes = {
            key: value
            for key, value in vars(self.processor).items()
            if isinstance(value, bool | int | str | list | tuple) and key != "chat_template"
        }
        return _digest([self.family.title, images and images.to_dict(), sizes])

    def check(self, made: "Reader", what: str, *, pictures: bool = False) -> None:
        """Raise `ValueError` where `what` was made of other words than these, or other pictures."""
        if made is self:
            return
        other = [name for name in ["words", *["pictures"] * pictures]
                 if getattr(self, name) != getattr(made, name)]  # fmt: skip
        if other:
            raise ValueError(
                f"asked {self.name} to take {what}, found it made by {made.name}, whose "
                f"{' and '.join(other)} are others; make it anew with this model: vlm.prepare"
                "(inputs.samples), vlm.answer(inputs)"
            )

    def spellings(self, prompt: Tensor, text: str) -> list[Tensor]:
        """Token ids `[token]` of an answer behind a prompt's ids: begun with a space, and without.

        One where both are the same. Raises `ValueError` for special tokens in it and for what the
        tokenizer does not know or drops: their numbers would be another text's.
        """
        tokenizer, text = self.processor.tokenizer, text.strip()
        asked = f"asked for the answer {text!r} in the words of {self.name}"
        if found := [t for t in {self.placeholder, *tokenizer.all_special_tokens} if t in text]:
            raise ValueError(
                f"{asked}, found the special token {sorted(found)} in it; leave it out: an answer "
                "ends by itself"
            )
        if not text:
            return [torch.tensor([], dtype=torch.long)]
        told = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}
        before, found = tokenizer.decode(prompt[-TAIL:], **told), []
        for whole in (f"{before} {text}", f"{before}{text}"):
            made = tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True)
            pairs = list(zip(made["input_ids"], made["offset_mapping"], strict=True))
            read = {place for _, span in pairs for place in range(*span)}
            first = len(whole) - len(text)
            lost = [whole[i] for i in range(first, len(whole)) if i not in read]
            ids = [id for id, (start, end) in pairs if end > max(start, len(before))]
            if (lost := "".join(lost).strip()) or tokenizer.unk_token_id in ids:
                raise ValueError(
                    f"{asked}, found that its tokenizer does not know {lost or 'some of it'!r}; "
                    "use other words"
                )
            grown = any(start < len(before) < end for _, (start, end) in pairs)
            if not grown and ids not in found:
                found.append(ids)
        if not found:
            raise ValueError(
                f"{asked}, found that it grows together with the end of the prompt, {before!r}; "
                "give what vlm.answer(inputs) returns"
            )
        return [torch.tensor(ids) for ids in found]


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
