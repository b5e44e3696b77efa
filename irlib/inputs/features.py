"""Pictures that went through the vision tower already, one record each."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

MARKS = "visual_indicator_features"  # Ovis2's name of them


@dataclass(frozen=True, eq=False)
class Features:
    """What the vision tower makes of one picture: `tokens [token, channel]`, one an image token.

    `deep` are further such features, for decoder layers that are given some of their own; `marks`
    what the model puts at its markers around any picture, the same for all of them; `kind` and
    `listed` the model's own way to hold them.
    """

    tokens: Tensor
    deep: tuple[Tensor, ...]
    kind: type
    listed: bool
    marks: Tensor | None = None

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
        marks = getattr(seen, MARKS, None)
        return [cls(*pair, type(seen), listed, marks) for pair in pairs]

    @staticmethod
    def join(rows: Sequence["Features"]) -> object:
        """The features of several pictures as the model takes them."""
        tokens = [row.tokens for row in rows]
        made = {"pooler_output": tokens if rows[0].listed else torch.cat(tokens)}
        if rows[0].deep:
            made["deepstack_features"] = list(zip(*(row.deep for row in rows), strict=True))
        if rows[0].marks is not None:
            made[MARKS] = rows[0].marks
        return rows[0].kind(**made)


def look(model: nn.Module, batch: Mapping) -> object:
    """What the vision tower makes of the pictures in a batch, asked as the model itself asks it."""
    see = getattr(model, "get_image_features", None) or model.model.get_image_features
    known = inspect.signature(see).parameters
    asked = {key: value for key, value in batch.items() if key in known}
    if "vision_feature_layer" in known:  # Aria's own is the last, whatever its config says
        asked["vision_feature_layer"] = model.config.vision_feature_layer
    return see(**asked, return_dict=True)
