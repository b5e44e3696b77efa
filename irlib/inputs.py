"""The records between a sample and an instrument: `Inputs` with their `Spans`, and the `Answer`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from PIL import Image
from torch import Tensor

from irlib.grids import Grid
from irlib.tasks import Sample

SEGMENTS = ("system", "image", "between", "user", "answer")


@dataclass(frozen=True, eq=False)
class Spans:
    """Masks `[row, position]` of the five segments; padding belongs to none of them.

    `image` are the positions of image features; `system` stands before the first, `between` among
    them (markers of tiles), `user` after the last up to the prompt's end; `answer` follows. Without
    a picture `image` is empty and `user` begins where the question begins.
    """

    system: Tensor
    image: Tensor
    between: Tensor
    user: Tensor
    answer: Tensor

    @property
    def predicting(self) -> Tensor:
        """Mask of the positions whose logits predict the answer's tokens: each one before it."""
        return self.answer.roll(-1, dims=1)


@dataclass(frozen=True, eq=False)
class Answer:
    """What the model said: `ids`, one 1-D tensor a row without special tokens, and `texts`."""

    ids: tuple[Tensor, ...]
    texts: tuple[str, ...]

    @property
    def text(self) -> str:
        """The text of the only row."""
        return _only(self.texts, "answer")


@dataclass(frozen=True, eq=False)
class Inputs:
    """Prompts ready for the model, left-padded to one length; one row a sample.

    `batch` holds the model's arguments (`input_ids [row, position]`, `attention_mask`, and what
    belongs to the pictures, one entry a picture), `spans` the segments, `grids` and `pictures` one
    entry a row (None without a picture), `samples` where they come from.
    """

    batch: dict[str, Tensor]
    spans: Spans
    grids: tuple[Grid | None, ...]
    pictures: tuple[Image.Image | None, ...]
    samples: tuple[Sample, ...]

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def length(self) -> int:
        """Positions of a row, padding included."""
        return self.batch["input_ids"].shape[1]

    @property
    def grid(self) -> Grid | None:
        """The grid of the only row."""
        return _only(self.grids, "grid")

    def take(self, rows: Sequence[int]) -> "Inputs":
        """These rows, in this order; a row may be taken several times."""
        rows = list(rows)
        has_picture = [grid is not None for grid in self.grids]
        pictures = [sum(has_picture[:row]) for row in rows if has_picture[row]]
        by_row, batch = self.batch["input_ids"].shape, {}
        for key, value in self.batch.items():
            if isinstance(value, Tensor) and value.shape[:2] == by_row:
                batch[key] = value[rows]
            elif pictures:
                batch[key] = _pick(value, pictures)
        return Inputs(
            batch=batch,
            spans=Spans(**{key: mask[rows] for key, mask in vars(self.spans).items()}),
            grids=tuple(self.grids[row] for row in rows),
            pictures=tuple(self.pictures[row] for row in rows),
            samples=tuple(self.samples[row] for row in rows),
        )

    def followed_by(self, answer: Answer) -> "Inputs":
        """Prompt and answer in one sequence, for one teacher-forced forward.

        The answers are appended behind the prompts and padded on the right to one length.
        """
        lengths = torch.tensor([len(ids) for ids in answer.ids])
        if len(answer.ids) != len(self) or not lengths.all():
            raise ValueError(
                f"asked to append an answer to each of {len(self)} prompts, found answers of "
                f"{lengths.tolist()} tokens; give one answer a prompt, none of them empty"
            )
        ids = torch.nn.utils.rnn.pad_sequence(answer.ids, batch_first=True)
        real = torch.arange(ids.shape[1]) < lengths[:, None]
        added = {"input_ids": ids, "attention_mask": real}
        by_row, batch = self.batch["input_ids"].shape, dict(self.batch)
        for key, value in self.batch.items():  # extra token types are 0 in an answer
            if isinstance(value, Tensor) and value.shape == by_row:
                batch[key] = torch.cat([value, added.get(key, ids * 0).to(value)], 1)
        masks = {
            key: torch.cat([mask, (real if key == "answer" else real & False).to(mask)], 1)
            for key, mask in vars(self.spans).items()
        }
        return replace(self, batch=batch, spans=Spans(**masks))


def _pick(value, pictures):
    """These entries of pixels, or of the vision tower's output as `VLM.encode` has it."""
    if isinstance(value, Tensor):
        return value[pictures]
    features = [value["image"].pooler_output[picture] for picture in pictures]
    return {"image": type(value["image"])(pooler_output=features)}


def _only(items, what):
    if len(items) != 1:
        raise ValueError(
            f"asked for the {what} of the only row, found {len(items)} rows; index the tuple"
        )
    return items[0]
