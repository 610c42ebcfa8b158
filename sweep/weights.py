"""Grids of task weights for linear scalarization and its relatives."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from pymoo.util.ref_dirs import get_reference_directions

Vector = tuple[float, ...]
Rows = NDArray[np.float64]

SEED = 0
"""Of the grids that start from random numbers, so that they are always the same."""


def weight_grid(grid: str, points: int, tasks: int, low: float = 0.01) -> list[Vector]:
    """Weight vectors on the simplex, each of length `tasks`, non-negative, summing to 1.

    log_odds: any T, no weight below `low` and the corners at it; log-ratios of weights are those of
        a lattice, so that it is dense near corners and edges, where fronts of unequal losses bend.
        For two tasks evenly spaced in log(w / (1 − w)).
    uniform: T = 2, first weight from `low` to 1 − `low`, evenly spaced.
    lattice: any T, Das & Dennis' (1998) lattice, the finest with at most `points` vectors.
    riesz: any T, exactly `points` vectors that repel each other (Blank et al. 2021, Riesz
        s-energy), always the same.
    dirichlet: any T, `points` draws uniform on the simplex, always the same.

    lattice and riesz come from pymoo. Raises ValueError if the grid does not exist for so many
    tasks or would be empty.
    """
    if points < 1:
        raise ValueError(f"a grid needs at least 1 point; found {points}")
    if not 0 < low < 1 / tasks:
        raise ValueError(f"`low` must lie between 0 and {1 / tasks:g}; found {low}")
    rows = GRIDS[grid](points, tasks, low)
    return [tuple(map(float, row)) for row in rows]


def _uniform(points: int, tasks: int, low: float) -> Rows:
    if tasks != 2:
        raise ValueError(
            f"grid 'uniform' is for two tasks; found {tasks}. Use 'log_odds', 'lattice', 'riesz' "
            "or 'dirichlet'"
        )
    if points == 1:
        return np.full((1, 2), 0.5)
    first = np.round([low + (1 - 2 * low) * k / (points - 1) for k in range(points)], 12)
    return np.stack([first, 1 - first], axis=1)


def _log_odds(points: int, tasks: int, low: float) -> Rows:
    if points == 1:
        return np.full((1, tasks), 1 / tasks)
    # where one weight is as large as it gets, the others are `low`
    end = math.log(1 / low - (tasks - 1))
    if tasks == 2:
        odds = [end * (2 * k / (points - 1) - 1) for k in range(points)]
        first = np.round([1 / (1 + math.exp(-value)) for value in odds], 12)
        return np.stack([first, 1 - first], axis=1)
    ratios = np.exp(end * _lattice(points, tasks, low))
    rows: Rows = np.round(ratios / ratios.sum(axis=1, keepdims=True), 12)
    return rows


def _lattice(points: int, tasks: int, low: float) -> Rows:
    _at_least_a_corner_each("a lattice", points, tasks)
    partitions = 1
    while math.comb(partitions + tasks, tasks - 1) <= points:
        partitions += 1
    return np.asarray(get_reference_directions("das-dennis", tasks, n_partitions=partitions))


def _riesz(points: int, tasks: int, low: float) -> Rows:
    _at_least_a_corner_each("a riesz grid", points, tasks)
    return np.asarray(get_reference_directions("energy", tasks, points, seed=SEED))


def _dirichlet(points: int, tasks: int, low: float) -> Rows:
    return np.random.default_rng(SEED).dirichlet(np.ones(tasks), size=points)


def _at_least_a_corner_each(what: str, points: int, tasks: int) -> None:
    if points < tasks:
        raise ValueError(f"{what} for {tasks} tasks needs at least {tasks} points; found {points}")


GRIDS: dict[str, Callable[[int, int, float], Rows]] = {
    "dirichlet": _dirichlet,
    "lattice": _lattice,
    "log_odds": _log_odds,
    "riesz": _riesz,
    "uniform": _uniform,
}
"""Registry: the name a config gives -> rows of `points` weights for `tasks`, none below `low`."""
