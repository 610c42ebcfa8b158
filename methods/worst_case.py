"""How to find the unit vector that is best for the worst-served task."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .arithmetic import dot, padded, positive, settled, times
from .cone import interior_multipliers
from .pivoting import first_rule, next_rule

PIVOTS = 12
"""Random problems of 3 to 40 tasks need at most 8; the interior-point method takes the others."""
ROUNDING = 1e-11
"""Largest miss of the optimality conditions that pivoting may leave."""
TOLERANCE = 1e-7
"""Largest miss of the optimality conditions at which a problem counts as solved."""


class _Problem(NamedTuple):
    """Cosines (..., T, T), offset (..., T) and price (..., T); see `worst_case_multipliers`."""

    cosines: Tensor
    offset: Tensor
    price: Tensor


def worst_case_multipliers(cosines: Tensor, offset: Tensor, price: Tensor) -> tuple[Tensor, Tensor]:
    """Multipliers w >= 0, (..., T), of: maximise t subject to ĝ_i·u + b_i >= a_i t and ‖u‖ <= 1.

    cosines: (..., T, T) dot products of the unit gradients ĝ_i, finite; offset b: (..., T);
    price a: (..., T), positive. The best u is Σ w_i ĝ_i, of length 1 but at a Pareto stationary
    point. The mask (..., 1) tells which problems are solved, see `_missed`.
    Block principal pivoting ends at the exact solution or not at all; an interior-point method
    serves what it leaves.
    """
    problem = _Problem(cosines, offset, price)
    point, solved = _pivoted(problem)
    if not settled(solved):
        inner = _normalised(cosines, interior_multipliers(*problem))
        point = torch.where(solved, point, inner)
        solved = solved | (_missed(problem, point) <= TOLERANCE)
    return point, solved


def _normalised(cosines: Tensor, point: Tensor) -> Tensor:
    """Multipliers whose Σ w_i ĝ_i has length 1; as they are where it has none."""
    return point / positive(dot(point, times(cosines, point)).clamp_min(0).sqrt())


def _missed(problem: _Problem, point: Tensor) -> Tensor:
    """Largest |min(w_i, s_i)| with s_i = ĝ_i·u + b_i − a_i t, (..., 1), as a share of 1 + max |b|.

    It is 0 at the optimum only, for u = Σ w_i ĝ_i of length 1 and the best t. That is the mean of
    what the tasks with multipliers reach, or the least that any task reaches; where norms spread
    over many decades, rounding spoils the one or the other.
    """
    reached = times(problem.cosines, point) + problem.offset
    mean = dot(point, reached) / positive(dot(point, problem.price))
    least = (reached / problem.price).amin(-1, keepdim=True)
    missed = [
        torch.minimum(point, reached - problem.price * level).abs().amax(-1, keepdim=True)
        for level in (mean, least)
    ]
    return torch.minimum(*missed) / (1 + problem.offset.abs().amax(-1, keepdim=True))


def _pivoted(problem: _Problem) -> tuple[Tensor, Tensor]:
    """The exact solution, where guessing whose multipliers are positive ends with a right guess.

    For a guess F both conditions, ĝ_i·u + b_i = a_i t for i in F and ‖u‖ = 1, make w linear in t
    and t the larger root of a quadratic equation.
    """
    cosines = padded(problem.cosines, 1.0)
    extra, tasks = cosines.shape[-1] - problem.price.shape[-1], problem.price.shape[-1]
    identity = torch.eye(cosines.shape[-1], dtype=cosines.dtype, device=cosines.device)
    sides = torch.stack([problem.price, problem.offset], -1)
    rounding = -ROUNDING * (1 + problem.offset.abs().amax(-1, keepdim=True))
    free = torch.ones_like(problem.price, dtype=torch.bool)
    rule = first_rule(problem.price)
    for _ in range(PIVOTS):
        chosen = torch.nn.functional.pad(free, (0, extra)) if extra else free
        pairs = chosen.unsqueeze(-1) & chosen.unsqueeze(-2)
        factor, _ = torch.linalg.cholesky_ex(torch.where(pairs, cosines, identity))
        right = torch.where(free.unsqueeze(-1), sides, 0.0)
        full = torch.nn.functional.pad(right, (0, 0, 0, extra)) if extra else right
        slope, shift = torch.cholesky_solve(full, factor)[..., :tasks, :].unbind(-1)
        square, mixed = dot(problem.price, slope), dot(problem.offset, slope)
        rest = dot(problem.offset, shift) - 1
        level = (mixed + (mixed * mixed - square * rest).clamp_min(0).sqrt()) / positive(square)
        point = level * slope - shift
        slack = times(problem.cosines, point) + problem.offset - problem.price * level
        wrong = torch.where(free, point, slack) < rounding
        if settled(~wrong):
            break
        free, rule = next_rule(free, wrong, rule)
    point = _normalised(problem.cosines, point.clamp_min(0))
    return point, _missed(problem, point) <= ROUNDING
