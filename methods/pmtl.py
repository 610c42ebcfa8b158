"""PMTL: a Pareto optimum from one of several regions that divide the trade-off.

Vectors u_1 … u_K of length 1 spread over the losses' positive orthant; run k keeps to the losses
that lie nearer to u_k than to any other: (u_j − u_k)·L <= 0 for all j. Stage 1 descends along the
shortest vector in the hull of the violated constraints' gradients, until none is violated. Stage 2
takes the shortest vector in the hull of these and of the tasks' gradients.
Lin, Zhen, Li, Zhang, Kwong, "Pareto Multi-Task Learning", NeurIPS 2019, arXiv 1912.12854. As in the
authors' code stage 1 lasts two epochs at most, and in stage 2 the tasks' weights are rescaled to
Σ |w_i| = T. A weight may be negative.
Differences: more than two tasks take the smallest lattice of Das and Dennis with at least `vectors`
points, on the sphere; the hull's shortest vector is found to rounding error.
"""

from __future__ import annotations

import itertools
import math
from functools import lru_cache

import torch
from torch import Tensor

from .arithmetic import positive, times
from .gramian import or_nan, trusted
from .method import Count, Method, Number, Paper, Signals, State, Values, count, number
from .mgda import shortest_in_hull
from .unsolved import count_from_zero, counted

VIOLATED = 1e-12
"""A constraint on losses of length 1 is violated beyond rounding error."""


def init(losses: Tensor) -> State:
    """Still searching for the region."""
    return {"searching": torch.ones_like(losses[..., :1]), **count_from_zero(losses)}


def step(signals: Signals, state: State, values: Values) -> tuple[Tensor, State]:
    """Weights (..., T); in stage 2 their absolute values sum to T."""
    assert signals.gramian is not None
    clean, finite = trusted(signals.gramian)
    finite = finite & torch.isfinite(signals.losses).all(-1, keepdim=True)
    losses = torch.where(finite, signals.losses, 1.0)
    offsets = offsets_from(
        spread_vectors(losses.shape[-1], count(values, "vectors")), number(values, "vector"), losses
    )
    violated = constraints(losses, offsets) > VIOLATED
    infeasible = violated.any(-1, keepdim=True)
    searching = (state["searching"] > 0) & infeasible & (signals.epoch < number(values, "warmup"))
    weights, solved = _hull_weights(clean, offsets, violated, ~searching)
    size = weights.abs().sum(-1, keepdim=True)
    rescaled = weights * losses.shape[-1] / positive(size)
    weights = torch.where(searching, weights, rescaled)
    state = {**state, "searching": searching.to(losses)}
    return or_nan(finite, weights), counted(state, solved | ~finite)


def spread_vectors(tasks: int, least: int) -> tuple[tuple[float, ...], ...]:
    """At least this many vectors of length 1 in the positive orthant; exactly so for two tasks."""
    if tasks == 1:
        return ((1.0,),) * least
    if tasks == 2:
        angles = [math.pi / 2 * k / (least - 1) for k in range(least)]
        return tuple((math.cos(angle), math.sin(angle)) for angle in angles)
    steps = 1
    while math.comb(steps + tasks - 1, tasks - 1) < least:
        steps += 1
    return tuple(_on_sphere(point) for point in _lattice(tasks, steps))


def _lattice(tasks: int, steps: int) -> list[tuple[int, ...]]:
    """All ways to share `steps` among the tasks, from the first task's to the last's."""
    places = itertools.combinations(range(steps + tasks - 1), tasks - 1)
    points = []
    for bars in places:
        edges = (-1, *bars, steps + tasks - 1)
        points.append(tuple(right - left - 1 for left, right in itertools.pairwise(edges)))
    return sorted(points, reverse=True)


def _on_sphere(point: tuple[int, ...]) -> tuple[float, ...]:
    length = math.hypot(*point)
    return tuple(part / length for part in point)


def offsets_from(vectors: tuple[tuple[float, ...], ...], chosen: Tensor, losses: Tensor) -> Tensor:
    """u_j − u_k for every j, (..., K, T); chosen: (..., 1) k, which is cut to K − 1."""
    every = _on_device(vectors, losses.dtype, losses.device)
    numbers = torch.arange(len(vectors), device=losses.device)
    is_own = (numbers == chosen.clamp(0, len(vectors) - 1)).to(losses)
    own = (is_own.unsqueeze(-1) * every).sum(-2)
    return every - own.unsqueeze(-2)


@lru_cache(maxsize=64)
def _on_device(
    vectors: tuple[tuple[float, ...], ...], dtype: torch.dtype, device: torch.device
) -> Tensor:
    """The vectors (K, T) as a tensor, made once: a copy to a device waits for what it does."""
    return torch.tensor(vectors, dtype=dtype, device=device)


def constraints(losses: Tensor, offsets: Tensor) -> Tensor:
    """(u_j − u_k)·L / ‖L‖ for every j, (..., K): positive where violated."""
    largest = positive(losses.abs().amax(-1, keepdim=True))
    shape = losses / largest
    shape = shape / positive(shape.square().sum(-1, keepdim=True).sqrt())
    return times(offsets, shape)


def _hull_weights(
    gramian: Tensor, offsets: Tensor, violated: Tensor, descends: Tensor
) -> tuple[Tensor, Tensor]:
    """The tasks' weights (..., T) of the shortest vector in the hull.

    Members are the violated constraints' gradients and, where `descends` (..., 1), the tasks' own.
    Every other row is replaced by the members' mean, which lies in the hull and so changes nothing.
    """
    tasks = gramian.shape[-1]
    unit = torch.eye(tasks, dtype=gramian.dtype, device=gramian.device)
    rows = torch.cat([unit.expand(*gramian.shape), offsets], -2)
    member = torch.cat([descends.expand(*descends.shape[:-1], tasks), violated], -1).unsqueeze(-1)
    mean = torch.where(member, rows, 0.0).sum(-2, keepdim=True)
    rows = torch.where(member, rows, mean / positive(member.sum(-2, keepdim=True)))
    shares, solved = shortest_in_hull(rows @ gramian @ rows.mT)
    return times(rows.mT, shares), solved


METHOD = Method(
    name="pmtl",
    summary="a Pareto optimum from one of several regions of the trade-off",
    paper=Paper(
        authors="Lin, Zhen, Li, Zhang, Kwong",
        year=2019,
        title="Pareto Multi-Task Learning",
        venue="NeurIPS",
        arxiv="1912.12854",
    ),
    needs="gramian",
    step=step,
    init=init,
    hyper={
        "vectors": Count(5, "how many preference vectors divide the trade-off", low=2, high=200),
        "vector": Number(
            0, "number of the run's own vector, counted from 0", 0, whole=True, below="vectors"
        ),
        "warmup": Number(2, "epochs after which the search for the region ends", low=0),
    },
    deviations="more than two tasks take a lattice of at least `vectors` vectors; the hull's "
    "shortest vector is found to rounding error",
)
