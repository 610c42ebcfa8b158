"""How to minimise convex quadratics over non-negative vectors, many small ones at once."""

from __future__ import annotations

import torch
from torch import Tensor

from .arithmetic import dot, padded, positive, settled, solver, times
from .gramian import norms
from .pivoting import Rule, first_rule, next_rule

PIVOTS = 12
"""Random problems of 3 to 40 tasks need at most 9; the interior-point method takes the others."""
ITERATIONS = 25
"""Random problems of 3 to 40 tasks need at most 15 for rounding error; degenerate ones more."""
CONVERGED = 1e-18
"""Mean complementarity product at which a problem is frozen; its entries are of order 1."""
CACHED = 2**19
"""Numbers in the matrices that a CPU had better factorise at once."""
FEWEST = 16
"""So many problems are worth gathering anew when others of their batch are finished."""
RIDGE = 1e-14
"""Added to the unit diagonal of the Newton matrix only: it moves no solution."""
ROUNDING = 1e-12
"""Largest miss of the optimality conditions that pivoting may leave."""
TOLERANCE = 1e-9
"""Largest miss of the optimality conditions at which a problem counts as solved."""


def minimise_nonnegative(hessian: Tensor, slopes: Tensor) -> tuple[Tensor, Tensor]:
    """argmin over x >= 0 of ½ xᵀHx − bᵀx for K slopes b, shape (..., K, T), and which are solved.

    hessian: (..., T, T) float64, positive semidefinite, finite; slopes: (..., K, T); a minimum must
    exist. The mask (..., K, 1) tells where the optimality conditions are met, see `_missed`.
    Block principal pivoting (Júdice and Pires, Computers & Operations Research 1994) ends at the
    exact solution or not at all. What it leaves goes to a predictor-corrector interior-point method
    (Mehrotra, SIAM J. Optim. 1992) of a fixed number of steps, which also serves singular matrices.
    """
    tasks = slopes.shape[-1]
    scale = positive(norms(hessian))
    hessian = padded(hessian / scale.unsqueeze(-1) / scale.unsqueeze(-2), 1.0)
    slopes = slopes / scale.unsqueeze(-2)
    size = positive(slopes.abs().amax(-1, keepdim=True))
    slopes = slopes / size
    if hessian.shape[-1] > tasks:
        # the padding's unknowns are pushed to 0
        slopes = torch.nn.functional.pad(slopes, (0, hessian.shape[-1] - tasks), value=-1.0)
    point, solved = _pivoted(hessian, slopes)
    if not settled(solved):
        point = _finished(hessian, slopes, point, solved)
        slack = _products(hessian, point) - slopes
        solved = solved | (_missed(point, slack) <= TOLERANCE)
    return point[..., :tasks] * size / scale.unsqueeze(-2), solved


def shortest_above(gramian: Tensor, floors: Tensor) -> tuple[Tensor, Tensor]:
    """argmin over v >= floor of vᵀGv for K floors, (..., K, T): projections onto the dual cone.

    gramian: (..., T, T) float64, finite; floors: (..., K, T), non-negative. Σ v_i g_i is the vector
    nearest to Σ floor_i g_i that conflicts with no g_i. The mask (..., K, 1) tells what is solved.
    """
    if gramian.shape[-1] <= 2:
        closed = torch.ones_like(floors[..., :1], dtype=torch.bool)
        return floors if gramian.shape[-1] == 1 else _above_for_two(gramian, floors), closed
    extra, solved = minimise_nonnegative(gramian, -_products(gramian, floors))
    return floors + extra, solved


def _above_for_two(gramian: Tensor, floors: Tensor) -> Tensor:
    """One of the two at most has to give way to the other's conflict."""
    squares = positive(gramian.diagonal(dim1=-2, dim2=-1)).unsqueeze(-2)
    return torch.maximum(floors, -gramian[..., :1, 1:] * floors.flip(-1) / squares)


def _products(matrix: Tensor, vectors: Tensor) -> Tensor:
    """A symmetric matrix (..., A, A) times K vectors (..., K, A)."""
    if vectors.shape[-2] == 1:
        return times(matrix, vectors.squeeze(-2)).unsqueeze(-2)
    full = padded(matrix, 1.0)
    extra = full.shape[-1] - matrix.shape[-1]
    if extra:
        vectors = torch.nn.functional.pad(vectors, (0, extra))
    return (vectors @ full)[..., : matrix.shape[-1]]


def _missed(point: Tensor, slack: Tensor) -> Tensor:
    """Largest |min(x_i, s_i)| with s = Hx − b, (..., K, 1), as a share of max(1, max x_i).

    The Hessian has unit diagonal and a slope the largest entry 1; the optimum is where it is 0.
    """
    size = point.abs().amax(-1, keepdim=True).clamp_min(1)
    return torch.minimum(point, slack).abs().amax(-1, keepdim=True) / size


