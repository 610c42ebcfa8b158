"""What the tasks' Gramian tells: gradient norms, cosines, and whether it can be trusted."""

from __future__ import annotations

import torch
from torch import Tensor

from .arithmetic import positive, settled


def gramian_of(jacobian: Tensor) -> Tensor:
    """Dot products of the tasks' gradients, (..., T, T) float64.

    jacobian: (..., T, P), any floating dtype. The products are formed in float64, because what a
    method reads from them are differences of nearly equal numbers.
    """
    wide = jacobian.double()
    return wide @ wide.mT


def norms(gramian: Tensor) -> Tensor:
    """Norms of the tasks' gradients, (..., T); exactly 0 for a zero gradient."""
    return gramian.diagonal(dim1=-2, dim2=-1).clamp_min(0).sqrt()


def cosines(gramian: Tensor) -> Tensor:
    """Cosines between the tasks' gradients, (..., T, T); 0 in the rows of a zero gradient."""
    lengths = positive(norms(gramian))
    # one division after the other: the product of two tiny norms would underflow
    return gramian / lengths.unsqueeze(-1) / lengths.unsqueeze(-2)


def trusted(gramian: Tensor) -> tuple[Tensor, Tensor]:
    """The Gramian, an identity in place of any that holds NaN or inf, and the mask (..., 1).

    Decompositions raise on NaN for the whole batch; one diverged run must not stop its neighbours.
    """
    # 0 times NaN or inf is NaN
    finite = (gramian * 0).sum((-1, -2), keepdim=True) == 0
    if settled(finite):
        return gramian, finite.squeeze(-1)
    identity = torch.eye(gramian.shape[-1], dtype=gramian.dtype, device=gramian.device)
    return torch.where(finite, gramian, identity), finite.squeeze(-1)


def or_nan(finite: Tensor, weights: Tensor) -> Tensor:
    """The weights (..., T), NaN for every run whose Gramian was not finite (mask (..., 1))."""
    return torch.where(finite, weights, torch.nan)
