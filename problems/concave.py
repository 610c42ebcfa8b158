"""Concave: two tasks whose Pareto front bulges, so that no fixed weights reach its middle."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .problem import Problem, Split, Task
from .truth import truth_of


class Place(nn.Module):
    """A number t that starts beyond either end of the front; each row and task sees t itself."""

    def __init__(self) -> None:
        super().__init__()
        side, beyond = torch.rand(2, dtype=torch.float64)
        self.t = nn.Parameter((side - 0.5).sign() * (1.5 + beyond))

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        seen = self.t + rows
        return seen, seen


def _dip(seen: Tensor, centre: Tensor) -> Tensor:
    return (1 - torch.exp(-(seen - centre).square())).mean()


def concave() -> Problem:
    """VLMOP2 in one dimension: f = 1 − exp(−(t ∓ 1)²), a concave front that linear weights miss.

    Van Veldhuizen & Lamont 1999. No fixed weights have a minimum at |t| < 1/√2, nor a global one at
    |t| < 0.957, while Tchebycheff scalarization reaches every t in between: a positive control.
    Deterministic: one row a split.
    """
    row = torch.zeros(1, dtype=torch.float64)
    split = Split(row, (row + 1, row - 1))
    places = torch.linspace(-1, 1, 2001, dtype=torch.float64)
    front = torch.stack([1 - torch.exp(-(places - side).square()) for side in (1, -1)], dim=1)
    tasks = Task("right", _dip), Task("left", _dip)
    return Problem("concave", tasks, split, split, split, Place, truth=truth_of(front))
