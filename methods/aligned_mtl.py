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


def step(signals: Signals, state: State, values: Values) -> tuple[Tensor, State]:
    """Weights (..., T), of either sign."""
    assert signals.gramian is not None
    clean, finite = trusted(signals.gramian)
    squares, vectors = eigen(clean)
    smallest = torch.where(squares > 0, squares, torch.inf).amin(-1, keepdim=True)
    shrink = torch.where(squares > 0, (smallest / positive(squares)).sqrt(), 0.0)
    preference = task_weights(values, "weights")
    return or_nan(finite, times(vectors, shrink * times(vectors.mT, preference))), state


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
