"""Which runs go on at a rung: non-dominated sorting, and spread within a front. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import moocore
import numpy as np
from numpy.typing import NDArray
from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

Floats = NDArray[np.float64]
REFERENCE = 1.1
"""Of every hypervolume here: a tenth beyond the front's largest losses, as in the analysis."""


@dataclass(frozen=True)
class Cut:
    """What a rung made of a group of runs: who goes on and who stops, the best first.

    hypervolume_share: of all their losses at the rung, that those of the kept ones have; 1 if none
    was stopped.
    """

    kept: tuple[str, ...]
    stopped: tuple[str, ...]
    hypervolume_share: float


def cut(losses: Mapping[str, Sequence[float]], keep: float) -> Cut:
    """Divide a group of runs. losses: run -> its validation losses (T,), finite.

    The answer depends on nothing but these: not on the order of the runs, not on the losses' units.
    """
    if not losses:
        return Cut((), (), 1.0)
    order = ranked(losses)
    count = survivors(len(order), keep)
    names = sorted(losses)
    rows = in_units(np.array([losses[name] for name in names], dtype=float))
    chosen = np.isin(names, order[:count])
    share = _hypervolume(rows[chosen]) / _hypervolume(rows)
    return Cut(tuple(order[:count]), tuple(order[count:]), share)


def ranked(losses: Mapping[str, Sequence[float]]) -> list[str]:
    """The runs, best first: front after front, and within a front the most spread first.

    Spread is greedy: the lowest loss of each task in turn, then the run farthest from its nearest
    neighbour among those ranked before (an epsilon-net; Salinas et al. 2021, MO-ASHA). Equals in
    the order of their names.
    """
    names = sorted(losses)
    if not names:
        return []
    rows = np.array([losses[name] for name in names], dtype=float)
    scaled = in_units(rows)
    order: list[int] = []
    for front in NonDominatedSorting().do(rows):  # as measured: units may round two into one
        order += _spread(scaled, np.sort(front))
    return [names[row] for row in order]


def survivors(count: int, keep: float) -> int:
    """How many of so many runs go on: a share of them, rounded up."""
    return math.ceil(round(keep * count, 9))  # 0.1 · 30 is 3, whatever the processor says


def epochs_spent(runs: int, epochs: int, rungs: Sequence[int], keep: float) -> int:
    """Epochs that a group of runs takes together if none of them ends by itself."""
    total, last = 0, 0
    for rung in rungs:
        total += runs * (rung - last)
        runs, last = survivors(runs, keep), rung
    return total + runs * (epochs - last)


def work_share(epoch: int, epochs: int, rungs: Sequence[int], keep: float) -> float:
    """Share of a large group's whole work that is done after an epoch, 0 … 1."""

    def until(end: int) -> float:
        ends = [*(rung for rung in rungs if rung < end), end]
        begins = [0, *ends[:-1]]
        parts = enumerate(zip(begins, ends, strict=True))
        return sum((stop - start) * keep**k for k, (start, stop) in parts)

    return until(epoch) / until(epochs)


def in_units(rows: Floats) -> Floats:
    """Losses (n, T) with each task's range over the non-dominated runs as its unit.

    Of the front and not of all runs: one that went nowhere would make all others look the same. All
    runs' range where the front has none.
    """
    best = rows[np.asarray(moocore.is_nondominated(rows, keep_weakly=True), dtype=bool)]
    low, own, whole = best.min(axis=0), np.ptp(best, axis=0), np.ptp(rows, axis=0)
    span = np.where(own > 0, own, whole)
    return np.asarray((rows - low) / np.where(span > 0, span, 1.0), dtype=np.float64)


def _spread(rows: Floats, front: NDArray[np.int64]) -> list[int]:
    """The rows of a front, the most spread first."""
    points = rows[front]
    chosen: list[int] = []
    nearest = np.full(len(front), np.inf)
    extremes = [int(k) for k in points.argmin(axis=0)]
    while len(chosen) < len(front):
        waiting = [k for k in extremes if k not in chosen]
        chosen.append(waiting[0] if waiting else int(np.argmax(nearest)))
        distance = np.square(points - points[chosen[-1]]).sum(axis=1)
        nearest = np.minimum(nearest, distance)
        nearest[chosen] = -1.0
    return [int(front[k]) for k in chosen]


def _hypervolume(rows: Floats) -> float:
    """Volume below the reference point; 0 if no run is."""
    inside = rows[(rows < REFERENCE).all(axis=1)]
    return float(moocore.hypervolume(inside, ref=REFERENCE)) if len(inside) else 0.0
