"""UPGrad, Jacobian descent: every task's gradient is projected to where it conflicts with none.

v_i = argmin over v >= e_i / T of vᵀGv: the vector nearest to g_i / T with g_j·d >= 0 for all j.
d = Σ_i Jᵀv_i never conflicts; it is the mean gradient if nothing does, and linear in the tasks'
scales.
Quinton and Rey, "Jacobian Descent for Multi-Objective Optimization", 2024, arXiv 2406.16232.
Difference: the quadratic programs are solved to rounding error without the authors' regularization.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .gramian import or_nan, trusted
from .method import Method, Paper, Signals, State, Values
from .quadratic import shortest_above
from .unsolved import count_from_zero, counted


def step(signals: Signals, state: State, values: Values) -> tuple[Tensor, State]:
    """Weights (..., T), each at least 1/T."""
    assert signals.gramian is not None
    clean, finite = trusted(signals.gramian)
    identity = torch.eye(clean.shape[-1], dtype=clean.dtype, device=clean.device)
    projected, solved = shortest_above(clean, (identity / clean.shape[-1]).expand_as(clean))
    return or_nan(finite, projected.sum(-2)), counted(state, solved.all(-2) | ~finite)


METHOD = Method(
    name="upgrad",
    summary="mean of the gradients, each projected to where it conflicts with none",
    paper=Paper(
        authors="Quinton, Rey",
        year=2024,
        title="Jacobian Descent for Multi-Objective Optimization",
        venue="arXiv",
        arxiv="2406.16232",
    ),
    needs="gramian",
    step=step,
    init=count_from_zero,
    deviations="solved to rounding error, without the authors' regularization",
)
