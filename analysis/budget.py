"""What a budget buys: the front that the first k runs of an arm attain, in runs and in passes."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .front import hypervolume
from .normalisation import Normalisation
from .selection import Runs, attained_losses, training_of

Floats = NDArray[np.float64]

COLUMNS = ("arm", "runs", "backward_passes", "hypervolume", "low", "high")
ORDERS = 20
"""Random orders of an arm's runs, for each seed."""
POINTS = 12
"""Budgets on a curve at most, even on a logarithmic scale."""
MOST_TASKS = 5
"""With more tasks the many hypervolumes of a curve take too long, and there is none."""


def budget_curves(
    runs: Runs, table: pd.DataFrame, unit: Normalisation, baseline: str
) -> pd.DataFrame:
    """Return the expected hypervolume of k random runs a seed, over that of the whole baseline.

    table: one row a run, diverged ones too, with `backward_passes`. One row an arm and budget.
    runs: k, a seed. backward_passes: their mean cost, NaN where it is unknown; runs of a pack have
    no seconds of their own. hypervolume: of the k runs that are non-dominated on the selection
    split, on the reporting split, a share of the same seed's whole baseline; the mean over seeds
    and `ORDERS` random orders. low, high: the central half of seeds and orders together. Diverged
    runs are drawn too and attain nothing; a run that shows several points is one.

    No rows for more than `MOST_TASKS` tasks, or where the baseline attains no volume.
    """
    if len(runs.tasks) > MOST_TASKS:
        return pd.DataFrame(columns=list(COLUMNS))
    scaled = runs.normalised(unit)
    rows: list[dict[str, object]] = []
    for arm in table["arm"].unique():
        shares = [
            _curves(scaled, table, arm, seed, unit.reference, baseline)
            for seed in np.unique(scaled.seed[scaled.arm == baseline])
        ]
        rows += _rows(str(arm), [one for one in shares if one is not None], table)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _curves(
    scaled: Runs, table: pd.DataFrame, arm: str, seed: int, reference: float, baseline: str
) -> dict[int, Floats] | None:
    """k -> (ORDERS,) shares of one seed's whole baseline; None where there is nothing to share."""
    base = scaled.where((scaled.arm == baseline) & (scaled.seed == seed))
    own = scaled.where((scaled.arm == arm) & (scaled.seed == seed))
    mine = table.index[(table["arm"] == arm) & (table["seed"] == seed)]
    trained, total = np.array([training_of(run) for run in own.run]), len({*map(training_of, mine)})
    finished = np.unique(trained)
    whole = hypervolume(attained_losses(base), reference)
    if not total or whole <= 0:
        return None
    draws = np.random.default_rng([zlib.crc32(arm.encode()), int(seed)])
    found: dict[int, list[float]] = {k: [] for k in _budgets(total)}
    for _ in range(ORDERS):
        order = draws.permutation(total)
        for k in found:
            first = order[:k]
            # Places after the finished runs stand for diverged ones.
            drawn = own.where(np.isin(trained, finished[first[first < len(finished)]]))
            found[k].append(hypervolume(attained_losses(drawn), reference) / whole)
    return {k: np.array(values) for k, values in found.items()}


def _budgets(total: int) -> list[int]:
    return sorted({int(k) for k in np.geomspace(1, total, min(total, POINTS)).round()})


def _rows(
    arm: str, shares: list[dict[int, Floats]], table: pd.DataFrame
) -> Iterator[dict[str, object]]:
    """One row a budget that every seed has."""
    own = table[table["arm"] == arm]
    paid = own["backward_passes"].groupby(own.index.map(training_of)).first()
    passes = float(paid.mean(skipna=False))
    common = set.intersection(*(set(one) for one in shares)) if shares else set()
    for k in sorted(common):
        values = np.concatenate([one[k] for one in shares])
        low, high = np.quantile(values, [0.25, 0.75])
        yield {
            "arm": arm,
            "runs": k,
            "backward_passes": k * passes,
            "hypervolume": float(values.mean()),
            "low": float(low),
            "high": float(high),
        }
