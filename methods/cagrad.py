"""CAGrad: near the average gradient, the direction that is best for the worst-served task.

max over d of min_i g_i·d subject to ‖d − g0‖ <= c ‖g0‖, with g0 the mean gradient. Its solution is
d = g0 + c ‖g0‖ · g_w / ‖g_w‖ for the weights w on the simplex that minimise g_w·g0 + c ‖g0‖ ‖g_w‖.
Liu, Liu, Jin, Stone, Liu, "Conflict-Averse Gradient Descent", NeurIPS 2021, arXiv 2110.14048,
Algorithm 1. `rescale` 1 divides d by 1 + c² as the authors' code does, 2 by 1 + c.
Differences: solved to rounding error by exchanging active tasks (to 1e-7 as a cone program where
gradients are dependent, in closed form for two tasks), not by SLSQP.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .arithmetic import dot, positive, times
from .gramian import cosines, norms, or_nan, trusted
from .method import Method, Number, Paper, Signals, State, Values, number
from .unsolved import count_from_zero, counted
from .worst_case import worst_case_multipliers

SMALLEST_RADIUS = 1e-8
"""In place of c = 0 when the ball's best direction is sought; the direction is then scaled by c."""


def step(signals: Signals, state: State, values: Values) -> tuple[Tensor, State]:
    """Weights (..., T), each at least 1/T before rescaling."""
    assert signals.gramian is not None
    clean, finite = trusted(signals.gramian)
    radius, rescale = number(values, "c"), number(values, "rescale")
    mean = torch.full_like(signals.losses, 1 / clean.shape[-1])
    products = times(clean, mean)
    length = dot(mean, products).clamp_min(0).sqrt()
    lengths = positive(norms(clean))
    towards = products / positive(length)
    pull, solved = _best_unit(clean, towards, radius.clamp_min(SMALLEST_RADIUS))
    weights = mean + radius * length * pull / lengths
    divisor = torch.where(rescale == 1, 1 + radius**2, 1 + (rescale == 2) * radius)
    # where the mean is 0 the ball is a point, and every pull will do
    solved = solved | (length == 0) | ~finite
    return or_nan(finite, weights / divisor), counted(state, solved)


def _best_unit(gramian: Tensor, products: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
    """Coefficients (..., T) over the unit gradients of the best unit vector; 0 if there is none.

    The mask (..., 1) tells which are solved. products: (..., T) dot products of the gradients with
    the direction of their mean. A task with a zero gradient is left out.
    """
    cosine = cosines(gramian)
    lengths = norms(gramian)
    present = lengths > 0
    if gramian.shape[-1] > 2:
        smallest = torch.where(present, lengths, torch.inf).amin(-1, keepdim=True)
        price = torch.where(present, smallest / positive(lengths), 1.0)
        offset = products / positive(lengths) / radius
        # a zero gradient gets a dimension of its own, and so much that it is never the worst-served
        plenty = 2 + offset.abs().amax(-1, keepdim=True)
        cosine = cosine + torch.diag_embed((~present).to(cosine))
        return worst_case_multipliers(cosine, torch.where(present, offset, plenty), price)
    multipliers = present.to(lengths)
    if gramian.shape[-1] == 2:
        both = present.all(-1, keepdim=True)
        pair = _two_task_multipliers(gramian, products, radius) * lengths
        multipliers = torch.where(both, pair, multipliers)
    size = dot(multipliers, times(cosine, multipliers)).clamp_min(0).sqrt()
    return multipliers / positive(size), torch.ones_like(size, dtype=torch.bool)


def _two_task_multipliers(gramian: Tensor, products: Tensor, radius: Tensor) -> Tensor:
    """argmin over the segment of g_w·ĝ0 + c ‖g_w‖ in closed form, (..., 2)."""
    first, second = gramian[..., 0, 0], gramian[..., 1, 1]
    cross = gramian[..., 0, 1]
    spread = (first + second - 2 * cross).clamp_min(0)
    # ‖g_w‖² = spread · ((w − foot)² + height²), with w the weight of the first task
    foot = (second - cross) / positive(spread)
    height = (second / positive(spread) - foot**2).clamp_min(0).sqrt()
    slope = (products[..., 1] - products[..., 0]) / radius.squeeze(-1)
    rest = (spread - slope**2).clamp_min(0).sqrt()
    inner = foot + slope * height / positive(rest)
    outer = torch.where(slope > 0, 1.0, 0.0)
    weight = torch.where(slope**2 < spread, inner, outer).clamp(0, 1)
    return torch.stack([weight, 1 - weight], dim=-1)


METHOD = Method(
    name="cagrad",
    summary="the direction near the mean gradient that is best for the worst-served task",
    paper=Paper(
        authors="Liu, Liu, Jin, Stone, Liu",
        year=2021,
        title="Conflict-Averse Gradient Descent for Multi-task Learning",
        venue="NeurIPS",
        arxiv="2110.14048",
    ),
    needs="gramian",
    step=step,
    init=count_from_zero,
    hyper={
        "c": Number(0.4, "radius of the ball around the mean gradient", low=0.0, high=1.0),
        "rescale": Number(
            0, "0: as in the paper; 1: divided by 1 + c²; 2: by 1 + c", 0, 2, whole=True
        ),
    },
    deviations="solved to rounding error, to 1e-7 where gradients are dependent",
)
