"""Neighbouring weight vectors: what lies between them on a front, and beyond the outermost.

An edge is a pair of weight vectors with no third one in the ball between them (Gabriel graph), in
the logarithms of the weights. It is divided at weights by which both its ends are worth the same
(dichotomic search: Cohon 1978, non-inferior set estimation): there the front is farthest from the
chord. What is known there is a triangle, the chord above and the ends' supporting planes below; a
parabola in it is the guess of the front. Edges to outermost weights are continued outwards.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]
Pairs = NDArray[np.int64]

LEAST = 1e-5
"""No weight is proposed below this share: such a run trains the other tasks only."""
INNER = 0.25
"""An edge is divided in its inner part only, so that it always shrinks."""
NARROW = 0.08
"""Edges shorter than this, in the logarithm of a ratio of weights, are not divided."""
NOISES = 1.5
"""Edges whose ends differ by less than this many standard deviations are not worth dividing."""
OUTWARDS = 0.5
"""How much of the change along the last edge one more step outwards is expected to bring."""


@dataclass(frozen=True)
class Front:
    """What is known: weights (n, T) on the simplex, each once, and where they led.

    losses: (n, T) means over seeds in units of the front's range, a dominated run's replaced by a
    better one's. spans: (T,) that unit. noise: (T,) standard deviation of a mean, in that unit.
    """

    weights: Rows
    losses: Rows
    spans: Rows
    noise: Rows

    @property
    def ratios(self) -> Rows:
        """Logarithms of the weights, less their mean (n, T)."""
        return _ratios(self.weights)


def edges(places: Rows) -> Pairs:
    """Pairs (m, 2), first < second, of points (n, d) that no third lies between (Gabriel graph)."""
    squares = ((places[:, None] - places[None]) ** 2).sum(axis=-1)
    first, second = np.triu_indices(len(places), k=1)
    # k lies in the ball with diameter ij if the angle at k is 90 degrees or more
    through = squares[first] + squares[second]
    through[np.arange(len(first)), first] = np.inf
    through[np.arange(len(first)), second] = np.inf
    free = through.min(axis=1) > squares[first, second] * (1 - 1e-9)
    return np.stack([first[free], second[free]], axis=1)


def divided(front: Front) -> tuple[Pairs, Rows, Rows]:
    """Every edge (m, 2), weights that divide it (m, T) and the losses to expect there (m, T)."""
    pairs = edges(front.ratios)
    a, b = pairs.T
    start, end = front.weights[a], front.weights[b]
    from_a, from_b = front.losses[a], front.losses[b]
    step = (from_b - from_a) * front.spans
    # what each end's weights say that the other end is worse by: 0 or more, but for noise
    worse_b = np.maximum((start * step).sum(axis=1), 0.0)
    worse_a = np.maximum(-(end * step).sum(axis=1), 0.0)
    known = (worse_a > 0) & (worse_b > 0)
    t = np.where(known, worse_b / np.where(known, worse_a + worse_b, 1.0), 0.5)
    level = (1 - t)[:, None] * start + t[:, None] * end
    along = front.ratios[b] - front.ratios[a]
    there = ((_ratios(level) - front.ratios[a]) * along).sum(axis=1)
    there = there / np.maximum((along**2).sum(axis=1), 1e-12)
    there = np.where(known, np.clip(there, INNER, 1 - INNER), 0.5)
    weights = simplex(front.ratios[a] + there[:, None] * along)
    # the parabola in the triangle passes halfway between the chord and the supporting planes
    depth = np.where(known, t * worse_a, 0.0) / (level * front.spans).sum(axis=1)
    return pairs, weights, (from_a + from_b) / 2 - depth[:, None] / 2


def outwards(front: Front) -> tuple[Pairs, Rows, Rows]:
    """Steps beyond the outermost weights of each task, continuing the edge that leads there.

    Returns the edges that are continued (m, 2), outermost end last; weights and losses as above.
    """
    pairs = edges(front.ratios)
    both = np.concatenate([pairs, pairs[:, ::-1]])
    tasks = front.weights.shape[1]
    corners = np.eye(tasks) - 1 / tasks
    found = []
    for direction in [*corners, *(-corners if tasks > 2 else [])]:
        outermost = int((front.ratios @ direction).argmax())
        leading = both[both[:, 1] == outermost]
        if len(leading) == 0:
            continue
        along = front.ratios[outermost] - front.ratios[leading[:, 0]]
        steep = along @ direction / np.linalg.norm(along, axis=1)
        inner = int(leading[steep.argmax(), 0])
        length = float(np.linalg.norm(front.ratios[outermost] - front.ratios[inner]))
        unit = direction / np.linalg.norm(direction)
        weights = simplex(front.ratios[outermost] + min(length, np.log(10.0)) * unit)
        if weights.min() >= LEAST:
            change = OUTWARDS * (front.losses[outermost] - front.losses[inner])
            found.append((inner, outermost, weights, front.losses[outermost] + change))
    empty = np.empty((0, tasks))
    if not found:
        return np.empty((0, 2), dtype=np.int64), empty, empty
    inner_ends, outer_ends, rows, losses = zip(*found, strict=True)
    return np.stack([inner_ends, outer_ends], axis=1), np.stack(rows), np.stack(losses)


def worth_it(front: Front, pairs: Pairs) -> NDArray[np.bool_]:
    """Edges (m,) that are long enough, in weights and beside the noise, to be divided."""
    a, b = pairs.T
    wide = np.ptp(front.ratios[a] - front.ratios[b], axis=1) > NARROW
    apart = np.abs(front.losses[a] - front.losses[b])
    clear = (apart > NOISES * np.sqrt(2) * front.noise).any(axis=1) & (apart > 0).any(axis=1)
    worth: NDArray[np.bool_] = wide & clear
    return worth


def simplex(ratios: Rows) -> Rows:
    """Weights (…, T) on the simplex with these logarithms, up to a common number."""
    powers = np.exp(ratios - ratios.max(axis=-1, keepdims=True))
    shares: Rows = powers / powers.sum(axis=-1, keepdims=True)
    return shares


def _ratios(weights: Rows) -> Rows:
    logs = np.log(weights)
    centred: Rows = logs - logs.mean(axis=-1, keepdims=True)
    return centred
