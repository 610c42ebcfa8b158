"""Tchebycheff scalarization: minimise the largest weighted loss.

min over θ of max_i λ_i L_i, ideal point 0; its subgradient is λ_k g_k for the task k that has the
maximum (the first of equals). Every weakly Pareto optimal point minimises it for some λ, also where
the front is concave and no linear scalarization arrives; the price is that it is not smooth.
Bowman, "On the relationship of the Tchebycheff norm and the efficient frontier", 1976; Miettinen,
"Nonlinear Multiobjective Optimization", 1999, section 3.4.
Difference: the ideal point is 0 for every task, as fits losses that cannot be negative.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .gramian import or_nan
from .method import Method, Paper, Signals, State, TaskWeights, Values, task_weights


def step(signals: Signals, state: State, values: Values) -> tuple[Tensor, State]:
    """Weights (..., T): λ_k for the worst task k, 0 for the others."""
    weights = task_weights(values, "weights")
    worst = (weights * signals.losses).argmax(-1, keepdim=True)
    chosen = torch.zeros_like(signals.losses).scatter(-1, worst, 1.0)
    finite = torch.isfinite(signals.losses).all(-1, keepdim=True)
    return or_nan(finite, chosen * weights), state


METHOD = Method(
    name="tchebycheff",
    summary="minimises the largest weighted loss; reaches concave fronts",
    paper=Paper(
        authors="Bowman",
        year=1976,
        title="On the Relationship of the Tchebycheff Norm and the Efficient Frontier "
        "of Multiple-Criteria Objectives",
        venue="Multiple Criteria Decision Making, Springer",
    ),
    needs="losses",
    step=step,
    hyper={"weights": TaskWeights("one preference a task; the paper's λ")},
    heads="weighted",
    deviations="the ideal point is 0 for every task",
)
