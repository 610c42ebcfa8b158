"""What a share of the seeds attains: surfaces of the empirical attainment function."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import moocore
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .selection import Runs, attained_by_seed
from .verdict import Comparison

LEVELS = {"best": 0.0, "median": 50.0, "worst": 100.0}
"""Share of seeds in per cent; at least one seed counts."""
TASKS = (2, 3)
"""How many tasks moocore has the surfaces for."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Surfaces:
    """The corners (m, T) of what at least one, half, or all of the seeds attain."""

    best: Floats
    median: Floats
    worst: Floats


def surfaces(fronts: Sequence[Floats]) -> Surfaces:
    """Return the attainment surfaces of fronts, one (m, T) a seed, T = 2 or 3, at least one.

    The empirical attainment function is the share of seeds whose front weakly dominates a point
    (Grunert da Fonseca et al. 2001); a surface is the border of where it reaches a level, given by
    its minimal points in ascending order of the first task. Half of an odd number is rounded up.
    Computed by moocore (Fonseca et al. 2011).

    Raises ValueError for no fronts and for another number of tasks.
    """
    if not fronts or fronts[0].shape[1] not in TASKS:
        found = fronts[0].shape[1] if fronts else "no fronts"
        raise ValueError(f"attainment surfaces need fronts of 2 or 3 tasks; found {found}")
    points = np.concatenate(fronts)
    owner = np.repeat(np.arange(1, len(fronts) + 1), [len(members) for members in fronts])
    # The smallest level of moocore is one seed of all.
    levels = [max(level, 100.0 / len(fronts)) for level in LEVELS.values()]
    found = {
        level: np.asarray(moocore.eaf(points, owner, percentiles=[level])) for level in set(levels)
    }
    return Surfaces(*(_ascending(found[level][:, :-1]) for level in levels))


def arm_surfaces(runs: Runs, arm: str) -> Surfaces | None:
    """Return an arm's surfaces over its seeds; None without runs, or with 1 or over 3 tasks."""
    own = runs.where(runs.arm == arm)
    if len(own.run) == 0 or len(runs.tasks) not in TASKS:
        return None
    return surfaces(attained_by_seed(own))


def attainment_table(comparison: Comparison) -> pd.DataFrame:
    """Return the corners of every arm's surfaces on the reporting split, in the tasks' own losses.

    Columns: arm, level (best, median, worst), one a task. No rows for one task or more than three.
    """
    tasks = list(comparison.runs.tasks)
    parts = [pd.DataFrame(columns=["arm", "level", *tasks])]
    for arm in (comparison.settings.baseline, *comparison.rows["arm"]):
        found = arm_surfaces(comparison.runs, arm)
        for level in LEVELS if found else ():
            part = pd.DataFrame(getattr(found, level), columns=tasks)
            part.insert(0, "level", level)
            part.insert(0, "arm", arm)
            parts.append(part)
    return pd.concat(parts[1:] or parts, ignore_index=True)


def _ascending(points: Floats) -> Floats:
    """The points sorted by the first task, then the next ones."""
    ordered: Floats = points[np.lexsort(points.T[::-1])]
    return ordered
