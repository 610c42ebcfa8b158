"""How to solve small linear programs min c·x, A x = b, x >= 0, many at once."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .arithmetic import dot, outer_products, positive, settled, solver, times
from .quadratic import boundary

ITERATIONS = 60
"""EPO's programs of 2 to 40 tasks take 10 to 20; up to 40 where the constraints leave no interior.
40 gradient norms that spread over 12 decades take 55; over 24 decades they would take 110."""
BALANCING = 20
"""Rounds of scaling: each halves the decades by which the largest entries of rows differ."""
TOLERANCE = 1e-6
"""Largest relative residual and gap of a program that counts as solved. Nearly all reach 1e-10;
those whose constraints hardly leave an interior stop between 1e-8 and this."""
RIDGE = 1e-15
"""Added to the unit diagonal of the normal equations, for rows that depend on each other."""
SMALLEST_START = 0.1
"""The first iterate's distance from the boundary, where the usual formula gives none."""


class _Program(NamedTuple):
    """A (..., M, N), b (..., M), c (..., N), with largest entries near 1."""

    rows: Tensor
    right: Tensor
    cost: Tensor


class _Iterate(NamedTuple):
    """x (..., N), multipliers y (..., M), slack s (..., N): x and s are positive."""

    point: Tensor
    multipliers: Tensor
    slack: Tensor


def minimise_linear(cost: Tensor, rows: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """argmin over x >= 0 with A x = b of c·x, (..., N), and whether it was found, (..., 1).

    cost c: (..., N), rows A: (..., M, N), right b: (..., M), float64 and finite. Where no minimum
    exists the mask is False and x means nothing. Among many minimisers it is one inside their face.
    A primal-dual predictor-corrector method (Mehrotra, SIAM J. Optim. 1992) that may start outside
    the constraints, of a fixed number of steps. A program whose steps no longer improve it stands
    still: its answer never depends on its neighbours.
    """
    row_size, column_size = _balanced(rows)
    scaled = rows * row_size.unsqueeze(-1) * column_size.unsqueeze(-2)
    right, cost = right * row_size, cost * column_size
    right_size = positive(right.abs().amax(-1, keepdim=True))
    cost_size = positive(cost.abs().amax(-1, keepdim=True))
    program = _Program(scaled, right / right_size, cost / cost_size)
    at = _start(program)
    error = _error(program, at)
    for _ in range(ITERATIONS):
        at, error, moved = _advance(program, at, error)
        if settled(~moved):
            break
    return at.point * right_size * column_size, error <= TOLERANCE


def _balanced(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Factors of the rows (..., M) and columns (..., N) that bring all largest entries near 1.

    Ruiz, "A scaling algorithm to equilibrate both rows and columns norms in matrices", 2001.
    """
    row_size, column_size = torch.ones_like(rows[..., 0]), torch.ones_like(rows[..., 0, :])
    size = rows.abs()
    for _ in range(BALANCING):
        scaled = size * row_size.unsqueeze(-1) * column_size.unsqueeze(-2)
        row_size = row_size / positive(scaled.amax(-1)).sqrt()
        column_size = column_size / positive(scaled.amax(-2)).sqrt()
    return row_size, column_size


def _start(program: _Program) -> _Iterate:
    """Mehrotra's start: least-squares solutions, moved into the positive orthant."""
    rows, right, cost = program
    solve = solver(_with_ridge(outer_products(rows, rows)))
    point = times(rows.mT, solve(right))
    multipliers = solve(times(rows, cost))
    slack = cost - times(rows.mT, multipliers)
    point = point + (-1.5 * point.amin(-1, keepdim=True)).clamp_min(0)
    slack = slack + (-1.5 * slack.amin(-1, keepdim=True)).clamp_min(0)
    product = dot(point, slack) / 2
    total, slack_total = point.sum(-1, keepdim=True), slack.sum(-1, keepdim=True)
    point = point + (product / positive(slack_total)).clamp_min(SMALLEST_START)
    slack = slack + (product / positive(total)).clamp_min(SMALLEST_START)
    return _Iterate(point, multipliers, slack)


def _error(program: _Program, at: _Iterate) -> Tensor:
    """The largest of both residuals and of the gap, relative, (..., 1)."""
    primal = (times(program.rows, at.point) - program.right).abs().amax(-1, keepdim=True)
    dual = program.cost - times(program.rows.mT, at.multipliers) - at.slack
    value = dot(program.cost, at.point)
    size = 1 + at.point.amax(-1, keepdim=True)
    dual_size = 1 + torch.maximum(
        at.slack.amax(-1, keepdim=True), at.multipliers.abs().amax(-1, keepdim=True)
    )
    gap = dot(at.point, at.slack) / (1 + value.abs())
    return torch.maximum(
        torch.maximum(primal / size, dual.abs().amax(-1, keepdim=True) / dual_size), gap
    )


def _advance(program: _Program, at: _Iterate, error: Tensor) -> tuple[_Iterate, Tensor, Tensor]:
    """One predictor-corrector step, its error and whether it was taken."""
    rows = program.rows
    ratio = at.point / at.slack
    missed = program.right - times(rows, at.point)
    missed_slack = program.cost - times(rows.mT, at.multipliers) - at.slack
    solve = solver(_with_ridge(outer_products(rows * ratio.unsqueeze(-2), rows)))

    def direction(target: Tensor) -> _Iterate:
        wanted = target / at.slack
        aim = missed + times(rows, ratio * missed_slack - wanted)
        multipliers = solve(aim)
        # one refinement takes back what the ridge and the product's rounding changed
        left = aim - times(rows, ratio * times(rows.mT, multipliers))
        multipliers = multipliers + solve(left)
        slack = missed_slack - times(rows.mT, multipliers)
        return _Iterate(wanted - ratio * slack, multipliers, slack)

    product = at.point * at.slack
    gap = product.mean(-1, keepdim=True)
    change = direction(-product)
    reach, slack_reach = _longest(at, change, 1.0)
    predicted = dot(at.point + reach * change.point, at.slack + slack_reach * change.slack)
    remains = predicted / product.shape[-1] / gap
    change = direction(remains * remains * remains * gap - product - change.point * change.slack)
    reach, slack_reach = _longest(at, change, 0.995)
    new = _Iterate(
        at.point + reach * change.point,
        at.multipliers + slack_reach * change.multipliers,
        at.slack + slack_reach * change.slack,
    )
    new_error = _error(program, new)
    # a solved program takes only steps that improve it; NaN is no improvement
    takes = (new_error < error) | ((error > TOLERANCE) & torch.isfinite(new_error))
    kept = (torch.where(takes, value, old) for value, old in zip(new, at, strict=True))
    return _Iterate(*kept), torch.where(takes, new_error, error), takes


def _longest(at: _Iterate, change: _Iterate, share: float) -> tuple[Tensor, Tensor]:
    """The longest steps, at most 1, that keep x and s positive, (..., 1) each."""
    reach = (share * boundary(at.point, change.point)).clamp_max(1)
    return reach, (share * boundary(at.slack, change.slack)).clamp_max(1)


def _with_ridge(matrix: Tensor) -> Tensor:
    """The matrix with a small share of its diagonal added; 1 where that is 0."""
    diagonal = matrix.diagonal(dim1=-2, dim2=-1)
    return matrix + torch.diag_embed(torch.where(diagonal > 0, RIDGE * diagonal, 1.0))
