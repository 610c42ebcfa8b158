"""How to minimise convex quadratics over non-negative vectors, many small ones at once."""

from __future__ import annotations

import torch
from torch import Tensor

from .arithmetic import dot, positive, solver, times
from .gramian import norms

ITERATIONS = 25
"""Random problems of 3 to 40 tasks need at most 15 for rounding error; degenerate ones more."""
CONVERGED = 1e-18
"""Mean complementarity product at which a problem is frozen; its entries are of order 1."""
RIDGE = 1e-14
"""Added to the unit diagonal of the Newton matrix only: it moves no solution."""


def minimise_nonnegative(hessian: Tensor, slope: Tensor) -> Tensor:
    """argmin over x >= 0 of ½ xᵀHx − bᵀx, shape (..., T) float64.

    hessian: (..., T, T) positive semidefinite, finite; slope b: (..., T); a minimum must exist.
    A predictor-corrector interior-point method (Mehrotra, SIAM J. Optim. 1992) of a fixed number
    of steps. A problem that has converged is frozen: its answer never depends on its neighbours.
    """
    scale = positive(norms(hessian))
    hessian = hessian / scale.unsqueeze(-1) / scale.unsqueeze(-2)
    slope = slope / scale
    size = positive(slope.abs().amax(-1, keepdim=True))
    point = torch.ones_like(slope)
    slack = torch.ones_like(slope)
    for _ in range(ITERATIONS):
        point, slack = _advance(hessian, slope / size, point, slack)
    return point * size / scale


def shortest_above(gramian: Tensor, floor: Tensor) -> Tensor:
    """argmin over v >= floor of vᵀGv, shape (..., T): a projection onto the dual cone of the rows.

    gramian: (..., T, T) float64, finite; floor: (..., T), non-negative. Σ v_i g_i is the vector
    nearest to Σ floor_i g_i that conflicts with no g_i.
    """
    if gramian.shape[-1] == 2:
        # one of the two at most has to give way to the other's conflict
        squares = positive(gramian.diagonal(dim1=-2, dim2=-1))
        return torch.maximum(floor, -gramian[..., :1, 1] * floor.flip(-1) / squares)
    return floor + minimise_nonnegative(gramian, -times(gramian, floor))


def boundary(values: Tensor, change: Tensor) -> Tensor:
    """The largest step that keeps `values + step * change` non-negative, (..., 1), or inf."""
    unlimited = torch.full_like(values, torch.inf)
    return torch.where(change < 0, -values / change, unlimited).amin(-1, keepdim=True)


def _advance(hessian: Tensor, slope: Tensor, point: Tensor, slack: Tensor) -> tuple[Tensor, Tensor]:
    """One predictor-corrector step of x and of its multipliers s; both stay positive."""
    residual = times(hessian, point) - slope - slack
    gap = dot(point, slack) / point.shape[-1]
    newton = hessian + torch.diag_embed(slack / point + RIDGE)
    solve = solver(newton)

    def direction(target: Tensor) -> tuple[Tensor, Tensor]:
        change = solve(target / point - residual)
        return change, (target - slack * change) / point

    def longest(change: Tensor, slack_change: Tensor) -> Tensor:
        return torch.minimum(boundary(point, change), boundary(slack, slack_change))

    change, slack_change = direction(-point * slack)
    reach = longest(change, slack_change).clamp_max(1)
    predicted = dot(point + reach * change, slack + reach * slack_change) / point.shape[-1]
    ratio = predicted / gap
    centring = gap * ratio * ratio * ratio
    change, slack_change = direction(centring - point * slack - change * slack_change)
    reach = (0.995 * longest(change, slack_change)).clamp_max(1)
    point, slack = frozen_unless(gap > CONVERGED, (point, slack), reach, (change, slack_change))
    return point, slack


def frozen_unless(
    moving: Tensor, old: tuple[Tensor, ...], reach: Tensor, changes: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """`old + reach * changes` for every problem that still moves and stays finite, else `old`.

    moving, reach: (..., 1).
    """
    new = [value + reach * change for value, change in zip(old, changes, strict=True)]
    for value in new:
        moving = moving & torch.isfinite(value).all(-1, keepdim=True)
    return tuple(torch.where(moving, value, kept) for value, kept in zip(new, old, strict=True))
