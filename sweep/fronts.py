"""The validation losses that are not dominated, arm by arm, and the volume that they dominate."""

from __future__ import annotations

import time

import moocore
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

EXACT_TASKS = 4
"""With more tasks exact hypervolumes take too long to follow a sweep; they are approximated."""
SHARE = 0.05
"""Of the time, at most so much goes into hypervolumes; what is shown is older then."""


class Fronts:
    """What was heard of each arm's validation losses, dominated ones left out.

    untrained: (T,) losses before training, the reference point of every hypervolume; the first
    ones heard of stay, so that all numbers of a sweep are about the same box.
    """

    def __init__(self) -> None:
        self.points: dict[str, Floats] = {}
        self.untrained: Floats | None = None
        self._volumes: dict[str, tuple[Floats, float]] = {}
        self._due = 0.0

    def add(self, arm: str, points: Floats, *, untrained: bool = False) -> None:
        """Take in losses (n, T) of an arm's runs; rows with NaN or inf are left out."""
        points = points[np.isfinite(points).all(axis=1)] if points.size else points
        if not len(points):
            return
        if untrained and self.untrained is None:
            self.untrained = points.mean(axis=0)
        known = self.points.get(arm)
        together = points if known is None else np.concatenate([known, points])
        self.points[arm] = together[moocore.is_nondominated(together)]

    def volume(self, points: Floats) -> float | None:
        """The share of the box between zero and the untrained losses that points (n, T) dominate.

        None without untrained losses, or where one of them is not positive: no box then.
        """
        if self.untrained is None or not (self.untrained > 0).all():
            return None
        inside = points[(points < self.untrained).all(axis=1)] / self.untrained
        if not len(inside):
            return 0.0
        if inside.shape[1] <= EXACT_TASKS:
            return float(moocore.hypervolume(inside, ref=1.0))
        return float(moocore.hv_approx(inside, ref=1.0, nsamples=2**13, seed=0))

    def volumes(self, *, now: bool = False) -> dict[str, float]:
        """Arm -> hypervolume of its front. now: however long it takes."""
        begin = time.monotonic()
        if now or begin >= self._due:
            for arm, points in self.points.items():
                known = self._volumes.get(arm)
                if known is None or known[0] is not points:
                    volume = self.volume(points)
                    if volume is not None:
                        self._volumes[arm] = (points, volume)
            self._due = time.monotonic() + (time.monotonic() - begin) / SHARE
        return {arm: volume for arm, (_, volume) in self._volumes.items()}

    def shown(self, arm: str, most: int) -> Floats:
        """At most so many of an arm's points in the first two tasks (n, 2), evenly thinned."""
        points = self.points.get(arm)
        if points is None or points.shape[1] < 2:
            return np.empty((0, 2))
        plane = np.unique(points[:, :2], axis=0)
        plane = plane[moocore.is_nondominated(plane)]
        thinned: Floats = plane[np.unique(np.linspace(0, len(plane) - 1, most).round().astype(int))]
        return thinned
