"""Where the next weights should lie: from the losses that weights reached to weights for more runs.

The front is looked at edge by edge (see `edges`), and the edge whose guess of the front adds most
hypervolume is divided first.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import moocore
import numpy as np
from numpy.typing import ArrayLike, NDArray

from .edges import LEAST, Front, Rows, divided, edges, outwards, simplex, worth_it
from .weights import Vector

LOW = 1e-3
"""The smallest weight of the start: near enough to the corners, and steps outwards may follow."""
ROUNDS = 4
"""Rounds after the start, unless told otherwise."""
REFERENCE = 1.1
"""The reference point in units of the front's range, as in the analysis."""

EXACT = 4
"""Up to so many tasks hypervolumes are computed; beyond that takes seconds each."""
SAMPLES = 2**14
"""Points that a hypervolume is estimated from otherwise."""


@dataclass(frozen=True)
class Proposal:
    """Weights on the simplex (T,), the losses (T,) that are expected there, and what they gain."""

    weights: Rows
    losses: Rows
    gain: float


Rule = Callable[[Front], list[Proposal]]


def propose(
    weights: ArrayLike,
    losses: ArrayLike,
    count: int,
    *,
    seeds: ArrayLike | None = None,
    rule: Rule | None = None,
) -> list[Vector]:
    """The next `count` weight vectors, distinct from the given ones and from each other.

    weights: (R, T), one row a run, non-negative. losses: (R, T), what each run reached; rows with
    NaN or infinities, of diverged runs, count as tried. seeds: (R,), for telling apart what a seed
    does to all weights from noise; without them every run of a vector is taken as another seed.
    rule: what is gained where, `hypervolume_gain` unless given.

    The answer follows from the numbers alone. Raises ValueError for shapes that do not fit.
    """
    given, reached = np.asarray(weights, dtype=float), np.asarray(losses, dtype=float)
    if given.ndim != 2 or given.shape != reached.shape:
        raise ValueError(
            f"weights and losses have a row a run and a column a task; found shapes "
            f"{given.shape} and {reached.shape}"
        )
    tried = np.unique(np.round(given / given.sum(axis=1, keepdims=True), 12), axis=0)
    known = observed(given, reached, seeds)
    chosen: list[Vector] = []
    for _ in range(count):
        best = next(_untried(known, tried, rule or hypervolume_gain))
        chosen.append(tuple(map(float, best.weights)))
        tried = np.vstack([tried, best.weights])
        known = _believed(known, best)
    return chosen


