"""DB-MTL, dual balancing: logarithms of the losses, then gradients of equal length.

ĝ_i = ∇ log L_i = g_i / L_i; d = max_j ‖ĝ_j‖ · Σ ĝ_i / ‖ĝ_i‖. Weights max_j(‖g_j‖ / L_j) / ‖g_i‖.
Lin, Jiang, Ye, Zhang, Chen, Chen, Liu, Kwok, "Dual-Balancing for Multi-Task Learning", 2023, arXiv
2308.12029.
Differences: without the paper's running mean over past gradients, which would have to keep them;
losses below 1e-8 count as 1e-8; a task with a zero gradient gets no weight.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .arithmetic import positive
from .gramian import norms
from .method import Method, Paper, Signals, State, Values

SMALLEST_LOSS = 1e-8


def step(signals: Signals, state: State, values: Values) -> tuple[Tensor, State]:
    """Weights (..., T), non-negative."""
    assert signals.gramian is not None
    lengths = norms(signals.gramian)
    longest = (lengths / signals.losses.clamp_min(SMALLEST_LOSS)).amax(-1, keepdim=True)
    return torch.where(lengths == 0, 0.0, longest / positive(lengths)), state


METHOD = Method(
    name="db_mtl",
    summary="log losses, and gradients of equal length",
    paper=Paper(
        authors="Lin, Jiang, Ye, Zhang, Chen, Chen, Liu, Kwok",
        year=2023,
        title="Dual-Balancing for Multi-Task Learning",
        venue="arXiv",
        arxiv="2308.12029",
    ),
    needs="gramian",
    step=step,
    deviations="without the running mean over past gradients; losses below 1e-8 count as 1e-8",
)
