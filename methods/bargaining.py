"""How to solve (G w)_i = w_i^(−1/α), w > 0: the equations of bargaining and of fair utilities."""

from __future__ import annotations

import torch
from torch import Tensor

from .arithmetic import positive, solver, times
from .gramian import cosines, norms
from .quadratic import boundary, frozen_unless

ITERATIONS = 40
"""15 reach rounding error for α from 1/2 to 2, also with 40 tasks; 30 for α = 5, norms alike."""
RIDGE = 1e-10
"""Added to the cosines: a Pareto stationary point has no solution; so its weights stay finite."""


def fair_weights(gramian: Tensor, alpha: Tensor) -> Tensor:
    """The solution w > 0, (..., T), of (G w)_i = w_i^(−1/α); 0 for a task with a zero gradient.

    gramian: (..., T, T) float64, finite; alpha: (..., 1), positive. It is unique, as it minimises a
    strictly convex function. In terms of v_i = w_i ‖g_i‖ and the cosines C the equations are
    (C v)_i = ‖g_i‖^(1/α − 1) v_i^(−1/α): for α = 1 the norms drop out. Solved by a primal-dual
    Newton method on z = C v and log z_i + log v_i / α, which keeps both positive; a fixed number
    of steps, and a step that would not be finite is not taken.
    """
    lengths = norms(gramian)
    identity = torch.eye(gramian.shape[-1], dtype=gramian.dtype, device=gramian.device)
    # a zero gradient gets a dimension of its own, so that its equation has a solution
    absent = torch.diag_embed((lengths == 0).to(gramian))
    cosine = cosines(gramian) + absent + RIDGE * identity
    exponent = 1 / alpha
    target = (exponent - 1) * torch.log(positive(lengths))
    # a common factor of all right-hand sides only scales the solution
    centre = target.mean(-1, keepdim=True)
    target = target - centre
    scaled = dual = torch.exp(target / (1 + exponent))
    for _ in range(ITERATIONS):
        scaled, dual = _advance(cosine, target, exponent, scaled, dual)
    solution = scaled * torch.exp(centre / (1 + exponent)) / positive(lengths)
    return torch.where(lengths == 0, 0.0, solution)


def _advance(
    cosine: Tensor, target: Tensor, exponent: Tensor, scaled: Tensor, dual: Tensor
) -> tuple[Tensor, Tensor]:
    """One Newton step of v and z, shortened so that both stay positive."""
    missed = times(cosine, scaled) - dual
    imbalance = target - torch.log(dual) - exponent * torch.log(scaled)
    curvature = exponent * dual / scaled
    change = solver(cosine + torch.diag_embed(curvature))(dual * imbalance - missed)
    dual_change = dual * imbalance - curvature * change
    reach = 0.95 * torch.minimum(boundary(scaled, change), boundary(dual, dual_change))
    moving = torch.ones_like(exponent, dtype=torch.bool)
    scaled, dual = frozen_unless(moving, (scaled, dual), reach.clamp_max(1), (change, dual_change))
    return scaled, dual
