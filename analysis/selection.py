"""From records to one checkpoint a run, the same for all tasks, chosen on the selection split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .errors import ComparisonError
from .front import is_nondominated
from .normalisation import Normalisation
from .records import DIVERGED, PASSES

CHECKPOINTS = ("best", "last")
"""Which evaluation of a run counts: the lowest mean normalised selection loss, or the last one."""

POINT = "#point"
"""Between a run's name and the number of one of its points."""

Strings = NDArray[np.object_]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Runs:
    """Finished runs, one row each: n runs, T tasks.

    run, arm: (n,) names. seed: (n,). group: (n,) equal for runs with equal fixed weights; a run
    without weights is a group of its own. step: (n,) the checkpoint that counts. select, report:
    (n, T) losses at that checkpoint on the selection and the reporting split.
    """

    tasks: tuple[str, ...]
    run: Strings
    arm: Strings
    seed: NDArray[np.int64]
    group: Strings
    step: NDArray[np.int64]
    select: Floats
    report: Floats

    def where(self, mask: NDArray[np.bool_]) -> Runs:
        """Return the runs for which the mask (n,) is true."""
        return Runs(
            self.tasks, self.run[mask], self.arm[mask], self.seed[mask], self.group[mask],
            self.step[mask], self.select[mask], self.report[mask],
        )  # fmt: skip

    def normalised(self, unit: Normalisation) -> Runs:
        """Return the same runs with losses in normalised units."""
        return replace(self, select=unit(self.select), report=unit.reported(self.report))


def attained_losses(runs: Runs) -> Floats:
    """Return the reported losses (m, T) of the runs that are non-dominated on selection."""
    return runs.report[is_nondominated(runs.select)]


def attained_by_seed(runs: Runs) -> list[Floats]:
    """Return `attained_losses` of each seed's runs, in the order of the seeds."""
    return [attained_losses(runs.where(runs.seed == seed)) for seed in np.unique(runs.seed)]


