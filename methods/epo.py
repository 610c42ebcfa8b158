"""EPO: descends to the Pareto optimum at which r_i L_i is the same for every task.

With shares l̂ = r ⊙ L / Σ r_i L_i and their non-uniformity μ = Σ l̂_i log(T l̂_i), the pull
a = r ⊙ (log(T l̂) − μ) makes the shares equal. The weights α on the simplex solve a linear program
over the Gramian C. While μ > eps: max αᵀC a, and no task with (C a)_i <= 0 falls slower than the
pull lets it, while the task with the largest r_i L_i falls. Else all fall: max Σ (C α)_i, C α >= 0.
Mahapatra and Rajan, "Multi-Task Learning with User Preferences: Gradient Descent with Controlled
Ascent in Pareto Optimization", ICML 2020, extended in arXiv 2108.00597; the two programs are those
of the authors' code.
Differences: solved by an interior-point method, so among equally good weights it takes a middle;
weights sum to 1, where the authors' code multiplies by T; a share below 1e-12 counts as 1e-12, a
loss below 0 as 0. As in their code, the preference serves as weights where a program is not solved.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .arithmetic import dot, positive, times
from .gramian import norms, or_nan, trusted
from .linear_program import minimise_linear
from .method import (
    Method,
    Number,
    Paper,
    Signals,
    State,
    TaskWeights,
    Values,
    number,
    task_weights,
)
from .unsolved import count_from_zero, counted

SMALLEST_SHARE = 1e-12
"""The logarithm of a share must be finite; a loss of 0 has a share of 0."""


def step(signals: Signals, state: State, values: Values) -> tuple[Tensor, State]:
    """Weights (..., T), non-negative with sum 1."""
    assert signals.gramian is not None
    clean, finite = trusted(signals.gramian)
    finite = finite & torch.isfinite(signals.losses).all(-1, keepdim=True)
    preference = task_weights(values, "weights")
    losses = torch.where(finite, signals.losses, 1.0).clamp_min(0)
    pull, uneven = balancing_pull(losses, preference)
    weights, solved = _best_weights(
        clean, preference * losses, pull, uneven > number(values, "eps")
    )
    weights = torch.where(solved, weights, preference / preference.sum(-1, keepdim=True))
    return or_nan(finite, weights), counted(state, solved | ~finite)


def balancing_pull(losses: Tensor, preference: Tensor) -> tuple[Tensor, Tensor]:
    """The pull a (..., T) towards equal r_i L_i, and the non-uniformity μ (..., 1) of these.

    Losses are non-negative. Following Σ a_i g_i lowers μ; Σ a_i L_i = 0.
    """
    product = preference * losses
    total = product.sum(-1, keepdim=True)
    tasks = losses.shape[-1]
    share = torch.where(total > 0, product / positive(total), 1 / tasks)
    excess = torch.log(tasks * share.clamp_min(SMALLEST_SHARE))
    uneven = dot(share, excess)
    return preference * (excess - uneven), uneven


def _best_weights(
    gramian: Tensor, product: Tensor, pull: Tensor, balances: Tensor
) -> tuple[Tensor, Tensor]:
    """The solution α (..., T) of the program that a run is at, and whether it was found (..., 1).

    product: (..., T) r_i L_i; balances: (..., 1) whether the shares come first. Both programs have
    the same form: T rows C α >= floor and one row (C a)·α >= level, each with a slack, and Σ α = 1.
    """
    gains = times(gramian, pull)
    eases = (gains > 0).any(-1, keepdim=True) & balances
    leads = product >= product.amax(-1, keepdim=True)
    floor = torch.where(eases & ~leads, gains, 0.0)
    # 0 >= 0 is no condition, but would leave the solver no interior
    free = (eases & ~leads & (gains > 0)) | (norms(gramian) == 0)
    best = gains.amax(-1, keepdim=True)
    rows = torch.cat([gramian, gains.unsqueeze(-2)], -2)
    floor = torch.cat([floor, best.clamp_max(0)], -1)
    free = torch.cat([free, balances | (gains == 0).all(-1, keepdim=True)], -1)
    objective = torch.where(balances, gains, gramian.sum(-1))
    return _on_simplex(objective, rows, floor, free)


def _on_simplex(
    objective: Tensor, rows: Tensor, floor: Tensor, free: Tensor
) -> tuple[Tensor, Tensor]:
    """argmax over the simplex of objective·α with rows α >= floor, but for the rows that are free.

    A free row becomes 0·α − s = −1, which always holds.
    """
    tasks, count = objective.shape[-1], floor.shape[-1]
    kept = torch.where(free.unsqueeze(-1), 0.0, rows)
    slack = torch.eye(count, dtype=rows.dtype, device=rows.device).expand(*free.shape, count)
    total = torch.cat([torch.ones_like(objective), torch.zeros_like(floor)], -1)
    matrix = torch.cat([torch.cat([kept, -slack], -1), total.unsqueeze(-2)], -2)
    right = torch.cat([torch.where(free, -1.0, floor), torch.ones_like(floor[..., :1])], -1)
    cost = torch.cat([-objective, torch.zeros_like(floor)], -1)
    solution, solved = minimise_linear(cost, matrix, right)
    weights = solution[..., :tasks]
    return weights / weights.sum(-1, keepdim=True), solved


METHOD = Method(
    name="epo",
    summary="descends to the Pareto optimum where the weighted losses are equal",
    paper=Paper(
        authors="Mahapatra, Rajan",
        year=2020,
        title="Multi-Task Learning with User Preferences: Gradient Descent with Controlled Ascent "
        "in Pareto Optimization",
        venue="ICML",
        arxiv="2108.00597",
    ),
    needs="gramian",
    step=step,
    init=count_from_zero,
    hyper={
        "weights": TaskWeights("the preference r: the run ends where r_i L_i are equal"),
        "eps": Number(1e-4, "non-uniformity above which balancing comes before descent", low=0.0),
    },
    deviations="weights sum to 1, not T; an interior-point method takes a middle of equal optima; "
    "the preference serves as weights, and is counted, where a linear program is not solved",
)
