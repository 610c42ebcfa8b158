"""The units of a comparison: ideal, nadir and reference point, fixed before any test loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .front import check_points, front

REFERENCE = 1.1
"""The reference point in normalised units: a tenth beyond the nadir, so that the ends count too."""

FLOOR = 0.05
"""The smallest range of a task, as a share of its ideal loss; see `fit`."""


@dataclass(frozen=True)
class Normalisation:
    """One unit a task: the ideal loss is 0, the nadir is 1.

    ideal, nadir: one number a task, in the task's own loss. reference: the reference point of every
    hypervolume, the same in each task, in normalised units. floored: the tasks without a trade-off
    of their own, whose range is the floor. shift: how much larger the baseline's losses are on the
    reporting split, see `reported_on`; all 0 if empty.
    """

    tasks: tuple[str, ...]
    ideal: tuple[float, ...]
    nadir: tuple[float, ...]
    reference: float = REFERENCE
    floored: tuple[str, ...] = ()
    shift: tuple[float, ...] = ()

    def __call__(self, losses: ArrayLike) -> NDArray[np.float64]:
        """Return losses (..., T) in normalised units, 0 at the ideal and 1 at the nadir."""
        ideal = np.asarray(self.ideal)
        scaled: NDArray[np.float64] = (np.asarray(losses, dtype=np.float64) - ideal) / (
            np.asarray(self.nadir) - ideal
        )
        return scaled

    def reported(self, losses: ArrayLike) -> NDArray[np.float64]:
        """Return losses (..., T) of the reporting split in normalised units."""
        return self(np.asarray(losses, dtype=np.float64) - np.asarray(self.shift or 0.0))

    def reference_losses(self) -> tuple[float, ...]:
        """Return the reference point in each task's own loss, (T,)."""
        return tuple(
            low + self.reference * (high - low)
            for low, high in zip(self.ideal, self.nadir, strict=True)
        )


def reported_on(unit: Normalisation, select: ArrayLike, report: ArrayLike) -> Normalisation:
    """Return the normalisation with what the reporting split adds to each task's loss.

    select, report: (n, T), the baseline's runs on both splits. The shift is the median difference.
    Without it a harder reporting split would push whole fronts beyond the reference point. It is
    one number a task for all arms, so that it changes no difference between two runs.
    """
    shift = np.median(np.asarray(report, dtype=np.float64) - np.asarray(select), axis=0)
    return replace(unit, shift=tuple(float(value) for value in shift))


def fit(
    tasks: Sequence[str], losses: ArrayLike, seeds: ArrayLike, floor: float = FLOOR
) -> Normalisation:
    """Return the normalisation that the baseline's validation losses define.

    losses: (n, T), the baseline's runs at their last evaluation, on the selection split. seeds:
    (n,). Per seed, the non-dominated set; the ideal is the median over seeds of its smallest loss
    in each task, the nadir the median over seeds of its largest. Medians, so that one seed's stray
    extreme does not set everybody's unit.

    Where a task has no trade-off (one run best in everything) the range would be zero or mere
    noise. Rule: a range is at least `floor` times the ideal loss's magnitude, and 1 where both are
    zero; the task is then named in `floored`.

    Raises ValueError for NaN, inf or no rows.
    """
    points = check_points(losses, "losses")
    if len(points) == 0:
        raise ValueError("a normalisation needs at least one finished run of the baseline")
    owner = np.asarray(seeds)
    fronts = [front(points[owner == seed]) for seed in np.unique(owner)]
    ideal = np.median([members.min(axis=0) for members in fronts], axis=0)
    span = np.median([members.max(axis=0) for members in fronts], axis=0) - ideal
    least = floor * np.abs(ideal)
    low = span <= least
    span = np.where(low, np.where(least > 0, least, 1.0), span)
    return Normalisation(
        tasks=tuple(tasks),
        ideal=tuple(float(value) for value in ideal),
        nadir=tuple(float(value) for value in ideal + span),
        floored=tuple(task for task, is_low in zip(tasks, low, strict=True) if is_low),
    )
