"""Pictures that went through the vision tower already, one record each."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Features:
    """What the vision tower makes of one picture: `tokens [token, channel]`, one an image token.

    `deep` are further such features, for decoder layers that are given some of their own; `kind`
    and `listed` the model's own way to hold them.
    """

    tokens: Tensor
    deep: tuple[Tensor, ...]
    kind: type
    listed: bool

    def __repr__(self) -> str:
        deep = f", {len(self.deep)} deep" if self.deep else ""
        return f"Features({self.tokens.shape[0]} tokens, {self.tokens.shape[1]} channels{deep})"

    @classmethod
    def divide(cls, seen, sizes: Sequence[int]) -> list["Features"]:
        """A vision tower's output as one `Features` a picture, of so many tokens each."""
        listed = not isinstance(seen.pooler_output, Tensor)
        tokens = torch.cat(list(seen.pooler_output)) if listed else seen.pooler_output
        tokens = tokens.reshape(-1, tokens.shape[-1])
        layers = getattr(seen, "deepstack_features", None) or ()
        deep = [torch.cat(tuple(layer)).split(sizes) for layer in layers]
        deep = list(zip(*deep, strict=True)) or [()] * len(sizes)
        pairs = zip(tokens.split(sizes), deep, strict=True)
        return [cls(*pair, type(seen), listed) for pair in pairs]

    @staticmethod
    def join(rows: Sequence["Features"]) -> object:
        """The features of several pictures as the model takes them."""
        tokens = [row.tokens for row in rows]
        made = {"pooler_output": tokens if rows[0].listed else torch.cat(tokens)}
        if rows[0].deep:
            made["deepstack_features"] = list(zip(*(row.deep for row in rows), strict=True))
        return rows[0].kind(**made)
