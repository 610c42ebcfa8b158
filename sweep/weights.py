"""Grids of task weights for linear scalarization and its relatives."""

from __future__ import annotations

import math

import numpy as np
from pymoo.util.ref_dirs import get_reference_directions

Vector = tuple[float, ...]

GRIDS = ("dirichlet", "lattice", "log_odds", "uniform")


def weight_grid(grid: str, points: int, tasks: int, low: float = 0.01) -> list[Vector]:
    """Weight vectors on the simplex, each of length `tasks`, non-negative, summing to 1.

    log_odds: T = 2, first weight from `low` to 1 − `low`, evenly spaced in log(w / (1 − w)), so
        dense near both ends, where fronts of unequal losses bend.
    uniform: T = 2, first weight from `low` to 1 − `low`, evenly spaced.
    lattice: any T, Das & Dennis' (1998) lattice, the finest with at most `points` vectors.
    dirichlet: any T, `points` draws uniform on the simplex, always the same.

    Raises ValueError if the grid does not exist for so many tasks or would be empty.
    """
    if points < 1:
        raise ValueError(f"a grid needs at least 1 point; found {points}")
    if not 0 < low < 0.5:
        raise ValueError(f"`low` must lie between 0 and 0.5; found {low}")
    if grid in ("log_odds", "uniform"):
        if tasks != 2:
            raise ValueError(
                f"grid {grid!r} is for two tasks; found {tasks}. Use 'lattice' or 'dirichlet'"
            )
        return _line(grid, points, low)
    if grid == "lattice":
        return _lattice(points, tasks)
    draws = np.random.default_rng(0).dirichlet(np.ones(tasks), size=points)
    return [tuple(map(float, row)) for row in draws]


def _line(grid: str, points: int, low: float) -> list[Vector]:
    if points == 1:
        return [(0.5, 0.5)]
    if grid == "uniform":
        first = [low + (1 - 2 * low) * k / (points - 1) for k in range(points)]
    else:
        end = math.log((1 - low) / low)
        odds = [end * (2 * k / (points - 1) - 1) for k in range(points)]
        first = [1 / (1 + math.exp(-value)) for value in odds]
    return [(w, 1 - w) for w in (round(w, 12) for w in first)]


def _lattice(points: int, tasks: int) -> list[Vector]:
    if points < tasks:
        raise ValueError(
            f"a lattice for {tasks} tasks needs at least {tasks} points; found {points}"
        )
    partitions = 1
    while math.comb(partitions + tasks, tasks - 1) <= points:
        partitions += 1
    rows = get_reference_directions("das-dennis", tasks, n_partitions=partitions)
    return [tuple(map(float, row)) for row in rows]
