"""FairGrad: the update with the largest α-fair utility of the tasks' progress.

d maximises Σ (g_i·d)^(1−α) / (1−α) on a ball; d = Jᵀw with w > 0 and (G w)_i = w_i^(−1/α).
α = 1 is Nash-MTL; α → 0 is the sum of the gradients, α → ∞ serves the worst-served task.
Ban and Ji, "Fair Resource Allocation in Multi-Task Learning", ICML 2024, arXiv 2402.15638.
Differences: solved by Newton's method, to rounding error for norms within a few decades, where the
authors minimise squared residuals; w_i ‖g_i‖ stays bounded at Pareto stationary points.
"""

from __future__ import annotations

from torch import Tensor

from .bargaining import fair_weights
from .gramian import or_nan, trusted
from .method import Method, Number, Paper, Signals, State, Values, number
from .unsolved import count_from_zero, counted


def step(signals: Signals, state: State, values: Values) -> tuple[Tensor, State]:
    """Weights (..., T), positive; 0 for a task with a zero gradient."""
    assert signals.gramian is not None
    clean, finite = trusted(signals.gramian)
    weights, solved = fair_weights(clean, number(values, "alpha"))
    return or_nan(finite, weights), counted(state, solved | ~finite)


METHOD = Method(
    name="fairgrad",
    summary="the update with the largest alpha-fair utility of the tasks' progress",
    paper=Paper(
        authors="Ban, Ji",
        year=2024,
        title="Fair Resource Allocation in Multi-Task Learning",
        venue="ICML",
        arxiv="2402.15638",
    ),
    needs="gramian",
    step=step,
    init=count_from_zero,
    hyper={"alpha": Number(2.0, "fairness: larger serves the worst-served more", 0.5, 10.0)},
    deviations="solved by Newton's method, where the authors minimise squared residuals",
)
