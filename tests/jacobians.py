"""Jacobians that tests share: worked examples of the literature, and ones that break methods."""

from __future__ import annotations

import torch
from torch import Tensor


def rows(*values: tuple[float, ...]) -> Tensor:
    """A float64 Jacobian from its rows, one a task."""
    return torch.tensor(values, dtype=torch.float64)


CONFLICT = rows((1, 0), (-1, 1))
TORCHJD = rows((-4, 1, 1), (6, 1, 1))
ORTHOGONAL = rows((2, 0), (0, 1))
CHAIN = rows((1, 0, 0), (-1, 1, 0), (-0.5, -0.5, 1))
STATIONARY = rows((1, 0), (-1, 1), (-0.5, -1))
IDENTICAL = rows((3, 4), (3, 4))
OPPOSITE = rows((1, 0), (-2, 0))


def random_jacobian(
    seed: int, *shape: int, spread: float = 0.0, dtype: torch.dtype = torch.float64
) -> Tensor:
    """A Gaussian Jacobian (..., T, P) whose rows are scaled by exp(spread * N(0, 1))."""
    generator = torch.Generator().manual_seed(seed)
    gaussian = torch.randn(*shape, generator=generator, dtype=torch.float64)
    sizes = torch.randn(*shape[:-1], 1, generator=generator, dtype=torch.float64)
    return (gaussian * torch.exp(spread * sizes)).to(dtype)


def random_rotation(seed: int, size: int) -> Tensor:
    """An orthogonal matrix (P, P)."""
    rotation: Tensor = torch.linalg.qr(random_jacobian(seed, size, size)).Q
    return rotation


def graded(tasks: int, parameters: int, decades: float) -> Tensor:
    """A Gaussian Jacobian whose rows' norms run from 10^-decades to 10^decades."""
    sizes = torch.logspace(-decades, decades, tasks, dtype=torch.float64)
    return random_jacobian(7, tasks, parameters) * sizes.unsqueeze(-1)


NASTY: dict[str, Tensor] = {
    "conflict": CONFLICT,
    "identical": IDENTICAL,
    "opposite": OPPOSITE,
    "stationary": STATIONARY,
    "one task": rows((3, 4)),
    "one zero task": rows((0, 0)),
    "all zero": torch.zeros(3, 4, dtype=torch.float64),
    "two zeros": torch.zeros(2, 4, dtype=torch.float64),
    "one zero gradient": rows((1, 2, 0), (0, 0, 0), (-1, 1, 1)),
    "one of two is zero": rows((1, 2, 0), (0, 0, 0)),
    "one parameter": rows((1,), (-2,), (3,)),
    "duplicates": rows((1, 2), (1, 2), (-1, 3), (-1, 3)),
    "opposite pairs": rows((1, 0), (-1, 0), (0, 2), (0, -2)),
    "rank one": random_jacobian(1, 5, 1) * random_jacobian(2, 1, 6),
    "more tasks than parameters": random_jacobian(3, 8, 3),
    "forty tasks": random_jacobian(4, 40, 60),
    "forty tasks in the plane": random_jacobian(5, 40, 2),
    "graded": graded(6, 10, 12),
    "graded pair": graded(2, 3, 12),
    "graded and singular": graded(6, 3, 12),
    "forty graded": graded(40, 60, 12),
    "forty graded in the plane": graded(40, 2, 12),
    "nearly identical": IDENTICAL + 1e-9 * random_jacobian(6, 2, 2),
    "nearly opposite": OPPOSITE + 1e-9 * random_jacobian(6, 2, 2),
    "huge": 1e15 * CHAIN,
    "tiny": 1e-15 * CHAIN,
}
"""Names say what is special; every method must answer them with finite weights."""
