"""Low-rank updates (Hu et al., 2022) of the linear layers of a frozen decoder."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from irlib.models.assembly import DOWN, UP


class Adapted(nn.Module):
    """A frozen linear layer and a trained product of two thin matrices beside it."""

    def __init__(self, linear: nn.Linear, rank: int, scale: float):
        super().__init__()
        self.linear, self.scale, self.there = linear, scale, True
        rows, columns = linear.weight.shape
        self.down = nn.Parameter(torch.randn(rank, columns) / columns**0.5)
        self.up = nn.Parameter(torch.zeros(rows, rank))

    def forward(self, x: Tensor) -> Tensor:
        out = self.linear(x)
        if not self.there:
            return out
        return out + x @ self.down.T.to(x) @ (self.scale * self.up.T).to(x)


def adapt(decoder: nn.Module, rank: int, *, scale: float = 2.0) -> nn.ModuleDict:
    """Put an update beside every linear layer and return them, "/" for "." in their names."""
    made = nn.ModuleDict()
    for name, linear in list(decoder.layers.named_modules()):
        if isinstance(linear, nn.Linear):
            home, _, last = name.rpartition(".")
            adapted = Adapted(linear, rank, scale)
            setattr(decoder.layers.get_submodule(home), last, adapted)
            made[name.replace(".", "/")] = Updates(adapted)
    return made


class Updates(nn.Module):
    """The trained part of an adapted layer alone, for checkpoints and optimisers."""

    def __init__(self, adapted: Adapted):
        super().__init__()
        self.down, self.up = adapted.down, adapted.up
        self._adapted = (adapted,)  # in a tuple: no part of this module

    def be(self, there: bool) -> None:
        self._adapted[0].there = there

    def tensors(self) -> dict[str, Tensor]:
        """Return both matrices as the bundle holds them, the scale in the second."""
        return {DOWN: self.down, UP: self._adapted[0].scale * self.up}


@contextmanager
def without(updates: nn.ModuleDict) -> Iterator[None]:
    """Inside the block the decoder is the frozen one, and no gradient is taken."""
    for each in updates.values():
        each.be(False)
    try:
        with torch.no_grad():
            yield
    finally:
        for each in updates.values():
            each.be(True)
