"""How to solve (G w)_i = w_i^(−1/α), w > 0: the equations of bargaining and of fair utilities."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .arithmetic import positive, settled, solver, times
from .gramian import cosines, norms

ITERATIONS = 40
"""15 reach rounding error for α from 1/2 to 2, also with 40 tasks; 30 for α = 10, norms alike."""
POLISH = 8
"""Most steps that follow without the ridge where it shows in the solution."""
LONGEST = 3.0
"""Largest change of a logarithm in one step."""
CONVERGED = 1e-12
"""Largest relative miss of an equation at which a problem is frozen."""
TOLERANCE = 1e-7
"""Largest relative miss of an equation at which a problem counts as solved."""
RIDGE = 1e-10
"""Added to the cosines: a Pareto stationary point has no solution; so its weights stay finite."""


class _Equations(NamedTuple):
    """(C v)_i = exp(target_i) v_i^(−exponent) for cosines C (..., T, T).

    exponent: (..., 1); target: (..., T).
    """

    cosine: Tensor
    exponent: Tensor
    target: Tensor


def fair_weights(gramian: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
    """The solution w > 0, (..., T), of (G w)_i = w_i^(−1/α), and whether it is solved (..., 1).

    gramian: (..., T, T) float64, finite; alpha: (..., 1), positive. A task with a zero gradient
    gets 0. The solution is unique, as it minimises a strictly convex function. In terms of
    v_i = w_i ‖g_i‖ and the cosines C the equations are (C v)_i = ‖g_i‖^(1/α − 1) v_i^(−1/α): for
    α = 1 the norms drop out. Solved by Newton's method on z = C v and on
    log z_i + log v_i / α, whose steps are taken in log v and log z, which keeps both positive and
    lets each fall by decades at once; a fixed number of steps, and a step that would not be finite
    is not taken.
    """
    lengths = norms(gramian)
    identity = torch.eye(gramian.shape[-1], dtype=gramian.dtype, device=gramian.device)
    # a zero gradient gets a dimension of its own, so that its equation has a solution
    absent = torch.diag_embed((lengths == 0).to(gramian))
    exact = cosines(gramian, lengths) + absent
    exponent = 1 / alpha
    target = (exponent - 1) * torch.log(positive(lengths))
    # a common factor of all right-hand sides only scales the solution
    centre = target.mean(-1, keepdim=True)
    target = target - centre
    ridged = _Equations(exact + RIDGE * identity, exponent, target)
    start = torch.exp(target / (1 + exponent))
    scaled, dual = _iterate(ridged, start, start, ITERATIONS)
    exactly = _Equations(exact, exponent, target)
    solved = _is_solved(exactly, scaled)
    if not settled(solved):
        # where a solution exists at all, few steps without the ridge lead on to it
        polished, _ = _iterate(exactly, scaled, dual, POLISH)
        reached = _is_solved(exactly, polished) & ~solved
        scaled, solved = torch.where(reached, polished, scaled), solved | reached
    solution = scaled * torch.exp(centre / (1 + exponent)) / positive(lengths)
    return torch.where(lengths == 0, 0.0, solution), solved


def _is_solved(equations: _Equations, scaled: Tensor) -> Tensor:
    """Whether every equation is met by v up to the tolerance, (..., 1)."""
    left = torch.log(times(equations.cosine, scaled)) + equations.exponent * torch.log(scaled)
    return ((left - equations.target).abs() <= TOLERANCE).all(-1, keepdim=True)


def _iterate(
    equations: _Equations, scaled: Tensor, dual: Tensor, steps: int
) -> tuple[Tensor, Tensor]:
    """So many Newton steps of v and z; a problem that has converged is frozen."""
    for _ in range(steps):
        scaled, dual, moving = _advance(equations, scaled, dual)
        if settled(~moving):
            break
    return scaled, dual


def _advance(equations: _Equations, scaled: Tensor, dual: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One Newton step of log v and log z, and which problems (..., 1) moved."""
    cosine, exponent, target = equations
    missed = times(cosine, scaled) - dual
    imbalance = target - torch.log(dual) - exponent * torch.log(scaled)
    error = torch.maximum(missed.abs() / dual, imbalance.abs()).amax(-1, keepdim=True)
    curvature = exponent * dual / scaled
    change = solver(cosine + torch.diag_embed(curvature))(dual * imbalance - missed) / scaled
    both = torch.stack([scaled, dual], -2)
    changes = torch.stack([change, imbalance - exponent * change], -2)
    reach = (LONGEST / changes.abs().amax((-1, -2), keepdim=True)).clamp_max(1)
    new = both * torch.exp(reach * changes)
    moving = (error > CONVERGED) & torch.isfinite(new).all(-1).all(-1, keepdim=True)
    scaled, dual = torch.where(moving.unsqueeze(-1), new, both).unbind(-2)
    return scaled, dual, moving
