"""The records between a sample and an instrument: `Inputs`, and the `Answer`."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from textwrap import shorten

import torch
from PIL import Image
from torch import Tensor

from irlib import doors
from irlib.inputs.choosing import check_one, look_at, looked_at
from irlib.inputs.features import Features
from irlib.inputs.grids import Grid
from irlib.inputs.reader import Reader
from irlib.inputs.spans import Spans, counts
from irlib.tasks.samples import Sample


@dataclass(frozen=True, eq=False)
class Answer:
    """What the model said: `ids`, one 1-D tensor a row without special tokens, and `texts`.

    `margins` tell how far the first token of each row was ahead of the next best (models.rounding),
    `reader` whose words the ids are, where that is known.
    """

    ids: tuple[Tensor, ...]
    texts: tuple[str, ...]
    margins: tuple[float, ...] = ()
    reader: Reader | None = None

    @property
    def text(self) -> str:
        """The text of the only row."""
        return _only(self.texts, "answer")

    @property
    def spoken(self) -> list[int]:
        """The rows whose answer has a token: a model may end at once, and has said nothing then."""
        return [row for row, ids in enumerate(self.ids) if len(ids)]

    def take(self, rows: Sequence[int]) -> "Answer":
        """These rows, in this order; raises `ValueError` for one that is not there."""
        rows = doors.counts("rows", rows, most=len(self.ids) - 1)
        each = {name: told for name, told in vars(self).items() if told and name != "reader"}
        return replace(self, **{name: tuple(one[k] for k in rows) for name, one in each.items()})

    def __repr__(self) -> str:
        said = shorten(self.texts[0], 40, placeholder=" ...") if self.texts else ""
        more = f" and {len(self.texts) - 1} more" if len(self.texts) > 1 else ""
        return f"Answer({said!r}{more}, {sum(map(len, self.ids))} tokens)"


@dataclass(frozen=True, eq=False)
class Inputs:
    """Prompts ready for the model, left-padded to one length; one row a sample.

    `text` holds the model's arguments of shape `[row, position]`, `visual` one entry a row: the
    tensors of its pictures as the processor made them, or None; `batch` is both together. `spans`
    are the segments, `samples` where they come from. `laid` and `shown` hold of each row its
    pictures' grids and pictures, `which` is the one of several that is looked at, None where all
    are. `appended` is what an argument of `text` is in an answer, where that is not 0; `reader` is
    whose words and pictures these are.
    """

    text: dict[str, Tensor]
    visual: tuple[dict | None, ...]
    spans: Spans
    laid: tuple[tuple[Grid, ...], ...]
    shown: tuple[tuple[Image.Image, ...], ...]
    samples: tuple[Sample, ...]
    appended: dict[str, int] = field(default_factory=dict)
    reader: Reader | None = None
    which: int | None = None

    @property
    def grids(self) -> tuple[Grid | tuple[Grid, ...] | None, ...]:
        """The grid of each row's picture: None without one, a tuple where several are looked at."""
        return tuple(looked_at(row, self.which) for row in self.laid)

    @property
    def pictures(self) -> tuple[Image.Image | tuple[Image.Image, ...] | None, ...]:
        """The picture of each row, as `grids` has them."""
        return tuple(looked_at(row, self.which) for row in self.shown)

    @property
    def batch(self) -> dict:
        """The model's arguments, the pictures of all rows joined: made anew at each call."""
        visual = [row for row in self.visual if row is not None]
        joined = {key: [row[key] for row in visual] for key in (visual[0] if visual else ())}
        features = joined.pop("features", None)
        batch = self.text | {key: _join(tensors) for key, tensors in joined.items()}
        return batch | (
            {"mm_encoder_outputs": {"image": Features.join(features)}} if features else {}
        )

    def __len__(self) -> int:
        return len(self.samples)

    def __repr__(self) -> str:
        rows = f"{len(self)} row{'s' * (len(self) != 1)}"
        return f"Inputs({rows}, {self.length} positions, {counts(self.spans.image)} image tokens)"

    @property
    def length(self) -> int:
        """Positions of a row, padding included."""
        return self.text["input_ids"].shape[1]

    @property
    def grid(self) -> Grid | None:
        """The grid of the only row."""
        return _only(self.grids, "grid")

    def picture(self, which: int) -> "Inputs":
        """The same prompts, of whose pictures one is looked at, `which` from 0 on.

        The model reads all of them as before; `spans.image` are the tokens of this one alone, and
        those of the others are `between`. So every instrument is by picture: `truncate` hides this
        one, from all that stands behind it, `llava_cam` maps it, shares are of it, edges lead from
        it. Boxes are those on it. A row without a picture stays as it is. Raises `ValueError` where
        a row has fewer pictures, or one of them has been chosen already.

        >>> from PIL import Image
        >>> from irlib import load
        >>> pair = [Image.new("RGB", (64, 64), color) for color in ("red", "blue")]
        >>> inputs = load("mini-llava").prepare(pair, "What is a cat?")
        >>> [int(part.spans.image.sum()) for part in (inputs, inputs.picture(1))]
        [128, 64]
        """
        return look_at(self, which)

    def check_one(self, what: str) -> None:
        """Raise `ValueError` where a row has several pictures and none of them was chosen."""
        check_one(self, what)

    def limits(self, most: int | None = None) -> list[int]:
        """How many tokens each row's answer may have: `most`, or as many as its sample says."""
        return [
            doors.count("max_new_tokens", sample.max_new_tokens if most is None else most, least=1)
            for sample in self.samples
        ]

    def take(self, rows: Sequence[int]) -> "Inputs":
        """These rows, in this order, each as often as it is named.

        Raises `ValueError` for one that is not there, and for a mask.
        """
        rows = doors.counts("rows", rows, most=len(self) - 1)
        return Inputs(
            text={key: value[rows] for key, value in self.text.items()},
            visual=tuple(self.visual[row] for row in rows),
            spans=Spans(**{key: mask[rows] for key, mask in vars(self.spans).items()}),
            laid=tuple(self.laid[row] for row in rows),
            shown=tuple(self.shown[row] for row in rows),
            samples=tuple(self.samples[row] for row in rows),
            appended=self.appended,
            reader=self.reader,
            which=self.which,
        )

    def followed_by(self, answer: Answer) -> "Inputs":
        """Prompt and answer in one sequence, for one teacher-forced forward.

        The answers are appended behind the prompts and padded on the right to one length; an empty
        one adds nothing to its row. Raises `ValueError` unless there is one answer a prompt, in the
        words of the same model.
        """
        doors.kind("answer", answer, Answer, give="what vlm.answer(inputs) returns")
        if self.reader and answer.reader:
            self.reader.check(answer.reader, "an answer")
        lengths = torch.tensor([len(ids) for ids in answer.ids])
        if len(answer.ids) != len(self):
            raise ValueError(
                f"asked to append an answer to each of {len(self)} prompts, found answers of "
                f"{lengths.tolist()} tokens, to other inputs; give one answer a prompt"
            )
        ids = [ids.long() for ids in answer.ids]  # one without tokens may be of any dtype
        ids = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True)
        real = torch.arange(ids.shape[1]) < lengths[:, None]
        added = {"input_ids": ids, "attention_mask": real}
        added |= {key: torch.full_like(ids, value) for key, value in self.appended.items()}
        text = {
            key: torch.cat([value, added.get(key, ids * 0).to(value)], 1)
            for key, value in self.text.items()
        }
        masks = {
            key: torch.cat([mask, (real if key == "answer" else real & False).to(mask)], 1)
            for key, mask in vars(self.spans).items()
        }
        return replace(self, text=text, spans=Spans(**masks))


def _join(tensors):
    """Tensors of one picture each, one behind the other; all other axes padded with zeros."""
    shape = [max(sizes) for sizes in zip(*(tensor.shape[1:] for tensor in tensors), strict=True)]
    padded = []
    for tensor in tensors:
        gaps = [most - own for most, own in zip(shape, tensor.shape[1:], strict=True)]
        ends = [side for gap in reversed(gaps) for side in (0, gap)]
        padded.append(torch.nn.functional.pad(tensor, ends) if any(gaps) else tensor)
    return torch.cat(padded)


def _only(items, what):
    if len(items) != 1:
        raise ValueError(
            f"asked for the {what} of the only row, found {len(items)} rows; index the tuple"
        )
    return items[0]
