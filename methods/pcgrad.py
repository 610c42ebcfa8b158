"""PCGrad, gradient surgery: each task's gradient gives up what conflicts with the others'.

For every i: v = g_i; for the other j in random order: if v·g_j < 0, v ← v − (v·g_j / ‖g_j‖²) g_j.
d = Σ v_i. It all happens on coefficients over the tasks, v_i = Σ_k V_ik g_k, read from the Gramian.
Yu, Kumar, Gupta, Levine, Hausman, Finn, "Gradient Surgery for Multi-Task Learning", NeurIPS 2020,
arXiv 2001.06782, Algorithm 1.
No difference from the paper: the order is drawn anew for every task and step, a task is never
projected on itself, and projections are on the original gradients. The sum, not the mean.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .arithmetic import positive
from .method import Method, Paper, Signals, State, Values


def step(signals: Signals, state: State, values: Values) -> tuple[Tensor, State]:
    """Weights (..., T), each at least 1: column sums of the surgery's coefficients."""
    assert signals.gramian is not None
    tasks = signals.gramian.shape[-1]
    if tasks == 2:
        return _between_two(signals.gramian), state
    return surgery(signals.gramian, meetings(signals.noise, tasks)).sum(-2), state


def noise(tasks: int) -> int:
    """One number for every pair, whose ranks give each task its own order; two need none."""
    return tasks * tasks if tasks > 2 else 0


def meetings(noise: Tensor, tasks: int) -> Tensor:
    """Row i is the order in which task i meets the others, (..., T, T - 1) integers.

    noise: (..., T²) in [0, 1), nothing for one or two tasks; a row's ranks are its order. A task
    alone meets itself.
    """
    if tasks <= 2:
        others = torch.arange(tasks - 1, -1, -1, device=noise.device).view(tasks, 1)
        return others.expand(*noise.shape[:-1], tasks, 1)
    alone = torch.eye(tasks, dtype=torch.bool, device=noise.device)
    ranks = noise.view(*noise.shape[:-1], tasks, tasks).masked_fill(alone, 1.0)
    return ranks.argsort(-1)[..., : tasks - 1]


def surgery(gramian: Tensor, orders: Tensor, yields: Tensor | None = None) -> Tensor:
    """Coefficients V (..., T, T) of the projected gradients v_i = Σ_k V_ik g_k.

    gramian: (..., T, T). orders: (..., T, K) integers, row i the order in which task i meets the
    others; its own place is passed over. yields: (..., T, T) where row i says before which others
    task i gives up the conflicting part; None means before all.
    """
    tasks = gramian.shape[-1]
    squares = positive(gramian.diagonal(dim1=-2, dim2=-1)).unsqueeze(-2)
    identity = torch.eye(tasks, dtype=gramian.dtype, device=gramian.device)
    stays = identity.bool() if yields is None else ~yields | identity.bool()
    # nothing is given up before an infinite length
    lengths = torch.where(stays, torch.inf, squares).expand_as(gramian).gather(-1, orders)
    products, removed = gramian, []
    for turn in range(orders.shape[-1]):
        other = orders[..., turn : turn + 1]
        conflict = (-products.gather(-1, other)).clamp_min(0)
        removed.append(conflict / lengths[..., turn : turn + 1])
        rows = gramian.gather(-2, other.expand_as(gramian))
        products = torch.addcmul(products, removed[-1], rows)
    # every other is met once, so nothing is scattered twice to a place
    return identity + torch.zeros_like(gramian).scatter(-1, orders, torch.cat(removed, -1))


def _between_two(gramian: Tensor) -> Tensor:
    """Column sums of the surgery's coefficients for two tasks, whose order does not matter."""
    squares = positive(gramian.diagonal(dim1=-2, dim2=-1))
    return 1 + (-gramian[..., :1, 1]).clamp_min(0) / squares


METHOD = Method(
    name="pcgrad",
    summary="projects each gradient off the gradients it conflicts with, in random order",
    paper=Paper(
        authors="Yu, Kumar, Gupta, Levine, Hausman, Finn",
        year=2020,
        title="Gradient Surgery for Multi-Task Learning",
        venue="NeurIPS",
        arxiv="2001.06782",
    ),
    needs="gramian",
    step=step,
    noise=noise,
)
