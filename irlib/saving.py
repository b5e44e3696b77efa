"""What a backward pass needs kept: how much that is, and how to keep less."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint


@contextmanager
def recompute(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Keep only the inputs of these modules for a backward pass, which computes the rest again.

    Results are the same. The block must hold forward and backward; hooks inside these modules then
    run twice, and must do the same both times. Works in eval mode, where transformers' own gradient
    checkpointing does nothing.

    >>> import torch
    >>> net, x = nn.Linear(2, 3), torch.ones(1, 2, requires_grad=True)
    >>> with recompute([net]):
    ...     torch.autograd.grad(net(x).sum(), x)[0].shape
    torch.Size([1, 2])
    """
    with ExitStack() as stack:
        for module in modules:
            held = vars(module)
            if "forward" in held:  # another library has wrapped it
                stack.callback(held.__setitem__, "forward", held["forward"])
            else:
                stack.callback(held.__delitem__, "forward")
            held["forward"] = partial(checkpoint, module.forward, use_reentrant=False)
        yield
