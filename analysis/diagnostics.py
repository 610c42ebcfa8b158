"""What runs recorded of their tasks' gradients and weights, summed up arm by arm over epochs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from .records import DIVERGED, GRADIENTS, NORM, WEIGHT
from .verdict import Comparison

GRADIENT_COLUMNS = ("arm", "epoch", "measure", "task", "mean", "low", "high", "seeds", "runs")
SHOWN = 8
"""Tasks with a column of their own in a table for people."""
WEIGHT_COLUMNS = ("arm", "epoch", "task", "share", "low", "high", "seeds", "runs", "moved")


def gradient_table(comparison: Comparison, frame: pd.DataFrame) -> pd.DataFrame:
    """Return conflict rate, cosine, magnitude similarity and norms: GRADIENT_COLUMNS.

    mean: over seeds of the means over an arm's runs that did not diverge; low, high: Student's
    interval over seeds, NaN for fewer than two. task: empty but for the norms, each a task's. No
    rows for records without diagnostics.
    """
    rows = _recorded(comparison, frame, (*GRADIENTS, NORM))
    found = _over_seeds(rows, ["arm", "epoch", "measure", "task"], comparison)
    return found[list(GRADIENT_COLUMNS)]


def weight_table(comparison: Comparison, frame: pd.DataFrame) -> pd.DataFrame:
    """Return how arms weighed their tasks: WEIGHT_COLUMNS.

    share: a task's mean weight over the steps since the evaluation before, over the sum of the
    absolute weights of all tasks; the mean over seeds of the means over an arm's runs that did not
    diverge. low, high: Student's interval over seeds. moved: how far a share of a run lies from the
    same share at another evaluation, at most, over tasks and evaluations; the mean over the arm's
    runs. No rows for methods without weights, or for records without diagnostics.
    """
    rows = _recorded(comparison, frame, (WEIGHT,))
    sums = rows["value"].abs().groupby([rows["run"], rows["step"]]).transform("sum")
    rows = rows.assign(value=rows["value"] / sums.where(sums > 0)).dropna(subset="value")
    shares = rows.groupby(["arm", "run", "task"], sort=False)["value"]
    ranges = (shares.max() - shares.min()).groupby(level=["arm", "run"], sort=False).max()
    found = _over_seeds(rows, ["arm", "epoch", "task"], comparison)
    found["moved"] = found["arm"].map(ranges.groupby(level="arm").mean())
    return found.rename(columns={"mean": "share"})[list(WEIGHT_COLUMNS)]


def last_of(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of each arm's last evaluation."""
    return table[table["epoch"] == table.groupby("arm")["epoch"].transform("max")]


def gradient_summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return one row an arm: what its gradients were like at the last evaluation.

    Columns: arm; conflict, cosine and similarity (the GRADIENTS in short), each with _low and
    _high; norm_ratio, the largest mean norm of a task over the smallest.
    """
    rows = last_of(table)
    found = pd.DataFrame({"arm": rows["arm"].unique()})
    for measure, short in zip(GRADIENTS, ("conflict", "cosine", "similarity"), strict=True):
        own = rows[rows["measure"] == measure].set_index("arm")
        for name, column in (("mean", short), ("low", f"{short}_low"), ("high", f"{short}_high")):
            found[column] = found["arm"].map(own[name])
    norms = rows[rows["measure"] == NORM].groupby("arm")["mean"]
    found["norm_ratio"] = found["arm"].map(norms.max() / norms.min())
    return found


def weight_summary(table: pd.DataFrame, tasks: Sequence[str]) -> pd.DataFrame:
    """Return one row an arm: how far its shares moved, and the shares at the last evaluation.

    Of the first SHOWN tasks.
    """
    rows, tasks = last_of(table), tasks[:SHOWN]
    shares = rows.pivot(index="arm", columns="task", values="share").reindex(columns=list(tasks))
    moved = rows.groupby("arm", sort=False)["moved"].first()
    shares = shares.reindex(moved.index)
    shares.columns = pd.Index([f"share of {task}" for task in tasks])
    return pd.concat([moved, shares], axis=1).reset_index(names="arm")


def _over_seeds(rows: pd.DataFrame, keys: list[str], comparison: Comparison) -> pd.DataFrame:
    """Means of every seed's means, with an interval, in the order of the rows."""
    own = rows.groupby([*keys, "seed"], sort=False)["value"].mean().groupby(level=keys, sort=False)
    found = own.agg(["mean", "std", "count"]).rename(columns={"count": "seeds"})
    tail = (1 - comparison.settings.confidence) / 2
    quantile = stats.t.isf(tail, np.maximum(found["seeds"] - 1, 1))
    reach = quantile * found["std"] / np.sqrt(found["seeds"])
    found["low"], found["high"] = found["mean"] - reach, found["mean"] + reach
    found["runs"] = rows.groupby(keys, sort=False)["run"].nunique()
    return found.reset_index()


def _recorded(comparison: Comparison, frame: pd.DataFrame, measures: Sequence[str]) -> pd.DataFrame:
    """The records of some measures, of finished runs, arm by arm, the baseline first."""
    arms = [comparison.settings.baseline, *comparison.rows["arm"]]
    rows = frame[frame["measure"].isin(measures)]
    diverged = frame.loc[frame["measure"] == DIVERGED, "run"].unique()
    rows = rows[rows["arm"].isin(arms) & ~rows["run"].isin(diverged)]
    order = rows["arm"].map({arm: k for k, arm in enumerate(arms)})
    return rows.assign(order=order).sort_values(["order", "epoch"], kind="stable")
