"""Δm: how much worse than single-task training an arm is, averaged over metrics or over tasks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from .records import NORM, WEIGHT
from .selection import POINT, points_apart
from .verdict import Comparison

NEARLY_ALL = 0.9
"""With at least this share of the weight on one task, a run can stand in for training on it."""
COLUMNS = ("arm", "seeds", "metric_mean", "metric_sd", "task_mean", "task_sd")


@dataclass(frozen=True)
class Relative:
    """Δm of every arm, and what it is relative to.

    rows: one an arm with COLUMNS, in per cent, negative is better than single-task training; empty
    where there is nothing to be relative to. source: where the single-task losses come from, or why
    there are none, as a sentence.
    """

    rows: pd.DataFrame
    source: str


def delta_m(comparison: Comparison, frame: pd.DataFrame, single: str | None = None) -> Relative:
    """Return Δm of each arm's run with the lowest mean normalised selection loss.

    frame: the records. single: the name of an arm of single-task runs; without it, the runs with at
    least NEARLY_ALL of the weight on a task: real single-task runs where it is all of the weight.
    Of a task's candidates the one with the lowest selection loss counts, per seed.

    Δ of a metric k of task t is 100 (m - m_single) / |m_single| on the reporting split, every
    metric minimised. metric_mean: mean over all metrics of all tasks (Maninis et al. 2019, eq. 4,
    as reported since), which gives a task with many metrics more say. task_mean: mean over tasks
    of each task's mean. Mean and standard deviation over seeds. NaN where a single-task metric is
    0.
    """
    values = _metrics(comparison, frame)
    candidates = _candidates(comparison, frame, single)
    empty = pd.DataFrame(columns=list(COLUMNS))
    lost = [task for task, owners in candidates.items() if not owners]
    if lost:
        return Relative(
            empty,
            f"No single-task reference for {', '.join(lost)}: no finished run has {NEARLY_ALL:.0%} "
            f"or more of its weight on it, so there is no Δm.",
        )
    rows = [_row(arm, group) for arm, group in _deltas(comparison, values, candidates)]
    return Relative(pd.DataFrame(rows, columns=list(COLUMNS)), _source(frame, candidates, single))


def _candidates(
    comparison: Comparison, frame: pd.DataFrame, single: str | None
) -> dict[str, set[str]]:
    """For each task the finished runs that can stand for training on it alone."""
    tasks = comparison.runs.tasks
    names = [f"w_{task}" for task in tasks]
    first = frame.drop_duplicates("run").set_index("run")[["arm", *names]]
    # A point of a whole front was trained together with the others.
    first = first[first.index.isin(comparison.runs.run) & ~first.index.str.contains(POINT)]
    if single is not None:
        first = first[first["arm"] == single]
    share = first[names].div(first[names].sum(axis=1), axis=0)
    return {task: set(share.index[share[f"w_{task}"] >= NEARLY_ALL].astype(str)) for task in tasks}


def _metrics(comparison: Comparison, frame: pd.DataFrame) -> pd.DataFrame:
    """Each run's measures at its checkpoint: rows run, columns (task, measure)."""
    runs = comparison.runs
    rows = points_apart(frame)
    rows = rows[(rows["split"] == comparison.settings.report_on) & rows["task"].isin(runs.tasks)]
    rows = rows[~rows["measure"].isin((NORM, WEIGHT))]
    steps = pd.DataFrame({"run": runs.run, "step": runs.step})
    kept = rows.merge(steps, on=["run", "step"])
    return kept.pivot_table(index="run", columns=["task", "measure"], values="value")


def _deltas(
    comparison: Comparison, values: pd.DataFrame, candidates: dict[str, set[str]]
) -> list[tuple[str, list[pd.Series[float]]]]:
    """For each arm a list, one entry a seed: Δ of every (task, measure) in per cent."""
    runs = comparison.runs
    mean = comparison.normalisation(runs.select).mean(axis=1)
    found = []
    for arm in (comparison.settings.baseline, *comparison.rows["arm"]):
        deltas = []
        for seed in np.unique(runs.seed):
            reference = _reference(comparison, values, candidates, int(seed))
            own = np.flatnonzero((runs.arm == arm) & (runs.seed == seed))
            if reference is not None and len(own):
                chosen = values.loc[runs.run[own[mean[own].argmin()]]]
                scale = reference.abs().where(reference != 0)
                deltas.append(100 * (chosen - reference) / scale)
        found.append((str(arm), deltas))
    return found


def _reference(
    comparison: Comparison, values: pd.DataFrame, candidates: dict[str, set[str]], seed: int
) -> pd.Series[float] | None:
    """The single-task measures of a seed; None where a task has no candidate of that seed."""
    runs = comparison.runs
    parts = []
    for i, task in enumerate(runs.tasks):
        own = [k for k in np.flatnonzero(runs.seed == seed) if str(runs.run[k]) in candidates[task]]
        if not own:
            return None
        best = runs.run[own[int(runs.select[own, i].argmin())]]
        row = values.loc[best]
        parts.append(row[row.index.get_level_values("task") == task])
    joined: pd.Series[float] = pd.concat(parts).reindex(values.columns)
    return joined


def _row(arm: str, deltas: list[pd.Series[float]]) -> dict[str, object]:
    """Both means of each seed, then over seeds."""
    metric = np.array([delta.mean(skipna=False) for delta in deltas])
    task = np.array(
        [delta.groupby(level="task").agg(lambda d: d.mean(skipna=False)).mean(skipna=False)
         for delta in deltas]
    )  # fmt: skip
    row: dict[str, object] = {"arm": arm, "seeds": len(deltas)}
    for name, numbers in (("metric", metric), ("task", task)):
        row[f"{name}_mean"] = numbers.mean() if len(numbers) else np.nan
        row[f"{name}_sd"] = numbers.std(ddof=1) if len(numbers) > 1 else np.nan
    return row


def _source(frame: pd.DataFrame, candidates: dict[str, set[str]], single: str | None) -> str:
    """Where the single-task losses come from."""
    if single is not None:
        return f"Relative to the runs of {single}, per task the best one on the selection split."
    names = [f"w_{task}" for task in candidates]
    first = frame.drop_duplicates("run").set_index("run")
    used = first.loc[sorted(set().union(*candidates.values())), names]
    share = used.max(axis=1) / used.sum(axis=1)
    if (share == 1).all():
        return "Relative to runs with all of their weight on one task, per task and seed the best."
    return (
        f"Relative to the ends of the weight sweep, runs with {share.min():.2g} or more of their "
        f"weight on one task, per task and seed the best on the selection split: nearly, not "
        f"quite, single-task training."
    )
