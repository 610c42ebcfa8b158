"""One arm, seed by seed: how far beyond the baseline's front it lies, less what explains it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .attained import Attained, furthest, held_out, reported
from .placebo import Gaps, Placebo, expected, gaps
from .selection import Runs


@dataclass(frozen=True)
class Baseline:
    """The baseline as arms are compared with it: its front and its placebo, by seed.

    known: what its gaps are in all seeds together.
    """

    fronts: Mapping[int, Attained]
    placebos: Mapping[int, Placebo]
    known: Gaps


@dataclass(frozen=True)
class Margin:
    """One arm on one seed, in normalised units. run: the index of its selected run.

    distance: that run's signed distance on the reporting split. gap, luck: what of it a placebo
    explains, by what the finite weight grid leaves open and by the number of tries.
    """

    run: int
    distance: float
    gap: float
    luck: float

    @property
    def value(self) -> float:
        """What is left: the arm's own gain, positive, or what it falls short by."""
        return self.distance - self.gap - self.luck


def baseline_of(fronts: Mapping[int, Attained]) -> Baseline:
    """Return the baseline with its placebo, from the front of each seed."""
    placebos = {seed: held_out(front) for seed, front in fronts.items()}
    return Baseline(fronts, placebos, gaps(list(placebos.values())))


def measure(arm: Runs, baseline: Baseline, seed: int, generator: np.random.Generator) -> Margin:
    """Return the margin of one seed's arm (at least one run).

    The arm's run is the one that stands furthest beyond the front on the selection split; its
    distance is taken on the reporting split. As many placebo runs as the arm has tries stand
    against it: with r runs a weight in the baseline (its learning rates), n runs are n / r tries.
    """
    front = baseline.fronts[seed]
    weights = len(set(front.baseline.group))
    tries = max(1, round(len(arm.run) * weights / len(front.baseline.run)))
    found = furthest(arm.select, front, tries)
    run, first = found[0]
    gap, luck = expected(
        [one for _, one in found], baseline.placebos[seed], baseline.known, generator
    )
    return Margin(run, reported(arm.report[run], front, first.out), gap, luck)