def _pivoted(hessian: Tensor, slopes: Tensor) -> tuple[Tensor, Tensor]:
    """The exact solution x (..., K, T), where guessing who is positive ends with a right guess."""
    matrices, right, free = hessian.unsqueeze(-3), slopes, slopes > 0
    if settled(~free):
        return torch.zeros_like(slopes), ~free[..., :1]
    size, copies = slopes.shape[-1], slopes.shape[-2]
    rule, point, rest = first_rule(slopes), slopes, None
    for turn in range(PIVOTS):
        guess = _stationary(matrices, right, free)
        # a turn has one way of multiplying, whoever is left, so that no digit depends on it
        product = times(matrices, guess) if turn else _products(hessian, guess)
        wrong = torch.where(free, guess, product - right) < -ROUNDING
        point = guess if rest is None else _put(point, rest, guess)
        if settled(~wrong):
            break
        free, rule = next_rule(free, wrong, rule)
        kept = _few(wrong.any(-1))
        if kept is not None:
            rest = kept if rest is None else rest[kept]
            matrices = hessian.reshape(-1, size, size)[rest // copies]
            right, free = slopes.reshape(-1, size)[rest], free.reshape(-1, size)[kept]
            rule = Rule(*(part.reshape(-1, 1)[kept] for part in rule))
    missed = _missed(point, _products(hessian, point) - slopes)
    return point.clamp_min(0), missed <= ROUNDING


def _stationary(matrices: Tensor, slopes: Tensor, free: Tensor) -> Tensor:
    """The minimum over the free unknowns, the others being 0."""
    if free.is_cpu and free.numel() * free.shape[-1] > CACHED and len(free) == len(matrices) > 1:
        # what is made on the way of one half stays in the cache
        halves = zip(*(part.tensor_split(2) for part in (matrices, slopes, free)), strict=True)
        return torch.cat([_stationary(*half) for half in halves])
    identity = torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)
    pairs = free.unsqueeze(-1) & free.unsqueeze(-2)
    factor, _ = torch.linalg.cholesky_ex(torch.where(pairs, matrices, identity))
    right = torch.where(free, slopes, 0.0).unsqueeze(-1)
    return torch.cholesky_solve(right, factor).squeeze(-1)


def _few(unfinished: Tensor) -> Tensor | None:
    """Places of the unfinished problems if it pays to go on with them alone, on a CPU only."""
    if not unfinished.is_cpu or unfinished.numel() < FEWEST:
        return None
    places = unfinished.flatten().nonzero().squeeze(-1)
    return places if 4 * len(places) <= 3 * unfinished.numel() else None


def _put(point: Tensor, places: Tensor, found: Tensor) -> Tensor:
    """The solutions (..., T) with those at some places, counted over all problems, replaced."""
    flat = point.reshape(-1, point.shape[-1]).index_copy(0, places, found)
    return flat.view(point.shape)


def _finished(hessian: Tensor, slopes: Tensor, point: Tensor, solved: Tensor) -> Tensor:
    """The solutions, by interior points where they are not solved; on a CPU only those are."""
    if not solved.is_cpu:
        return torch.where(solved, point, _interior(hessian.unsqueeze(-3), slopes))
    size = slopes.shape[-1]
    places = (~solved).flatten().nonzero().squeeze(-1)
    matrices = hessian.reshape(-1, size, size)[places // slopes.shape[-2]]
    return _put(point, places, _interior(matrices, slopes.reshape(-1, size)[places]))


def boundary(values: Tensor, change: Tensor) -> Tensor:
    """The largest step that keeps `values + step * change` non-negative, (..., 1), or inf."""
    unlimited = torch.full_like(values, torch.inf)
    return torch.where(change < 0, -values / change, unlimited).amin(-1, keepdim=True)


def _interior(hessian: Tensor, slope: Tensor) -> Tensor:
    """The solution x (..., T) by interior points. A converged problem is frozen."""
    point = torch.ones_like(slope)
    slack = torch.ones_like(slope)
    for _ in range(ITERATIONS):
        point, slack, moving = _advance(hessian, slope, point, slack)
        if settled(~moving):
            break
    return point


def _advance(
    hessian: Tensor, slope: Tensor, point: Tensor, slack: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
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
    (point, slack), moving = frozen_unless(
        gap > CONVERGED, (point, slack), reach, (change, slack_change)
    )
    return point, slack, moving


def frozen_unless(
    moving: Tensor, old: tuple[Tensor, ...], reach: Tensor, changes: tuple[Tensor, ...]
) -> tuple[tuple[Tensor, ...], Tensor]:
    """`old + reach * changes` for every problem that still moves and stays finite, else `old`.

    moving, reach: (..., 1). Also returns which problems moved: one that did not never will again.
    """
    new = [value + reach * change for value, change in zip(old, changes, strict=True)]
    for value in new:
        moving = moving & torch.isfinite(value).all(-1, keepdim=True)
    kept = (torch.where(moving, value, before) for value, before in zip(new, old, strict=True))
    return tuple(kept), moving
