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
    orders = signals.noise.view(*signals.noise.shape[:-1], tasks, tasks).argsort(-1)
    return surgery(signals.gramian, orders).sum(-2), state


def noise(tasks: int) -> int:
    """One number for every pair, whose ranks give each task its own order."""
    return tasks * tasks


def surgery(gramian: Tensor, orders: Tensor, yields: Tensor | None = None) -> Tensor:
    """Coefficients V (..., T, T) of the projected gradients v_i = Σ_k V_ik g_k.

    gramian: (..., T, T). orders: (..., T, T) integers, row i the order in which task i meets the
    others; its own place is passed over. yields: (..., T, T) where row i says before which others
    task i gives up the conflicting part; None means before all.
    """
    tasks = gramian.shape[-1]
    lengths = positive(gramian.diagonal(dim1=-2, dim2=-1))
    identity = torch.eye(tasks, dtype=gramian.dtype, device=gramian.device)
    open_to = ~identity.bool() if yields is None else yields & ~identity.bool()
    open_to = open_to.expand_as(gramian)
    coefficients = identity.expand_as(gramian)
    products = gramian
    for turn in range(tasks):
        other = orders[..., turn : turn + 1]
        product = products.gather(-1, other)
        length = lengths.unsqueeze(-2).expand_as(gramian).gather(-1, other)
        conflict = (product < 0) & open_to.gather(-1, other)
        removed = torch.where(conflict, -product / length, torch.zeros_like(product))
        coefficients = coefficients.scatter_add(-1, other, removed)
        products = products + removed * gramian.gather(-2, other.expand_as(gramian))
    return coefficients


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
