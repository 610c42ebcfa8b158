"""Quality indicators of every arm and seed, one reference point and one normalisation for all."""

from __future__ import annotations

from dataclasses import dataclass

import moocore
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from .front import check_points, front, hypervolume
from .selection import Runs, attained_by_seed, attained_losses
from .simplex import simplex_weights
from .verdict import Comparison

COLUMNS = (
    "arm", "seed", "runs", "hypervolume", "igd_plus", "epsilon", "r2", "contribution",
    "dominated", "dominated_by_baseline",
)  # fmt: skip
LARGER_IS_BETTER = ("hypervolume", "contribution")
"""All other indicators are the better the smaller they are."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Reference:
    """What all arms and seeds are measured against, in normalised units.

    corner: (T,) the reference point of hypervolumes. ideal: (T,) the point R2 starts from. members:
    (m, T) the non-dominated set of all arms' and seeds' fronts, for IGD+ and epsilon.
    """

    corner: Floats
    ideal: Floats
    members: Floats


def indicator_table(comparison: Comparison) -> pd.DataFrame:
    """Return one row an arm, the baseline too, and seed with a finished run, with COLUMNS.

    An arm's front of a seed: its runs that are non-dominated on the selection split, with their
    losses on the reporting split, in the normalised units of the comparison. The reference point
    is the comparison's; the reference set and R2's ideal are the same for all (`reference_of`).

    runs: finished runs. hypervolume: of the front (`front.hypervolume`: approximate for many
    tasks). igd_plus: mean distance from the reference set to what the front dominates (Ishibuchi
    et al. 2015). epsilon: how much better the front would have to be in every task to reach all of
    the reference set (Zitzler et al. 2003). r2: see `r2`. contribution: how much hypervolume the
    seed's front of all arms together loses without this arm, >= 0. dominated: share of the arm's
    runs that a run of any arm with the same seed dominates on the reporting split, in [0, 1];
    dominated_by_baseline: the same, by a run of the baseline.
    """
    runs = comparison.runs.normalised(comparison.normalisation)
    reference = reference_of(runs, comparison.normalisation.reference)
    rows: list[dict[str, object]] = []
    for seed in np.unique(runs.seed):
        rows += _seed_rows(runs.where(runs.seed == seed), reference, comparison.settings.baseline)
    order = {arm: i for i, arm in enumerate([comparison.settings.baseline, *comparison.rows.arm])}
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table.sort_values(
        ["arm", "seed"],
        key=lambda column: column.map(order) if column.name == "arm" else column,
        ignore_index=True,
    )


def indicator_means(table: pd.DataFrame) -> pd.DataFrame:
    """Return one row an arm: each indicator's mean over seeds, and seeds, how many there are."""
    means = table.drop(columns="seed").groupby("arm", sort=False).mean()
    means.insert(0, "seeds", table.groupby("arm", sort=False).size())
    return means.reset_index()


def reference_of(runs: Runs, corner: float) -> Reference:
    """Return the reference for normalised runs: their pooled front, and the ideal below it.

    ideal: 0, the comparison's ideal, or the smallest loss of the pooled front where test losses lie
    below it. A later arm can move both: indicators belong to one report.
    """
    arms = [runs.where(runs.arm == arm) for arm in np.unique(runs.arm.astype(str))]
    members = front(np.concatenate([points for part in arms for points in attained_by_seed(part)]))
    tasks = len(runs.tasks)
    return Reference(np.full(tasks, corner), np.minimum(members.min(axis=0), 0.0), members)


def r2(points: ArrayLike, ideal: ArrayLike) -> float:
    """Return the mean over weights of the smallest weighted Tchebycheff distance to the ideal.

    points: (n, T), n >= 1, none below ideal (T,). >= 0, smaller is better. Two tasks: exact, the
    integral over all weights (moocore, Schäpermeier and Kerschke 2025). Else the mean over
    `simplex_weights` (Hansen and Jaszkiewicz 1998; Brockhoff et al. 2012). Raises ValueError for
    NaN or inf.
    """
    gaps = check_points(points) - np.asarray(ideal, dtype=np.float64)
    if gaps.shape[1] == 2:
        return float(moocore.r2_exact(gaps, ref=0.0))
    weighted = simplex_weights(gaps.shape[1])[:, None, :] * gaps[None, :, :]
    return float(weighted.max(axis=2).min(axis=1).mean())


def dominated_by(points: ArrayLike, others: ArrayLike) -> NDArray[np.bool_]:
    """Return (n,) which points (n, T) some other (m, T) dominates. Equal points do not."""
    rows, members = check_points(points), front(check_points(others, "others"))
    found = np.zeros(len(rows), dtype=np.bool_)
    for member in members:
        found |= (member <= rows).all(axis=1) & (member < rows).any(axis=1)
    return found


def _seed_rows(runs: Runs, reference: Reference, baseline: str) -> list[dict[str, object]]:
    """One seed: a row for each arm that has finished runs."""
    parts = {str(arm): runs.where(runs.arm == arm) for arm in dict.fromkeys(runs.arm)}
    fronts = {arm: attained_losses(part) for arm, part in parts.items()}
    volume = hypervolume(np.concatenate(list(fronts.values())), reference.corner)
    rows = []
    for arm, part in parts.items():
        rest = [members for other, members in fronts.items() if other != arm]
        without = hypervolume(np.concatenate(rest), reference.corner) if rest else 0.0
        base = parts.get(baseline)
        by_base = np.nan if base is None else dominated_by(part.report, base.report).mean()
        row = {
            "arm": arm,
            "seed": int(part.seed[0]),
            "runs": len(part.run),
            "hypervolume": hypervolume(fronts[arm], reference.corner),
            "igd_plus": float(moocore.igd_plus(fronts[arm], ref=reference.members)),
            "epsilon": float(moocore.epsilon_additive(fronts[arm], ref=reference.members)),
            "r2": r2(fronts[arm], reference.ideal),
            # Approximate volumes may differ by less than their error.
            "contribution": max(volume - without, 0.0),
            "dominated": float(dominated_by(part.report, runs.report).mean()),
            "dominated_by_baseline": float(by_base),
        }
        rows.append(row)
    return rows
