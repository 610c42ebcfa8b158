"""How to compute so that a run's digits depend neither on its neighbours nor on their number.

Library kernels choose an algorithm by the size of the batch or by memory alignment: on a CPU,
matrix times vector, powers and eigenvectors of one run change in the last digit with the batch
around it. An iteration that stops where rounding stops it turns that into different weights.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

ALIGNED = 4
"""Matrices of 4k by 4k float64 numbers start at multiples of 128 bytes in their batch."""

SINGULAR = 1e-12
"""Share of the largest eigenvalue below which an eigenvalue counts as 0 in a pseudo-inverse."""

REGULAR = 1e-3
"""Smallest pivot of a Cholesky factor for which a matrix with unit diagonal counts as regular."""


def times(matrix: Tensor, vector: Tensor) -> Tensor:
    """Matrix (..., A, B) times vector (..., B): (..., A)."""
    return (matrix * vector.unsqueeze(-2)).sum(-1)


def dot(first: Tensor, second: Tensor) -> Tensor:
    """Dot products of vectors (..., B), shape (..., 1)."""
    return (first * second).sum(-1, keepdim=True)


def length(vector: Tensor) -> Tensor:
    """Euclidean lengths of vectors (..., B), shape (..., 1)."""
    return dot(vector, vector).sqrt()


def running_sums(values: Tensor) -> Tensor:
    """Sums (..., A) of the first, the first two, … of the values (..., A).

    On a GPU cumsum may add in another order every time.
    """
    place = torch.arange(values.shape[-1], device=values.device)
    counted = place <= place.unsqueeze(-1)
    return torch.where(counted, values.unsqueeze(-2), 0.0).sum(-1)


def solver(matrix: Tensor) -> Callable[[Tensor], Tensor]:
    """x ↦ matrix⁻¹ x for a symmetric positive definite matrix (..., A, A), by Cholesky.

    Never raises: for a matrix that is not positive definite the answers mean nothing. The matrix is
    scaled to unit diagonal, and padded so that all matrices of a batch have the same alignment.
    """
    size = matrix.diagonal(dim1=-2, dim2=-1).sqrt()
    scaled = matrix / size.unsqueeze(-1) / size.unsqueeze(-2)
    factor, _ = torch.linalg.cholesky_ex(padded(scaled, 1.0))
    extra = factor.shape[-1] - matrix.shape[-1]

    def solve(right: Tensor) -> Tensor:
        full = right / size
        if extra:
            full = torch.nn.functional.pad(full, (0, extra))
        answer = torch.cholesky_solve(full.unsqueeze(-1), factor).squeeze(-1)
        return answer[..., : matrix.shape[-1]] / size

    return solve


def outer_products(first: Tensor, second: Tensor) -> Tensor:
    """first secondᵀ of matrices (..., A, N): (..., A, A).

    Both are padded with zeros so that all matrices of a batch have the same alignment: products of
    some processors round differently where it differs.
    """
    size = first.shape[-2]
    grown = (0, -first.shape[-1] % ALIGNED, 0, -size % ALIGNED)
    left, right = (torch.nn.functional.pad(matrix, grown) for matrix in (first, second))
    return (left @ right.mT)[..., :size, :size]


def padded(matrix: Tensor, diagonal: float) -> Tensor:
    """The matrix (..., A, A), grown to the next multiple of 4 by this number on its diagonal."""
    extra = -matrix.shape[-1] % ALIGNED
    if extra == 0:
        return matrix
    size = matrix.shape[-1] + extra
    identity = torch.eye(size, dtype=matrix.dtype, device=matrix.device)
    full = (diagonal * identity).expand(*matrix.shape[:-2], size, size).clone()
    full[..., :-extra, :-extra] = matrix
    return full


def eigen(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Ascending eigenvalues (..., A) and the eigenvectors of a finite semidefinite matrix.

    Values below the rounding error of the largest, and all of a zero matrix, are returned as 0.
    """
    size = positive(matrix.diagonal(dim1=-2, dim2=-1).sum(-1))
    # the padding's eigenvalues are -1, so they come first and can be cut off
    full = padded(matrix / size[..., None, None], -1.0)
    extra = full.shape[-1] - matrix.shape[-1]
    values, vectors = torch.linalg.eigh(full)
    if extra:
        values, vectors = values[..., extra:], vectors[..., :-extra, extra:]
    rounding = values[..., -1:] * (matrix.shape[-1] * torch.finfo(values.dtype).eps)
    return values.mul(values > rounding) * size.unsqueeze(-1), vectors


def pseudo_solve(matrix: Tensor, right: Tensor) -> Tensor:
    """The least-norm least-squares solution x (..., A) of matrix x = right; see `eigen`.

    The matrix has a diagonal of ones, or zeros for rows that are zero. Where it is far from
    singular its inverse serves, which is cheaper.
    """
    tasks = right.shape[-1]
    factor, _ = torch.linalg.cholesky_ex(padded(matrix, 1.0))
    regular = factor.diagonal(dim1=-2, dim2=-1).amin(-1, keepdim=True) > REGULAR
    extra = factor.shape[-1] - tasks
    full = torch.nn.functional.pad(right, (0, extra)) if extra else right
    answer = torch.cholesky_solve(full.unsqueeze(-1), factor).squeeze(-1)[..., :tasks]
    if settled(regular):
        return answer
    return torch.where(regular, answer, _spectral_solve(matrix, right))


def _spectral_solve(matrix: Tensor, right: Tensor) -> Tensor:
    values, vectors = eigen(matrix)
    inverse = torch.where(values > SINGULAR * values[..., -1:], 1 / positive(values), 0.0)
    return times(vectors, inverse * times(vectors.mT, right))


def settled(done: Tensor) -> bool:
    """Whether an iteration may stop because every problem of the batch is done.

    It is asked of a CPU only: no other device may wait for a value. A problem that is done must
    stay as it is, so that its digits do not depend on how long its neighbours take.
    """
    return done.is_cpu and bool(done.all())


def power(base: Tensor, exponent: Tensor) -> Tensor:
    """base ** exponent for a non-negative base; 0 ** 0 is 1."""
    return torch.exp(torch.special.xlogy(exponent, base))


def positive(values: Tensor) -> Tensor:
    """The values with 1 in place of 0: divisors for quantities that are 0 wherever these are."""
    return values + values.logical_not()
