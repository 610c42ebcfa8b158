"""Nash-MTL: the tasks bargain over the update, and the Nash bargaining solution wins.

d maximises Σ log(g_i·d) on a ball; d = Jᵀα with α > 0 and (G α)_i = 1 / α_i, so g_i·d = 1 / α_i > 0
and ‖d‖² = T. Rescaling any loss leaves d as it is.
Navon, Shamsian, Achituve, Maron, Kawaguchi, Chechik, Fetaya, "Multi-Task Learning as a Bargaining
Game", ICML 2022, arXiv 2202.01017, Claim 3.1.
Differences: solved to rounding error by Newton's method at every step, where the authors iterate a
convex-concave procedure from the last step's α; at Pareto stationary points, where there is no
solution, α_i ‖g_i‖ stays below 1e5; the authors' clipping of the update to norm 1 is left to the
training loop.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .arithmetic import positive
from .bargaining import RIDGE, fair_weights
from .gramian import cosines, norms, or_nan, trusted
from .method import Method, Paper, Signals, State, Values
from .unsolved import count_from_zero, counted


def step(signals: Signals, state: State, values: Values) -> tuple[Tensor, State]:
    """Weights (..., T), positive; 0 for a task with a zero gradient."""
    assert signals.gramian is not None
    clean, finite = trusted(signals.gramian)
    if clean.shape[-1] <= 2:
        return or_nan(finite, _for_one_or_two(clean)), state
    weights, solved = fair_weights(clean, torch.ones_like(clean[..., :1, 0]))
    return or_nan(finite, weights), counted(state, solved | ~finite)


def _for_one_or_two(gramian: Tensor) -> Tensor:
    """The closed form: α_i ‖g_i‖ = 1 / √(1 + cosine) for both, or 1 for a task alone."""
    lengths = norms(gramian)
    cosine = cosines(gramian, lengths)[..., :1, 1:].sum(-1)
    size = (1 + cosine + RIDGE).clamp_min(RIDGE).sqrt()
    return torch.where(lengths == 0, 0.0, 1 / (size * positive(lengths)))


METHOD = Method(
    name="nash_mtl",
    summary="the Nash bargaining solution between the tasks; blind to the losses' scales",
    paper=Paper(
        authors="Navon, Shamsian, Achituve, Maron, Kawaguchi, Chechik, Fetaya",
        year=2022,
        title="Multi-Task Learning as a Bargaining Game",
        venue="ICML",
        arxiv="2202.01017",
    ),
    needs="gramian",
    step=step,
    init=count_from_zero,
    deviations="solved exactly at every step; without the authors' clipping to norm 1",
)
