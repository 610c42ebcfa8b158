"""Landscape: the two-parameter valleys on which PCGrad was first shown; always the same start."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .problem import Problem, Split, Task
from .truth import Truth

START = (0.5, -3.0)
FLOOR = 5e-6
"""What keeps the logarithms finite; at and below it a valley is flat."""


class Walker(nn.Module):
    """Two numbers that always start at START; every row and both tasks see them as they are."""

    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.tensor(START, dtype=torch.float64))

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        seen = self.place.expand(len(rows), 2)
        return seen, seen


def _first(seen: Tensor, row: Tensor) -> Tensor:
    return 20 * _log(seen[:, 0] / 2 + seen[:, 1].tanh())


def _second(seen: Tensor, row: Tensor) -> Tensor:
    return 25 * _log(seen[:, 0] / 2 - seen[:, 1].tanh() + 2)


def _log(depth: Tensor) -> Tensor:
    return depth.abs().clamp(min=FLOOR).log().mean()


def landscape(rows: int = 1000) -> Problem:
    """Two narrow curved valleys that meet far from the start (Yu et al. 2020, appendix D).

    L₁ = 20 log max(|θ₁/2 + tanh θ₂|, 5e-6), L₂ = 25 log max(|θ₁/2 − tanh θ₂ + 2|, 5e-6), from
    θ = (0.5, −3). Both floors, −244.1 and −305.2, are reached together at θ₁ = −2 for θ₂ > 6.45.
    Losses are negative. With equal weights no learning rate leads there; PCGrad arrives, and so do
    tuned weights: a control where surgery helps, though not beyond a sweep of weights.

    Deterministic: one start for every seed and no noise, so that seeds repeat each other and an
    interval over them has no width. rows: steps an epoch at batch_size 1; the rows hold nothing.
    """
    if rows < 1:
        raise ValueError(f"landscape needs rows >= 1; found {rows}")
    tasks = Task("first", _first), Task("second", _second)
    train, single = _empty(rows), _empty(1)
    return Problem("landscape", tasks, train, single, single, Walker, truth=_truth())


def _truth() -> Truth:
    """Both floors together; hypervolume counts from the losses at the start."""
    seen, row = torch.tensor([START], dtype=torch.float64), torch.zeros(1)
    start = torch.stack([_first(seen, row), _second(seen, row)])
    floors = math.log(FLOOR) * torch.tensor([20, 25], dtype=torch.float64)
    return Truth(floors.unsqueeze(0), start, float((start - floors).prod()))


def _empty(rows: int) -> Split:
    nothing = torch.zeros(rows, dtype=torch.float64)
    return Split(nothing, (nothing, nothing))
