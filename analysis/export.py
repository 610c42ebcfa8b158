"""Tables for other programs and for the report: verdict rows as plain values, runs, best runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from .normalisation import Normalisation
from .records import DIVERGED, PASSES, STOPPED
from .selection import Runs, training_of
from .verdict import Comparison

WHOLE = ("equivalent_runs", "runs", PASSES)
"""Verdict columns that count something."""


def verdict_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """Return the verdict rows for JSON: one dict an arm, null where a number is NaN or inf."""
    return [
        {str(name): _plain(str(name), value) for name, value in row.items()}
        for row in comparison.rows.to_dict("records")
    ]


def runs_table(runs: Runs, unit: Normalisation) -> pd.DataFrame:
    """Return one row a finished run: arm, seed, run, step, and its losses at that checkpoint.

    Columns select_<task> and report_<task> in the task's own loss; mean, the mean normalised loss
    on the selection split.
    """
    return pd.DataFrame(
        {
            "arm": runs.arm,
            "seed": runs.seed,
            "run": runs.run,
            "step": runs.step,
            **{f"select_{task}": runs.select[:, i] for i, task in enumerate(runs.tasks)},
            **{f"report_{task}": runs.report[:, i] for i, task in enumerate(runs.tasks)},
            "mean": unit(runs.select).mean(axis=1),
        }
    )


def best_runs(comparison: Comparison, specs: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """Return each arm's run with the lowest mean normalised loss on the selection split.

    specs: the manifest's runs. Columns: arm, run, seed, lr, weights, hyper, then report_<task>.
    """
    table = runs_table(comparison.runs, comparison.normalisation)
    best = table.loc[table.groupby("arm", sort=False)["mean"].idxmin()].set_index("run")
    own = [specs[training_of(str(run))] for run in best.index]
    best["lr"] = [spec["lr"] for spec in own]
    best["weights"] = [weights_text(spec.get("weights")) for spec in own]
    best["hyper"] = [hyper_text(spec.get("hyper")) for spec in own]
    reported = [f"report_{task}" for task in comparison.runs.tasks]
    columns = ["arm", "run", "seed", "lr", "weights", "hyper", *reported]
    return best.reset_index()[columns]


def normalisation_table(unit: Normalisation) -> pd.DataFrame:
    """Return one row a task: ideal, nadir and reference point in the task's own loss."""
    return pd.DataFrame(
        {
            "task": unit.tasks,
            "ideal": unit.ideal,
            "nadir": unit.nadir,
            "reference": unit.reference_losses(),
            "floored": [task in unit.floored for task in unit.tasks],
        }
    )


def prices(frame: pd.DataFrame, baseline: str) -> dict[str, float]:
    """Return for each arm the mean backward passes of a run over those of a baseline run.

    NaN where nothing was recorded. Runs that diverged or were stopped are left out: they took fewer
    steps.
    """
    shorter = frame.loc[frame["measure"].isin((DIVERGED, STOPPED)), "run"]
    passes = frame[(frame["measure"] == PASSES) & ~frame["run"].isin(shorter)]
    means = passes.groupby("arm")["value"].mean()
    base = float(means.get(baseline, np.nan))
    return {str(arm): float(means.get(arm, np.nan)) / base for arm in frame["arm"].unique()}


def weights_text(weights: Sequence[float] | None) -> str:
    """Return weights as people read them, nothing for none."""
    return "" if weights is None else ", ".join(f"{weight:.3g}" for weight in weights)


def hyper_text(hyper: Mapping[str, Any] | None) -> str:
    """Return hyper-parameters as name=value, nothing for none."""
    return ", ".join(f"{name}={value}" for name, value in (hyper or {}).items())


def _plain(name: str, value: Any) -> Any:
    """A JSON value: text, a whole number for counts, a float, or None."""
    if isinstance(value, str):
        return value
    number = float(value)
    if not math.isfinite(number):
        return None
    return int(number) if name in WHOLE else number
