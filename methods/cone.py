"""How to solve a small cone program with one ball: interior points, many problems at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .arithmetic import dot, settled, solver, times
from .quadratic import boundary, frozen_unless

ITERATIONS = 30
"""Enough for 1e-7 with 40 tasks whose norms spread over six decades; 20 do for norms alike."""
CONVERGED = 1e-17
RIDGE = 1e-15
FACTOR_RIDGE = 1e-13


class _Data(NamedTuple):
    rows: Tensor
    offset: Tensor
    price: Tensor


class _Iterate(NamedTuple):
    """Where the solver stands.

    unit y (..., T) with ‖y‖ < 1; level t (..., 1); slack s and its multipliers w (..., T); the dual
    of the ball, head (..., 1) > ‖tail‖, tail (..., T).
    """

    unit: Tensor
    level: Tensor
    slack: Tensor
    multipliers: Tensor
    head: Tensor
    tail: Tensor


class _Scaling(NamedTuple):
    """Nesterov-Todd scaling W of the ball's cone, a stretch times a turn along (head, tail)."""

    size: Tensor
    head: Tensor
    tail: Tensor


Target = tuple[Tensor, Tensor, Tensor]
"""What a Newton step aims at: for the orthant (..., T), for the cone's head (..., 1) and tail."""


def interior_multipliers(cosines: Tensor, offset: Tensor, price: Tensor) -> Tensor:
    """Multipliers w >= 0, (..., T), of: maximise t subject to ĝ_i·u + b_i >= a_i t and ‖u‖ <= 1.

    cosines: (..., T, T) dot products of the unit gradients ĝ_i, finite; offset b: (..., T);
    price a: (..., T), positive. The best u is Σ w_i ĝ_i divided by its length.
    Primal-dual interior point with Nesterov-Todd scaling, as in Vandenberghe, "The CVXOPT linear
    and quadratic cone program solvers", 2010, for one orthant and one second-order cone; a fixed
    number of steps, converged problems frozen.
    """
    # any factor of the cosines will do; the ridge keeps the factor of dependent gradients finite
    ridge = FACTOR_RIDGE * torch.eye(price.shape[-1], dtype=price.dtype, device=price.device)
    rows, _ = torch.linalg.cholesky_ex(cosines + ridge)
    data = _Data(rows, offset, price)
    zero = torch.zeros_like(offset)
    one = torch.ones_like(zero[..., :1])
    slack = 1 + offset.abs().amax(-1, keepdim=True) + zero
    at = _Iterate(zero, 0 * one, slack, (zero + 1) / price.sum(-1, keepdim=True), one, zero)
    for _ in range(ITERATIONS):
        at, moving = _advance(data, at)
        if settled(~moving):
            break
    return at.multipliers


def _advance(data: _Data, at: _Iterate) -> tuple[_Iterate, Tensor]:
    """One predictor-corrector step, and which problems (..., 1) moved."""
    room = 1 - dot(at.unit, at.unit), at.head * at.head - dot(at.tail, at.tail)
    inner = at.head + dot(at.unit, at.tail)
    gap = (dot(at.multipliers, at.slack) + inner) / (at.unit.shape[-1] + 1)
    scaling = _scaling(at, room, inner)
    direction = _newton(data, at, scaling)
    change = direction((-at.multipliers, -at.head, -at.tail))
    left = 1 - _longest(at, room, change).clamp_max(1)
    centring = gap * left * left * left
    orthant = (centring - change.multipliers * change.slack) / at.slack - at.multipliers
    head, tail = _corrected(scaling, at, change, centring)
    change = direction((orthant, head - at.head, tail - at.tail))
    reach = (0.99 * _longest(at, room, change)).clamp_max(1)
    moved, moving = frozen_unless(gap > CONVERGED, at, reach, change)
    return _Iterate(*moved), moving


def _scaling(at: _Iterate, room: tuple[Tensor, Tensor], inner: Tensor) -> _Scaling:
    """W with W·dual = W⁻¹·primal, for the primal cone point (1, y)."""
    primal, dual = room[0].sqrt(), room[1].sqrt()
    middle = 2 * ((1 + inner / (primal * dual)) / 2).sqrt()
    head = (1 / primal + at.head / dual) / middle
    tail = (at.unit / primal - at.tail / dual) / middle
    return _Scaling((primal / dual).sqrt(), head, tail)


