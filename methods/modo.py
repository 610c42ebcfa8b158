"""MoDo, double sampling: the weights make one gradient step a minibatch towards MGDA's.

w ← Π(w − γ (G w + ρ w)) with Π the projection onto the simplex and G = J_a J_bᵀ between independent
halves of the minibatch, so that G w is unbiased; then d = Σ w_i g_i on the whole of it.
Chen, Fernando, Ying, Chen, "Three-Way Trade-Off in Multi-Objective Learning", NeurIPS 2023, arXiv
2305.20057; ρ comes from the authors' code, where it is 0.1.
Difference: d is of the two halves together as in that code, where the paper draws a third sample.
As in both, γ applies to gradients as they are: far from length 1, the weights stand still or jump
from task to task, so that γ has to be tuned for each problem.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .arithmetic import times
from .gramian import or_nan, trusted
from .method import Method, Number, Paper, Signals, State, Values, number
from .simplex import nearest_on_simplex


def init(losses: Tensor) -> State:
    """Equal weights."""
    return {"weights": torch.full_like(losses, 1 / losses.shape[-1])}


def step(signals: Signals, state: State, values: Values) -> tuple[Tensor, State]:
    """The weights (..., T) after their own step, non-negative with sum 1."""
    assert signals.independent is not None
    products, finite = trusted(signals.independent)
    weights = state["weights"]
    slope = times(products, weights) + number(values, "rho") * weights
    moved = nearest_on_simplex(weights - number(values, "gamma") * slope)
    return or_nan(finite, moved), {"weights": torch.where(finite, moved, weights)}


METHOD = Method(
    name="modo",
    summary="weights that move towards MGDA's by one unbiased step a minibatch",
    paper=Paper(
        authors="Chen, Fernando, Ying, Chen",
        year=2023,
        title="Three-Way Trade-Off in Multi-Objective Learning: Optimization, Generalization "
        "and Conflict-Avoidance",
        venue="NeurIPS",
        arxiv="2305.20057",
    ),
    needs="gramian",
    step=step,
    init=init,
    hyper={
        "gamma": Number(0.1, "step size of the weights, for gradients as they are", low=0.0),
        "rho": Number(0.0, "pull towards equal weights", low=0.0),
    },
    independent=True,
    deviations="the update is of the two halves that moved the weights, not of a third sample",
)
