"""Muon (Jordan et al., 2024): momentum whose direction is made orthogonal, for matrices.

torch.optim.Muon does the same in bfloat16, one matrix at a time, which a CPU is slow at; here the
matrices of one shape go through the Newton-Schulz iteration together, in float32.
"""

from collections import defaultdict

import torch
from torch import Tensor


def orthogonal(stack: Tensor, steps: int = 5) -> Tensor:
    """Return `[matrix, row, column]` with singular values pulled towards 1."""
    x = stack.mT if (tall := stack.shape[-2] > stack.shape[-1]) else stack
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonal update of RMS `lr`-scaled by sqrt(max(1, rows / columns))."""

    def __init__(self, params, lr: float = 0.02, momentum: float = 0.95, weight_decay: float = 0.0):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None) -> None:
        for group in self.param_groups:
            shapes = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    shapes[p.shape].append(p)
            for (rows, columns), params in shapes.items():
                updates = []
                for p in params:
                    buffer = self.state[p].setdefault("momentum", torch.zeros_like(p))
                    buffer.lerp_(p.grad, 1 - group["momentum"])
                    updates.append(p.grad.lerp(buffer, group["momentum"]))
                scale = group["lr"] * max(1, rows / columns) ** 0.5
                for p, update in zip(params, orthogonal(torch.stack(updates)), strict=True):
                    p.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-scale)