def points_apart(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the records with a run of its own for every place on the front that one run shows.

    A run whose records name several weight vectors trained several networks together, which show
    a whole front. Its points are called run#point1, run#point2, … in the order of the records; what
    the records say of the run as a whole is said of each. Other runs stay as they are.
    """
    weights = [f"w_{task}" for task in tasks_of(frame)]
    places = frame[frame[weights].notna().all(axis=1)].drop_duplicates(["run", *weights])
    several = places["run"].value_counts()
    shared = frame["run"].isin(several[several > 1].index)
    if not shared.any():
        return frame
    places = places[places["run"].isin(several[several > 1].index)][["run", *weights]].copy()
    places["point"] = places["run"] + POINT + (places.groupby("run").cumcount() + 1).astype(str)
    own = frame[shared]
    whole = own[own[weights].isna().any(axis=1)].drop(columns=weights).merge(places, on="run")
    parts = own.merge(places, on=["run", *weights])
    apart = pd.concat([parts, whole]).assign(run=lambda rows: rows["point"])
    return pd.concat([frame[~shared], apart[frame.columns]], ignore_index=True)


def training_of(run: object) -> str:
    """Return the run that a point of a front belongs to; any other run is its own."""
    return str(run).partition(POINT)[0]


def tasks_of(frame: pd.DataFrame) -> tuple[str, ...]:
    """Return the tasks in the problem's order, as the weight columns name them."""
    tasks = tuple(str(name)[2:] for name in frame.columns if str(name).startswith("w_"))
    if not tasks:
        raise ComparisonError(
            f"records need one column w_<task> a task; found the columns {list(frame.columns)}. "
            f"For results from elsewhere use compare_table"
        )
    return tasks


def run_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Return one row a run, indexed by run: arm, seed, group, diverged, backward_passes.

    Diverged runs are in it. backward_passes is NaN for a run that recorded none.
    """
    weights = [f"w_{task}" for task in tasks_of(frame)]
    first = frame.drop_duplicates("run").set_index("run")
    table = first[["arm", "seed"]].copy()
    table["group"] = group_names(first[weights].to_numpy(np.float64), first.index)
    table["diverged"] = first.index.isin(frame.loc[frame["measure"] == DIVERGED, "run"])
    passes = frame[frame["measure"] == PASSES].groupby("run")["value"].max()
    table[PASSES] = passes.reindex(first.index).astype(np.float64)
    return table


def group_names(weights: Floats, runs: Sequence[str] | pd.Index) -> Strings:
    """Return (n,) one name for equal weight vectors (n, T); the run's own name where one is NaN.

    Weights are compared to nine digits: a grid computed twice may differ in the last bits.
    """
    names = [
        ",".join(f"{weight:.9g}" for weight in row) if np.isfinite(row).all() else f"run {run}"
        for row, run in zip(weights, runs, strict=True)
    ]
    return np.array(names, dtype=object)


def edge_vectors(weights: Floats) -> int:
    """Return how many distinct weight vectors there are, if each gives some task none; else 0.

    weights: (n, T), one row a run. A run without fixed weights (NaN) may train every task.
    """
    if not len(weights) or not (weights == 0).any(axis=1).all():
        return 0
    return len(np.unique(weights.round(9), axis=0))


def evaluations(
    frame: pd.DataFrame, objective: str, splits: Sequence[str], runs: Sequence[str] | pd.Index
) -> pd.DataFrame:
    """Return the losses of every evaluation of the runs: rows (run, step), columns (split, task).

    Rows are sorted by run and step. Only evaluations with all tasks on all the splits can count,
    and the untrained network (step 0) does not: where it happens to lie is no method's merit.

    Raises ComparisonError for a measure, split or task without records, for a run without a
    complete evaluation, for two values of one thing, and for NaN or inf in a run not recorded as
    diverged.
    """
    tasks = tasks_of(frame)
    wanted = frame["run"].isin(list(runs)) & (frame["measure"] == objective)
    wanted &= frame["split"].isin(list(splits)) & frame["task"].isin(tasks) & (frame["step"] > 0)
    keys = ["run", "step", "split", "task"]
    values = frame.loc[wanted].set_index(keys)["value"]
    if values.index.has_duplicates:
        twice = values.index[values.index.duplicated()][0]
        raise ComparisonError(
            f"each (run, step, split, task) has one {objective}; found two for {twice}"
        )
    columns = pd.MultiIndex.from_product([dict.fromkeys(splits), tasks], names=["split", "task"])
    bad = values[~np.isfinite(values.to_numpy(np.float64))]
    if len(bad):
        raise ComparisonError(
            f"the {objective} of a run that did not diverge is finite; found {bad.iloc[0]} at "
            f"(run, step, split, task) = {bad.index[0]}"
        )
    wide = values.unstack(["split", "task"]).reindex(columns=columns).dropna().sort_index()
    found = set(wide.index.get_level_values("run"))
    lost = [run for run in runs if run not in found]
    if lost:
        raise ComparisonError(
            f"every finished run needs an evaluation with the measure {objective!r} for the tasks "
            f"{list(tasks)} on the splits {list(dict.fromkeys(splits))}; {len(lost)} runs have "
            f"none, among them {lost[0]}. Measures found: {sorted(frame['measure'].unique())}"
        )
    return wide


def last_losses(wide: pd.DataFrame, split: str) -> pd.DataFrame:
    """Return each run's losses on a split at its last evaluation, indexed by run, columns tasks."""
    losses = pd.DataFrame(wide[split])
    return losses.groupby(level="run").tail(1).droplevel("step")


def select(
    wide: pd.DataFrame, unit: Normalisation, select_on: str, checkpoint: str
) -> pd.Series[int]:
    """Return the step of the evaluation that counts, indexed by run: one for all tasks.

    checkpoint "best": the lowest mean over tasks of the normalised loss on `select_on`, the
    earliest of equals. "last": the last evaluation. Raises ValueError for another word.
    """
    if checkpoint not in CHECKPOINTS:
        raise ValueError(f"checkpoint must be one of {CHECKPOINTS}; found {checkpoint!r}")
    steps = wide.index.get_level_values("step").to_series(index=wide.index)
    if checkpoint == "last":
        return steps.groupby(level="run").max()
    means = pd.Series(unit(wide[select_on].to_numpy()).mean(axis=1), index=wide.index)
    return steps.loc[means.groupby(level="run").idxmin()].droplevel("step")


def points(
    wide: pd.DataFrame, steps: pd.Series[int], table: pd.DataFrame, select_on: str, report_on: str
) -> Runs:
    """Return the runs at their checkpoints, in the order of the run table."""
    order = [run for run in table.index if run in steps.index]
    chosen = wide.loc[list(zip(order, steps.loc[order], strict=True))]
    about = table.loc[order]
    return Runs(
        tasks=tuple(str(task) for task in wide[select_on].columns),
        run=np.array(order, dtype=object),
        arm=about["arm"].to_numpy(dtype=object),
        seed=about["seed"].to_numpy(dtype=np.int64),
        group=about["group"].to_numpy(dtype=object),
        step=np.asarray(steps.loc[order], dtype=np.int64),
        select=chosen[select_on].to_numpy(np.float64),
        report=chosen[report_on].to_numpy(np.float64),
    )
