"""MGDA: the shortest vector in the convex hull of the tasks' gradients.

w* = argmin over the simplex of wᵀGw; d = Σ w*_i g_i. Either d = 0 and the point is Pareto
stationary, or d·g_i >= ‖d‖² for every task. Tasks with small gradients dominate, which the
normalizations soften.
Désidéri, "Multiple-gradient descent algorithm", C. R. Math. 2012; Sener and Koltun, "Multi-Task
Learning as Multi-Objective Optimization", NeurIPS 2018, arXiv 1810.04650, equation 3.
Differences: the quadratic program is solved to rounding error, where the authors' code stops a
Frank-Wolfe loop early and keeps two-task weights within 0.001 to 0.999. As in their code a
normalization changes the weights only; the weights then apply to the gradients as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .arithmetic import positive
from .gramian import norms, or_nan, trusted
from .method import Choice, Method, Paper, Signals, State, Values, choice
from .quadratic import minimise_nonnegative
from .unsolved import count_from_zero, counted


def step(signals: Signals, state: State, values: Values) -> tuple[Tensor, State]:
    """Weights (..., T), non-negative with sum 1."""
    assert signals.gramian is not None
    scaled, setting = signals.gramian, choice(values, "normalization")
    if setting in ("loss", "loss+"):
        scaled = _divided(scaled, positive(signals.losses))
    if setting in ("l2", "loss+"):
        scaled = _divided(scaled, positive(norms(signals.gramian)))
    clean, finite = trusted(scaled)
    weights, solved = shortest_in_hull(clean)
    return or_nan(finite, weights), counted(state, solved | ~finite)


def _divided(gramian: Tensor, divisors: Tensor) -> Tensor:
    """The Gramian of gradients that are divided by numbers (..., T)."""
    return gramian / divisors.unsqueeze(-1) / divisors.unsqueeze(-2)


def shortest_in_hull(gramian: Tensor) -> tuple[Tensor, Tensor]:
    """argmin over the simplex of wᵀGw, shape (..., T), and the mask (..., 1) of what is solved.

    gramian: (..., T, T) float64, finite. Equal weights where all gradients agree or are zero.
    """
    if gramian.shape[-1] <= 2:
        closed = torch.ones_like(gramian[..., :1, 0], dtype=torch.bool)
        alone = gramian.shape[-1] == 1
        return closed.to(gramian) if alone else _shortest_on_segment(gramian), closed
    # argmin over all w >= 0 of wᵀGw / m + (1 − Σw)² lies on the ray through the answer
    squares = gramian.diagonal(dim1=-2, dim2=-1)
    smallest = torch.where(squares > 0, squares, torch.inf).amin(-1)
    smallest = torch.where(torch.isinf(smallest), 1.0, smallest)
    hessian = gramian / smallest[..., None, None] + 1
    rays, solved = minimise_nonnegative(hessian, torch.ones_like(squares).unsqueeze(-2))
    ray = rays.squeeze(-2)
    return ray / ray.sum(-1, keepdim=True), solved.squeeze(-2)


def _shortest_on_segment(gramian: Tensor) -> Tensor:
    """Two tasks in closed form: each is weighted by what the other has beyond their product."""
    squares = gramian.diagonal(dim1=-2, dim2=-1)
    excess = (squares - gramian[..., :1, 1]).clamp_min(0).flip(-1)
    # equal gradients have no excess, and 0 / 0 is NaN
    return (excess / excess.sum(-1, keepdim=True)).nan_to_num(0.5)


METHOD = Method(
    name="mgda",
    summary="the shortest vector in the convex hull of the gradients",
    paper=Paper(
        authors="Sener, Koltun",
        year=2018,
        title="Multi-Task Learning as Multi-Objective Optimization",
        venue="NeurIPS",
        arxiv="1810.04650",
    ),
    needs="gramian",
    step=step,
    init=count_from_zero,
    hyper={
        "normalization": Choice(
            ("none", "l2", "loss", "loss+"),
            "what gradients are divided by before the weights are sought: nothing, their norm, "
            "their loss, or both",
        )
    },
    deviations="solved to rounding error, without the authors' bounds on two-task weights",
)
