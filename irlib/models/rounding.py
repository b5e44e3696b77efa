"""How near a model came to saying something else."""

import torch
from torch import Tensor


def margins(logits: Tensor, dtype: torch.dtype) -> list[float]:
    """How far the best of `logits [row, vocabulary]` is ahead of the next, in units of rounding.

    A unit is one in the last place of the best logit in `dtype`. Rounded to nearest, as IEEE 754
    has it, each of the two is off by up to half a unit: a margin of up to 1 is rounding's alone.

    >>> margins(torch.tensor([[4.0, 4.03125, 1.0], [8.0, 2.0, 8.0]]), torch.bfloat16)
    [1.0, 0.0]
    """
    best, second = logits.float().topk(2).values.unbind(-1)
    exponent = best.abs().frexp().exponent - 1
    unit = torch.ldexp(best.new_full(best.shape, torch.finfo(dtype).eps), exponent)
    return ((best - second) / unit).tolist()