def start_size(points: int, tasks: int) -> int:
    """How many of `points` weight vectors to lay out before anything is seen."""
    return min(points, max(tasks, min(max(5, tasks * (tasks + 1) // 2), points // 2)))


def batch_size(points: int, start: int) -> int:
    """How many vectors a round proposes unless told otherwise: a quarter of those not laid out."""
    return max(1, -(-(points - start) // ROUNDS))


def observed(weights: Rows, losses: Rows, seeds: ArrayLike | None = None) -> Front:
    """The runs as means over seeds, in units of their front.

    Runs with NaN or infinities are left out; if all have them, all losses count as equal.
    """
    fine = np.isfinite(losses).all(axis=1)
    if not fine.any():
        fine, losses = ~fine, np.zeros_like(losses)
    owners = np.arange(len(losses)) if seeds is None else np.asarray(seeds)
    share = weights[fine] / weights[fine].sum(axis=1, keepdims=True)
    places, own = np.unique(np.round(share, 12), axis=0, return_inverse=True)
    own = own.reshape(-1)
    values = losses[fine]
    means = _means(values, own)
    noise = _noise(values, own, None if seeds is None else owners[fine])
    best = means[moocore.is_nondominated(means, keep_weakly=True)]
    spans = np.ptp(best, axis=0)
    spans = np.where(spans > 0, spans, np.maximum(np.abs(best[0]), 1e-12))
    scaled = (means - best.min(axis=0)) / spans
    return _reached(Front(np.maximum(places, LEAST), scaled, spans, noise / spans))


def _means(values: Rows, own: NDArray[np.int64]) -> Rows:
    counts = np.bincount(own).astype(float)
    means: Rows = np.stack([np.bincount(own, column) / counts for column in values.T], axis=1)
    return means


def _noise(values: Rows, own: NDArray[np.int64], owners: NDArray[np.int64] | None) -> Rows:
    """Standard deviation (T,) of a mean over seeds, pooled over weights; 0 if none was repeated."""
    residuals = values - _means(values, own)[own]
    free = len(values) - own.max() - 1
    if owners is not None:
        names, index = np.unique(owners, return_inverse=True)
        residuals = residuals - _means(residuals, index)[index]
        free -= len(names) - 1
    if free < 1:
        return np.zeros(values.shape[1])
    runs = len(values) / (int(own.max()) + 1)
    return np.asarray(np.sqrt((residuals**2).sum(axis=0) / (free * runs)), dtype=np.float64)


def _reached(front: Front) -> Front:
    """Give runs that another run dominates the losses of the one that is best by their weights.

    So that a bad run neither draws the search to itself nor is tried again.
    """
    losses = front.losses
    dominates = (losses[:, None] <= losses).all(axis=2) & (losses[:, None] < losses).any(axis=2)
    value = (front.weights * front.spans) @ losses.T
    best = np.where(dominates.T, value, np.inf)
    used = np.where(dominates.any(axis=0), best.argmin(axis=1), np.arange(len(losses)))
    return replace(front, losses=losses[used])


def _believed(front: Front, one: Proposal) -> Front:
    """The front with a proposal as if it had been measured."""
    return Front(
        np.vstack([front.weights, np.maximum(one.weights, LEAST)]),
        np.vstack([front.losses, one.losses]),
        front.spans,
        front.noise,
    )


def _untried(known: Front, tried: Rows, rule: Rule) -> Iterator[Proposal]:
    """Proposals by falling gain, then the middles of the longest edges, then random weights."""
    spare = [Proposal(p.weights, p.losses, 0.0) for p in _longest(known)]
    ranked = sorted(rule(known), key=lambda one: -one.gain)
    for one in itertools.chain(ranked, spare, _anything(known)):
        weights = _rounded(one.weights)
        if np.abs(tried - weights).max(axis=1).min() > 1e-9:
            yield Proposal(weights, one.losses, one.gain)


def _rounded(weights: Rows) -> Rows:
    """Weights with nine digits that sum to 1, so that the last bits of logarithms do not matter."""
    rounded: Rows = np.maximum(weights, LEAST).round(9)
    rounded[weights.argmax()] = 0.0
    rounded[weights.argmax()] = round(1.0 - float(rounded.sum()), 9)
    return rounded


def _anything(known: Front) -> Iterator[Proposal]:
    """Weights when nothing is left to divide: uniform on the simplex, always the same."""
    generator = np.random.default_rng(len(known.weights))
    while True:
        weights = generator.dirichlet(np.ones(known.weights.shape[1]))
        yield Proposal(weights, known.losses.mean(axis=0), 0.0)


def _longest(front: Front) -> list[Proposal]:
    """The middles of all edges, the longest in weights first."""
    pairs = edges(front.ratios)
    a, b = pairs.T
    length = np.linalg.norm(front.ratios[a] - front.ratios[b], axis=1)
    middles = simplex((front.ratios[a] + front.ratios[b]) / 2)
    losses = (front.losses[a] + front.losses[b]) / 2
    order = np.argsort(-length, kind="stable")
    return [Proposal(middles[k], losses[k], 0.0) for k in order]


def hypervolume_gain(front: Front) -> list[Proposal]:
    """The hypervolume that the expected losses add to the front's.

    Beyond the front's ends a loss counts as if it were the worst on the front: how much worse it
    becomes there is no reason not to look.
    """
    added = _added_to(front.losses[moocore.is_nondominated(front.losses, keep_weakly=False)])
    found = []
    for pairs, weights, losses in (divided(front), outwards(front)):
        found += [
            Proposal(weights[k], losses[k], added(np.minimum(losses[k], 1.0)))
            for k in np.flatnonzero(worth_it(front, pairs))
        ]
    return found


def _added_to(front: Rows) -> Callable[[Rows], float]:
    """What hypervolume a point (T,) would add to a front's (n, T).

    With many tasks it is estimated from points in the box, the same for every candidate.
    """
    tasks = front.shape[1]
    corner = np.full(tasks, REFERENCE)

    def exactly(point: Rows) -> float:
        covering = np.maximum(front, point)  # what the front covers of the point's own box
        covering = covering[(covering < corner).all(axis=1)]
        own = float(np.prod(np.maximum(corner - point, 0.0)))
        return own - (float(moocore.hypervolume(covering, ref=corner)) if len(covering) else 0.0)

    if tasks <= EXACT:
        return exactly
    samples = REFERENCE * np.random.default_rng(0).random((SAMPLES, tasks))
    for point in front:
        samples = samples[(samples < point).any(axis=1)]
    return lambda point: float((samples >= point).all(axis=1).sum()) / SAMPLES
