"""GradOPS: keeps of conflicting gradients what is orthogonal to all others; a reconstruction.

g_i' = g_i, or its component orthogonal to span{g_j, j ≠ i} if it conflicts with any g_j. A task's
progress is R_i = (Σ_j g_j')·g_i / ‖g_i‖^p over its mean; d = Σ w_i g_i', w_i = R_i^α / mean R^α.
α > 0 favours tasks that progress most, α < 0 those that progress least; no setting conflicts.
Zhu, Zhao, Wu, Wang, Deng, Xu, Zheng, "Gradient Deconfliction via Orthogonal Projections onto
Subspaces", WSDM 2025, arXiv 2503.03438.
Reconstruction from the abstract: that gradients without conflict stay as they are, and the form of
R_i and of w_i, could not be checked against the paper. The published best α is −3.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .arithmetic import dot, padded, positive, power, times
from .gramian import cosines, norms, or_nan, trusted
from .method import Choice, Method, Number, Paper, Signals, State, Values, choice, number

CONFLICT = -1e-8
"""Cosines above this are rounding, not conflict; the projection would start with a jump."""
RIDGE = 1e-10
"""Added to the cosines before they are inverted, as dependent gradients have no inverse."""
SMALLEST_PROGRESS = 1e-6


def step(signals: Signals, state: State, values: Values) -> tuple[Tensor, State]:
    """Weights (..., T), of either sign."""
    assert signals.gramian is not None
    clean, finite = trusted(signals.gramian)
    lengths = norms(clean)
    kept = _orthogonal_parts(cosines(clean, lengths), lengths)
    progress = times(clean, kept.sum(-2)) / positive(lengths)
    if choice(values, "p") == "2":
        progress = progress / positive(lengths)
    # a task without a gradient can make no progress, and must not be favoured for that
    present = (lengths > 0).to(lengths)
    count = positive(present.sum(-1, keepdim=True))
    mean = dot(progress, present) / count
    relative = (progress / positive(mean)).clamp_min(SMALLEST_PROGRESS)
    favour = power(relative, number(values, "alpha")) * present
    favour = favour * count / positive(favour.sum(-1, keepdim=True))
    return or_nan(finite, (favour.unsqueeze(-1) * kept).sum(-2)), state


def _orthogonal_parts(cosine: Tensor, lengths: Tensor) -> Tensor:
    """Coefficients (..., T, T) of g_i' over the gradients, row i for task i.

    The part of ĝ_i orthogonal to the others is Σ_j M_ij ĝ_j / M_ii, M the inverse of the cosines.
    """
    identity = torch.eye(cosine.shape[-1], dtype=cosine.dtype, device=cosine.device)
    # a zero gradient gets a dimension of its own, so that it takes no part
    absent = torch.diag_embed((lengths == 0).to(cosine))
    factor, _ = torch.linalg.cholesky_ex(padded(cosine + absent + RIDGE * identity, 1.0))
    tasks = cosine.shape[-1]
    inverse = torch.cholesky_inverse(factor)[..., :tasks, :tasks]
    unit = inverse / inverse.diagonal(dim1=-2, dim2=-1).unsqueeze(-1)
    scaled = unit * lengths.unsqueeze(-1) / positive(lengths).unsqueeze(-2)
    conflicts = (cosine < CONFLICT).any(-1, keepdim=True)
    return torch.where(conflicts, scaled, identity)


METHOD = Method(
    name="gradops",
    summary="replaces conflicting gradients by what is orthogonal to all others (reconstruction)",
    paper=Paper(
        authors="Zhu, Zhao, Wu, Wang, Deng, Xu, Zheng",
        year=2025,
        title="Gradient Deconfliction via Orthogonal Projections onto Subspaces "
        "For Multi-task Learning",
        venue="WSDM",
        arxiv="2503.03438",
    ),
    needs="gramian",
    step=step,
    hyper={
        "alpha": Number(0.0, "favours tasks that progress most (> 0) or least (< 0)", -10.0, 10.0),
        "p": Choice(("2", "1"), "power of the gradient's norm that progress is divided by"),
    },
    deviations="reconstruction: which gradients are projected and the trade-off's exact form "
    "could not be checked against the paper",
)
