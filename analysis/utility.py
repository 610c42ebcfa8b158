"""Which arm serves which taste: the best run for every weighting of the tasks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .selection import Runs
from .simplex import simplex_weights
from .verdict import Comparison

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Utility:
    """The sweep: n weightings of T tasks, A arms, the baseline first.

    weights: (n, T). gain: (n, A) in normalised units, how much lower than the baseline's an arm's
    weighted loss is, mean over seeds; positive is better, 0 for the baseline, NaN without a common
    seed. error: (n, A) standard error of the gain over seeds, NaN with fewer than two.
    """

    tasks: tuple[str, ...]
    arms: tuple[str, ...]
    weights: Floats
    gain: Floats
    error: Floats

    def best(self) -> NDArray[np.intp]:
        """Return (n,) the arm with the largest gain at each weighting, the first of equals."""
        best: NDArray[np.intp] = np.nanargmax(self.gain, axis=1)
        return best


def utility_sweep(comparison: Comparison) -> Utility:
    """Return what each arm is worth to each taste.

    For a weighting u of the tasks, an arm's utility in a seed is the loss sum_t u_t l_t (normalised
    units) on the reporting split of the run for which it is lowest on the selection split. An arm
    is compared with the baseline over the seeds that both have. Weightings: `simplex_weights`.
    Sweeping them shows whether a ranking is the arms' or the weighting's (cf. R1/R2 of Hansen and
    Jaszkiewicz 1998, linear utilities). Linear tastes see the convex part of a front only.
    """
    runs = comparison.runs.normalised(comparison.normalisation)
    baseline = comparison.settings.baseline
    arms = (baseline, *(str(arm) for arm in comparison.rows["arm"]))
    weights = simplex_weights(len(runs.tasks))
    losses = {arm: _per_seed(runs.where(runs.arm == arm), weights) for arm in arms}
    gains = [_gain(losses[baseline], losses[arm]) for arm in arms]
    mean, error = (np.column_stack([pair[i] for pair in gains]) for i in (0, 1))
    return Utility(runs.tasks, arms, weights, mean, error)


def utility_table(sweep: Utility) -> pd.DataFrame:
    """Return one row a weighting: u_<task>, best (the arm), gain_<arm> for each arm."""
    columns: dict[str, object] = {
        f"u_{task}": w for task, w in zip(sweep.tasks, sweep.weights.T, strict=True)
    }
    columns["best"] = [sweep.arms[i] for i in sweep.best()]
    gains = {f"gain_{arm}": gain for arm, gain in zip(sweep.arms, sweep.gain.T, strict=True)}
    return pd.DataFrame(columns | gains)


def shares(sweep: Utility) -> pd.DataFrame:
    """Return one row an arm: at what share of the weightings it is first, and its range of gains.

    Columns: arm, first (in [0, 1]), clear (first, by more than two standard errors of its gain over
    the baseline; NaN for the baseline), least, mean, most gain.
    """
    best = sweep.best()
    rows = []
    for i, arm in enumerate(sweep.arms):
        gain = sweep.gain[:, i]
        clear = np.nan if i == 0 else ((best == i) & (gain > 2 * sweep.error[:, i])).mean()
        least, mean, most = (
            (gain.min(), gain.mean(), gain.max()) if np.isfinite(gain).all() else (np.nan,) * 3
        )
        row = {"arm": arm, "first": (best == i).mean(), "clear": clear}
        rows.append(row | {"least": least, "mean": mean, "most": most})
    return pd.DataFrame(rows)


def flips(sweep: Utility) -> list[tuple[float, str, str]]:
    """Return where the first place changes hands, for two tasks: (weight of task 2, from, to).

    The weight is the middle of the two neighbouring ones. Empty for other numbers of tasks.
    """
    if len(sweep.tasks) != 2:
        return []
    best, second = sweep.best(), sweep.weights[:, 1]
    return [
        (float(second[i : i + 2].mean()), sweep.arms[best[i]], sweep.arms[best[i + 1]])
        for i in np.flatnonzero(np.diff(best))
    ]


def _per_seed(runs: Runs, weights: Floats) -> dict[int, Floats]:
    """For each seed, the reported weighted loss (n,) of the run chosen at each weighting."""
    found = {}
    for seed in np.unique(runs.seed):
        own = runs.where(runs.seed == seed)
        chosen = (weights @ own.select.T).argmin(axis=1)
        found[int(seed)] = (weights * own.report[chosen]).sum(axis=1)
    return found


def _gain(baseline: dict[int, Floats], own: dict[int, Floats]) -> tuple[Floats, Floats]:
    """Mean and standard error over the common seeds, (n,) each."""
    common = [baseline[seed] - own[seed] for seed in own if seed in baseline]
    length = len(next(iter(baseline.values())))
    if not common:
        return np.full(length, np.nan), np.full(length, np.nan)
    values = np.array(common)
    if len(values) < 2:
        return values[0], np.full(length, np.nan)
    return values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(len(values))
