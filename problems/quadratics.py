"""Quadratics: convex bowls around one centre a task, whose Pareto front is known in closed form."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .problem import Measure, Problem, Split, Task
from .truth import Truth, simplex_grid, truth_of


class Point(nn.Module):
    """A point in the plane, seen through each row's disturbance; the same output for every task."""

    def __init__(self, tasks: int) -> None:
        super().__init__()
        self.tasks = tasks
        self.place = nn.Parameter(torch.randn(2, dtype=torch.float64))

    def forward(self, disturbance: Tensor) -> tuple[Tensor, ...]:
        seen = self.place + disturbance
        return tuple(seen for _ in range(self.tasks))


def _bowl(scale: float) -> Measure:
    def loss(seen: Tensor, centre: Tensor) -> Tensor:
        return scale * (seen - centre).square().sum(-1).mean()

    return loss


def quadratics(tasks: int = 2, scale: float = 10.0, noise: float = 0.1, rows: int = 64) -> Problem:
    """Task i pulls a point towards corner i of a regular polygon; later tasks weigh `scale` more.

    L_i(θ) = scale^i · mean ‖θ + ε − a_i‖², a_i on the unit circle, ε ~ N(0, noise²) a row. Convex,
    so weights w reach θ = Σ w_i s_i a_i / Σ w_i s_i and scalarization traces the whole front:
    a negative control, where no method can be better.

    tasks: T >= 2. scale: ratio of neighbouring tasks' scales, > 0. noise: standard deviation of the
    disturbance. rows: size of each split.
    """
    if tasks < 2 or scale <= 0 or noise < 0 or rows < 1:
        raise ValueError(
            "quadratics needs tasks >= 2, scale > 0, noise >= 0 and rows >= 1; found "
            f"{tasks=}, {scale=}, {noise=}, {rows=}"
        )
    angles = torch.arange(tasks, dtype=torch.float64) * (2 * torch.pi / tasks)
    centres = torch.stack([angles.cos(), angles.sin()], dim=-1)
    generator = torch.Generator().manual_seed(0)

    def split() -> Split:
        disturbance = noise * torch.randn(rows, 2, generator=generator, dtype=torch.float64)
        return Split(disturbance, tuple(centre.expand(rows, 2) for centre in centres))

    named = tuple(Task(f"bowl{i + 1}", _bowl(scale**i)) for i in range(tasks))
    train, val, test = split(), split(), split()
    truth = _truth(centres, scale, test.inputs)
    return Problem("quadratics", named, train, val, test, lambda: Point(tasks), truth=truth)


def _truth(centres: Tensor, scale: float, disturbance: Tensor) -> Truth:
    """All points between the centres, whose losses the disturbance raises by its variance."""
    places = simplex_grid(len(centres)) @ centres
    variance = (disturbance - disturbance.mean(dim=0)).square().sum(dim=1).mean()
    scales = scale ** torch.arange(len(centres), dtype=torch.float64)
    return truth_of(scales * (torch.cdist(places, centres).square() + variance))
