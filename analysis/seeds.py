"""The comparison seed by seed: one row an arm and seed, before any averaging."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import pandas as pd

from .attained import Attained, fronts_of
from .front import hypervolume
from .margin import Margin, baseline_of, measure
from .normalisation import Normalisation
from .selection import Runs, attained_losses
from .settings import Settings

COLUMNS = (
    "arm", "seed", "run", "distance", "gap", "luck", "margin", "hypervolume",
    "hypervolume_baseline", "good", "drawn",
)  # fmt: skip


def compare_seeds(
    runs: Runs, table: pd.DataFrame, unit: Normalisation, settings: Settings
) -> pd.DataFrame:
    """Return one row an arm other than the baseline and a seed that both have finished runs of.

    run: the arm's run that stands furthest beyond the baseline's front on the selection split.
    distance: its signed distance on the reporting split. gap, luck: what a placebo explains of it,
    see `placebo.expected`. margin: distance - gap - luck. hypervolume, hypervolume_baseline: on the
    reporting split, of the sets that are non-dominated on the selection split. good, drawn: the
    baseline's runs that are no worse than the selected run by more than the equivalence in any
    task, and all its runs, diverged ones included. All in normalised units.
    """
    scaled = runs.normalised(unit)
    base = scaled.where(scaled.arm == settings.baseline)
    drawn = table.loc[table["arm"] == settings.baseline].groupby("seed").size()
    baseline = baseline_of(
        fronts_of({int(seed): base.where(base.seed == seed) for seed in np.unique(base.seed)})
    )
    rows = []
    for seed, front in baseline.fronts.items():
        for arm in other_arms(table, settings.baseline):
            own = scaled.where((scaled.arm == arm) & (scaled.seed == seed))
            if len(own.run):
                # Named after the arm: a placebo does not depend on which other arms exist.
                draws = np.random.default_rng([settings.seed, zlib.crc32(arm.encode()), seed])
                found = measure(own, baseline, seed, draws)
                row = _row(own, found, front, unit.reference, settings.equivalence)
                rows.append({"arm": arm, "seed": seed, "drawn": int(drawn[seed]), **row})
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
    own: Runs, found: Margin, front: Attained, reference: float, equivalence: float
) -> dict[str, object]:
    """One arm on one seed."""
    attains = front.baseline.report
    excess = (attains - own.report[found.run]).max(axis=1)
    return {
        "run": own.run[found.run],
        "distance": found.distance,
        "gap": found.gap,
        "luck": found.luck,
        "margin": found.value,
        "hypervolume": hypervolume(attained_losses(own), reference),
        "hypervolume_baseline": hypervolume(attains[front.members], reference),
        "good": int((excess <= equivalence).sum()),
    }
