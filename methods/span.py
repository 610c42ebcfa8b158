"""Which combination of the tasks' gradients is nearest to a direction."""

from __future__ import annotations

import torch
from torch import Tensor

from .arithmetic import positive
from .gramian import cosines, gramian_of, norms, or_nan, trusted

CUTOFF = 1e-6
"""Eigenvalues of the cosines below it are rounding: gradients that point the same way share."""


def span_weights(direction: Tensor, jacobian: Tensor) -> Tensor:
    """The weights (..., T) float64 with the smallest ‖Σ w_i g_i - d‖: least squares.

    direction: (..., P). jacobian: (..., T, P). Where several weights are as good, those with the
    smallest Σ (w_i ‖g_i‖)²; 0 for a zero gradient. A weight may be negative. NaN where anything is
    NaN or inf.
    """
    # one product of all, so that its digits are those of a Gramian
    both = gramian_of(torch.cat([jacobian, direction.to(jacobian.dtype).unsqueeze(-2)], dim=-2))
    known, finite = trusted(both)
    gramian, along = known[..., :-1, :-1], known[..., :-1, -1]
    lengths = norms(gramian)
    values, vectors = torch.linalg.eigh(cosines(gramian, lengths))
    inverse = torch.where(values > CUTOFF, 1 / values.clamp_min(CUTOFF), 0.0)
    reached = vectors.mT @ (along / positive(lengths)).unsqueeze(-1)
    weights = (vectors @ (inverse.unsqueeze(-1) * reached)).squeeze(-1) / positive(lengths)
    return or_nan(finite, torch.where(lengths > 0, weights, 0.0))
