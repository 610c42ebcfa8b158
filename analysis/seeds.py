"""The comparison seed by seed: one row an arm and seed, before any averaging."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from .front import hypervolume, is_nondominated
from .margin import Attained, attained, measure
from .normalisation import Normalisation
from .selection import Runs
from .settings import Settings

COLUMNS = (
    "arm", "seed", "run", "distance", "allowance", "margin", "hypervolume", "hypervolume_baseline",
    "good", "drawn",
)  # fmt: skip


def compare_seeds(
    runs: Runs, table: pd.DataFrame, unit: Normalisation, settings: Settings
) -> pd.DataFrame:
    """Return one row an arm other than the baseline and a seed that both have finished runs of.

    run: the arm's run with the largest signed distance to the baseline's front on the selection
    split. distance: its signed distance on the reporting split. allowance: what the finite weight
    grid can explain of it (`margin.allowance`). margin: distance - allowance / 2. hypervolume,
    hypervolume_baseline: on the reporting split, of the sets that are non-dominated on the
    selection split. good, drawn: the baseline's runs that are no worse than the selected run by
    more than the equivalence in any task, and all its runs, diverged ones included. All in
    normalised units.
    """
    scaled = runs.normalised(unit)
    base = scaled.where(scaled.arm == settings.baseline)
    drawn = table.loc[table["arm"] == settings.baseline].groupby("seed").size()
    rows = []
    for seed in np.unique(base.seed):
        baseline = base.where(base.seed == seed)
        front = attained(baseline)
        for arm in other_arms(table, settings.baseline):
            own = scaled.where((scaled.arm == arm) & (scaled.seed == seed))
            if len(own.run):
                row = _row(own, baseline, front, unit.reference, settings.equivalence)
                rows.append({"arm": arm, "seed": int(seed), "drawn": int(drawn[seed]), **row})
    return pd.DataFrame(rows, columns=list(COLUMNS))


def other_arms(table: pd.DataFrame, baseline: str) -> list[str]:
    """Return the arms other than the baseline, in the order of their first run."""
    return [str(arm) for arm in table["arm"].unique() if arm != baseline]


def seeds_left_out(table: pd.DataFrame, used: pd.DataFrame, arm: str, baseline: str) -> list[int]:
    """Return the seeds that the arm or the baseline has runs of, but that could not be compared."""
    either: Sequence[int] = table.loc[table["arm"].isin([arm, baseline]), "seed"].unique().tolist()
    compared = set(used.loc[used["arm"] == arm, "seed"])
    return sorted(int(seed) for seed in either if seed not in compared)


def _row(
    own: Runs, baseline: Runs, front: Attained, reference: float, equivalence: float
) -> dict[str, object]:
    """One arm on one seed."""
    found = measure(own, front)
    excess = (baseline.report - own.report[found.run]).max(axis=1)
    mine = own.report[is_nondominated(own.select)]
    return {
        "run": own.run[found.run],
        "distance": found.distance,
        "allowance": found.allowance,
        "margin": found.distance - found.allowance / 2,
        "hypervolume": hypervolume(mine, reference),
        "hypervolume_baseline": hypervolume(front.report, reference),
        "good": int((excess <= equivalence).sum()),
    }