def _scaled(by: _Scaling, head: Tensor, tail: Tensor, sign: int) -> tuple[Tensor, Tensor]:
    """W times a cone vector for sign 1, W⁻¹ times it for sign -1."""
    inner = dot(by.tail, tail)
    size = by.size if sign == 1 else 1 / by.size
    turned = tail + by.tail * (sign * head + inner / (1 + by.head))
    return size * (by.head * head + sign * inner), size * turned


def _corrected(
    by: _Scaling, at: _Iterate, change: _Iterate, centring: Tensor
) -> tuple[Tensor, Tensor]:
    """W⁻¹x with λ ∘ x = centring − (W⁻¹·Δprimal) ∘ (W·Δdual) and λ = W·dual: the correction."""
    head, tail = _scaled(by, at.head, at.tail, 1)
    first_head, first_tail = _scaled(by, torch.zeros_like(at.head), change.unit, -1)
    second_head, second_tail = _scaled(by, change.head, change.tail, 1)
    wanted_head = centring - first_head * second_head - dot(first_tail, second_tail)
    wanted_tail = -first_head * second_tail - second_head * first_tail
    quotient = (head * wanted_head - dot(tail, wanted_tail)) / (head * head - dot(tail, tail))
    return _scaled(by, quotient, (wanted_tail - quotient * tail) / head, -1)


def _newton(data: _Data, at: _Iterate, by: _Scaling) -> Callable[[Target], _Iterate]:
    """Solver of the Newton system at one iterate."""
    rows, price = data.rows, data.price
    missed_slack = at.slack - times(rows, at.unit) + price * at.level - data.offset
    missed_unit = times(rows.mT, at.multipliers) + at.tail
    missed_level = dot(price, at.multipliers) - 1
    ratio = at.multipliers / at.slack
    square = by.size * by.size
    solve = solver(_newton_matrix(data, ratio, by, square))

    def direction(target: Target) -> _Iterate:
        orthant, head, tail = target
        wanted = orthant + ratio * missed_slack
        right = times(rows.mT, wanted) + tail + missed_unit
        answer = solve(torch.cat([right, -missed_level - dot(price, wanted)], -1))
        unit, level = answer[..., :-1], answer[..., -1:]
        slack = times(rows, unit) - price * level - missed_slack
        inner = 2 * dot(by.tail, unit)
        head = head + by.head * inner / square
        tail = tail - (unit + by.tail * inner) / square
        return _Iterate(unit, level, slack, orthant - ratio * slack, head, tail)

    return direction


def _newton_matrix(data: _Data, ratio: Tensor, by: _Scaling, square: Tensor) -> Tensor:
    """The Newton system in unit and level, (..., T + 1, T + 1), with its ridge."""
    weighted = data.rows * ratio.unsqueeze(-1)
    identity = torch.eye(ratio.shape[-1], dtype=ratio.dtype, device=ratio.device)
    turn = identity + 2 * by.tail.unsqueeze(-1) * by.tail.unsqueeze(-2)
    corner = data.rows.mT @ weighted + turn / square.unsqueeze(-1)
    edge = -times(weighted.mT, data.price)
    last = torch.cat([edge, dot(data.price, ratio * data.price)], -1)
    matrix = torch.cat([torch.cat([corner, edge.unsqueeze(-1)], -1), last.unsqueeze(-2)], -2)
    return matrix + torch.diag_embed(RIDGE * matrix.diagonal(dim1=-2, dim2=-1))


def _longest(at: _Iterate, room: tuple[Tensor, Tensor], change: _Iterate) -> Tensor:
    """The largest step that stays in the orthants and in both cones, (..., 1)."""
    orthant = boundary(
        torch.cat([at.slack, at.multipliers], -1), torch.cat([change.slack, change.multipliers], -1)
    )
    # along the step, each cone's room is square·step² + 2·mixed·step + rest
    square = torch.cat(
        [
            -dot(change.unit, change.unit),
            change.head * change.head - dot(change.tail, change.tail),
        ],
        -1,
    )
    mixed = torch.cat(
        [-dot(at.unit, change.unit), at.head * change.head - dot(at.tail, change.tail)], -1
    )
    rest = torch.cat(room, -1)
    radicand = mixed * mixed - square * rest
    divisor = radicand.clamp_min(0).sqrt() - mixed
    crossing = torch.where((radicand >= 0) & (divisor > 0), rest / divisor, torch.inf)
    return torch.minimum(orthant, crossing.amin(-1, keepdim=True))
