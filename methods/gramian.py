"""What the tasks' Gramian tells: gradient norms, cosines, and whether it can be trusted."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .arithmetic import positive, settled

STRETCH, STRETCHES = 1024, 128
"""Coordinates whose products are summed in single precision at once, and at most so many sums."""


def gramian_of(jacobian: Tensor) -> Tensor:
    """Dot products of the tasks' gradients, (..., T, T) float64.

    jacobian: (..., T, P), any floating dtype. What a method reads from the products are
    differences of nearly equal numbers: single precision is used over short stretches only, whose
    sums are added in float64. Half precision is widened first. Squared norms that single precision
    cannot hold come out as 0 or inf.
    """
    return products(jacobian, jacobian)


def products(first: Tensor, second: Tensor) -> Tensor:
    """Dot products of the rows of two Jacobians (..., T, P), (..., T, T) float64; `gramian_of`."""
    if first.dtype == torch.float64:
        return first @ second.mT
    size = first.shape[-1]
    if size <= STRETCH:
        left = first.float()
        return (left @ (left if second is first else second.float()).mT).double()
    stretch = max(STRETCH, -(-size // STRETCHES))
    total = first.new_zeros(*first.shape[:-1], second.shape[-2], dtype=torch.float64)
    for start in range(0, size, stretch):
        left, right = (m[..., start : start + stretch].float() for m in (first, second))
        total += left @ right.mT
    return total


def norms(gramian: Tensor) -> Tensor:
    """Norms of the tasks' gradients, (..., T); exactly 0 for a zero gradient."""
    return gramian.diagonal(dim1=-2, dim2=-1).clamp_min(0).sqrt()


def cosines(gramian: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Cosines between the tasks' gradients, (..., T, T); 0 in the rows of a zero gradient.

    lengths: their norms (..., T), where they are at hand.
    """
    lengths = positive(norms(gramian) if lengths is None else lengths)
    # one division after the other: the product of two tiny norms would underflow
    return gramian / lengths.unsqueeze(-1) / lengths.unsqueeze(-2)


def trusted(gramian: Tensor) -> tuple[Tensor, Tensor]:
    """The Gramian, an identity in place of any that holds NaN or inf, and the mask (..., 1).

    Decompositions raise on NaN for the whole batch; one diverged run must not stop its neighbours.
    """
    if gramian.is_cpu and math.isfinite(float(gramian.sum())):
        return gramian, gramian.new_ones((*gramian.shape[:-2], 1), dtype=torch.bool)
    # 0 times NaN or inf is NaN
    finite = (gramian * 0).sum((-1, -2), keepdim=True) == 0
    if settled(finite):
        return gramian, finite.squeeze(-1)
    identity = torch.eye(gramian.shape[-1], dtype=gramian.dtype, device=gramian.device)
    return torch.where(finite, gramian, identity), finite.squeeze(-1)


def or_nan(finite: Tensor, weights: Tensor) -> Tensor:
    """The weights (..., T), NaN for every run whose Gramian was not finite (mask (..., 1))."""
    return torch.where(finite, weights, torch.nan)
