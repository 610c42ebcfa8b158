"""DTLZ2 as a problem to train: its objectives are the tasks' losses, seen through noise."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from mtofront.problems import Problem, Split, Task


class Decision(nn.Module):
    """The decision variables, anywhere in the unit cube; each row and task sees them disturbed."""

    def __init__(self, variables: int, tasks: int) -> None:
        super().__init__()
        self.tasks = tasks
        start = torch.rand(variables, dtype=torch.float64)
        self.logits = nn.Parameter(torch.logit(start, eps=1e-3))

    def forward(self, disturbance: Tensor) -> tuple[Tensor, ...]:
        seen = self.logits.sigmoid() + disturbance
        return tuple(seen for _ in range(self.tasks))


def _objective(task: int, tasks: int) -> Callable[[Tensor, Tensor], Tensor]:
    def loss(seen: Tensor, row: Tensor) -> Tensor:
        angles = seen[:, : tasks - 1] * (math.pi / 2)
        value = 1 + (seen[:, tasks - 1 :] - 0.5).square().sum(-1)
        for k in range(tasks - 1 - task):
            value = value * angles[:, k].cos()
        if task > 0:
            value = value * angles[:, tasks - 1 - task].sin()
        return value.mean()

    return loss


def dtlz2(tasks: int = 3, distance: int = 10, noise: float = 0.05, rows: int = 64) -> Problem:
    """DTLZ2 (Deb, Thiele, Laumanns & Zitzler 2002): a front on the unit sphere, concave.

    f₁ = (1 + g) cos(x₁π/2) cos(x₂π/2), …, g = Σ (x_k − ½)² over `distance` variables. Gradient
    descent with disturbed x (standard deviation `noise`) stands in for noisy optimisation; the
    start is drawn uniformly. rows: size of each split.
    """
    generator = torch.Generator().manual_seed(0)
    variables = tasks - 1 + distance

    def split() -> Split:
        drawn = noise * torch.randn(rows, variables, generator=generator, dtype=torch.float64)
        return Split(drawn, tuple(drawn[:, 0] for _ in range(tasks)))

    named = tuple(Task(f"f{k + 1}", _objective(k, tasks)) for k in range(tasks))
    return Problem(
        "dtlz2", named, split(), split(), split(), lambda: Decision(variables, tasks)
    )  # fmt: skip
