"""Which positions of a prompt belong to what: masks of its segments."""

from dataclasses import dataclass

from torch import Tensor

SEGMENTS = ("system", "image", "between", "user", "answer")


@dataclass(frozen=True, eq=False)
class Spans:
    """Masks `[row, position]` of the five segments; padding belongs to none of them.

    `image` are the positions of image features; `system` stands before the first, `between` among
    them (markers of tiles, and all other pictures where one of several is looked at), `user` after
    the last up to the prompt's end; `answer` follows. Where a family puts the picture before the
    first token of the text, `system` is empty and `user` all of the text. Without a picture `image`
    is empty and `user` begins where the question begins.
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

    def __repr__(self) -> str:
        return f"Spans({', '.join(f'{key} {counts(mask)}' for key, mask in vars(self).items())})"


def counts(mask: Tensor) -> str:
    """How many positions of each row: one number where all rows have as many, else the range."""
    counts = mask.sum(1).tolist() or [0]
    return str(counts[0]) if len(set(counts)) == 1 else f"{min(counts)} to {max(counts)}"
