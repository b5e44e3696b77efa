"""Which of the inputs that a block was opened for run inside it: known by their embeddings.

What a forward, a generation, an instrument and a copy of some rows have in common is what the first
decoder layer is given: the embeddings of the prompt's tokens, those of its picture among them.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from irlib.hooks.hooks import edit
from irlib.inputs.records import Inputs


class _Enough(Exception):
    """Ends a pass whose first layer has been reached."""


@torch.no_grad()
def first_layer(vlm, inputs: Inputs) -> tuple[Tensor, dict]:
    """What the first decoder layer is given of the inputs: `[row, position, channel]`, the rest.

    Costs the vision tower, unless the inputs went through it (`vlm.encode`), and no decoder layer.
    """
    given = []

    def keep(_, args, kwargs):
        given.extend([args[0].detach(), kwargs])
        raise _Enough

    with suppress(_Enough), edit({0: vlm.decoder.layers[0]}, keep, at="input"):
        vlm.forward(inputs, logits_to_keep=1)
    return tuple(given)


class Recogniser:
    """Tells for every run in a block which rows of `inputs` it is on; refuses one on others.

    `rows [row of the run]` are those of the pass that has begun last. A pass that goes on from a
    cache is on the rows of the pass that filled it.
    """

    def __init__(self, vlm, inputs: Inputs, alike: Tensor):
        """`alike [row, ...]` is what the block does to each row, the same where it is equal."""
        self.known, self.image = first_layer(vlm, inputs)[0], vlm.image_tokens(inputs.text)
        self.alike = alike
        self.rows: Tensor | None = None
        self._filled: WeakKeyDictionary = WeakKeyDictionary()

    def begin(self, states: Tensor, cache, seen: int) -> None:
        """A pass begins with `states [row, position, channel]`, behind `seen` positions."""
        if seen:
            self.rows = self._filled.get(cache)
            if self.rows is None or len(self.rows) != len(states):
                raise self._other(states, "that goes on from a cache filled outside of the block")
            return
        self.rows = self._match(states)
        if cache is not None:
            self._filled[cache] = self.rows

    def _match(self, states) -> Tensor:
        """The row of the inputs that each row of a run begins with: in their order, or taken."""
        length, size = self.known.shape[1], len(self.known)
        if states.shape[1] < length:
            raise self._other(states, "of fewer positions")
        given = states[:, :length].detach()
        if len(given) == size and all(self._same(given[row], row) for row in range(size)):
            return torch.arange(size)
        found = [[row for row in range(size) if self._same(one, row)] for one in given]
        if not all(found):
            raise self._other(states, "with other tokens or another picture")
        for rows in found:
            if any(not torch.equal(self.alike[rows[0]], self.alike[row]) for row in rows[1:]):
                raise self._other(
                    states, f"taken from the rows {rows}, which are equal but hidden differently"
                )
        return torch.tensor([rows[0] for rows in found])

    def _same(self, one, row) -> bool:
        """Whether embeddings `[position, channel]` are those of a row of the inputs.

        Tokens to the bit. A picture to half the digits of the dtype: a vision tower rounds
        differently in another batch, while another picture differs in the first digit.
        """
        known, image = self.known[row].to(one.device), self.image[row].to(one.device)
        if not torch.allclose(one[~image], known[~image], rtol=0, atol=0, equal_nan=True):
            return False
        gap, size = ((x[image]).float().norm() for x in (one - known, known))
        return not gap > torch.finfo(known.dtype).eps ** 0.5 * size

    def _other(self, states, how) -> ValueError:
        return ValueError(
            f"asked to change a run of inputs {list(self.known.shape[:2])} (rows, positions), "
            f"found a run {how}, {list(states.shape[:2])}; inside the block use the inputs it was "
            "given, rows taken from them, or these followed by an answer"
        )


@contextmanager
def following(vlm, inputs: Inputs, alike: Tensor) -> Iterator[dict]:
    """Inside the block `rows`, those of the inputs that run, and `seen`, the positions before them,
    as the first layer is told; `alike` is that of `Recogniser`."""
    runs, now = Recogniser(vlm, inputs, alike), {}

    def begin(_, args, kwargs):
        cache = kwargs.get("past_key_values")
        now["seen"] = int(cache.get_query_offset(0)) if cache is not None else 0
        runs.begin(args[0], cache, now["seen"])
        now["rows"] = runs.rows
        return args, kwargs

    with edit({0: vlm.decoder.layers[0]}, begin, at="input"):
        yield now
