"""Aligned-MTL: makes the gradients orthogonal and equally long before they are summed.

With G = V Λ Vᵀ and λ the smallest non-zero eigenvalue, B = √λ V Λ^{−1/2} Vᵀ; w = B p for
preferences p. All singular values of B J equal √λ: the gradients' system is as stable as can be.
Senushkin, Patakin, Kuznetsov, Konushin, "Independent Component Alignment for Multi-Task Learning",
CVPR 2023, arXiv 2305.19000, Algorithm 1, scale "min".
Difference: preferences default to 1/T, which is the mean; the authors' code sums (p = 1).
"""

from __future__ import annotations

import torch
from torch import Tensor

from .arithmetic import eigen, positive, times
from .gramian import or_nan, trusted
from .method import Method, Paper, Signals, State, TaskWeights, Values, task_weights

ROUNDING = 2 * torch.finfo(torch.float64).eps
"""Share of the first eigenvalue below which the second of two counts as 0, as in `eigen`."""


def step(signals: Signals, state: State, values: Values) -> tuple[Tensor, State]:
    """Weights (..., T), of either sign."""
    assert signals.gramian is not None
    clean, finite = trusted(signals.gramian)
    preference = task_weights(values, "weights")
    if clean.shape[-1] == 2:
        return or_nan(finite, _for_two(clean, preference)), state
    squares, vectors = eigen(clean)
    absent = squares.logical_not()
    smallest = squares.masked_fill(absent, torch.inf).amin(-1, keepdim=True)
    shrink = (smallest / (squares + absent)).sqrt().masked_fill(absent, 0.0)
    return or_nan(finite, times(vectors, shrink * times(vectors.mT, preference))), state


def _for_two(gramian: Tensor, preference: Tensor) -> Tensor:
    """B p for two tasks: p, whose part along the first eigenvector shrinks by √(λ_2 / λ_1).

    That part is ½ (p + D p / ‖D‖) with D = G − ½ tr G. Everything here is twice what it is called.
    """
    squares, cross = gramian.diagonal(dim1=-2, dim2=-1), 2 * gramian[..., :1, 1]
    others = squares.flip(-1)
    # along the two tasks D is their difference and its negative
    lean, total = squares - others, squares + others
    spread = torch.hypot(lean, cross)
    least = (total - spread) / positive(total + spread)
    # no gradients at all get no weight
    given = preference * total.sign()
    turned = (lean * given + cross * given.flip(-1)) / positive(spread)
    ahead, behind = given + turned, given - turned
    # an eigenvalue that is no more than rounding error does not count, nor does what lies along it
    whole = torch.where(least > ROUNDING, least.sqrt() * ahead + behind, ahead)
    return whole / 2


METHOD = Method(
    name="aligned_mtl",
    summary="makes the gradients orthogonal and equally long, then sums them",
    paper=Paper(
        authors="Senushkin, Patakin, Kuznetsov, Konushin",
        year=2023,
        title="Independent Component Alignment for Multi-Task Learning",
        venue="CVPR",
        arxiv="2305.19000",
    ),
    needs="gramian",
    step=step,
    hyper={"weights": TaskWeights("one preference a task")},
    deviations="preferences default to 1/T, a mean; the authors' code sums",
)
