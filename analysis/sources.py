"""Where the spread of an arm's results comes from: settings, learning rates, seeds, the rest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .records import STOPPED
from .selection import POINT, Runs, training_of
from .variance import Component, Factor, components
from .verdict import Comparison

COLUMNS = (
    "arm", "task", "source", "levels", "freedom", "runs", "sd", "low", "high", "share",
)  # fmt: skip
SOURCES = ("setting", "learning_rate", "setting_and_rate", "seed", "restart", "residual")
MEAN = "(mean)"
"""Stands for the mean over tasks where a task is named."""
LARGEST = 1_000
"""Runs of an arm that are analysed; with more, settings are thinned evenly."""

MERGED = ((), ("restart",), ("restart", "setting_and_rate"))
"""Sources that become part of the residual, tried in turn: without repetition there would be none.
With one setting and one rate, restarts are what is repeated; with one seed, nothing is."""

Specs = Mapping[str, Mapping[str, Any]]
Floats = NDArray[np.float64]


def variance_table(comparison: Comparison, frame: pd.DataFrame, specs: Specs) -> pd.DataFrame:
    """Return the standard deviation that each source gives an arm's losses: COLUMNS.

    Of the runs' normalised losses on the reporting split, at their checkpoints, for each task and
    for their mean over tasks, MEAN. Diverged runs and those that a scheduler stopped are not among
    them. specs: the manifest's runs.

    setting: an arm's weights, hyper-parameters and weight decay. learning_rate: its own effect,
    the same for all settings. setting_and_rate: what a rate does to some settings more than to
    others. seed: what all runs of a seed share: the start of the network, the order of the
    minibatches and the method's random numbers all follow from it. restart: the same for trainings
    that differ in nothing but these, within a seed; where nothing else differs within a seed, they
    are the residual. residual: what none of them explains. A source with one level, or one that
    cannot be told from those before it, has no row. sd, low, high: the estimate and its interval,
    see `variance.components`; NaN without degrees of freedom for the residual. share: of the sum of
    the variances. freedom: degrees of freedom.
    """
    runs = comparison.runs.normalised(comparison.normalisation)
    stopped = set(frame.loc[frame["measure"] == STOPPED, "run"])
    ended = np.array(
        [run in stopped or training_of(run) in stopped for run in runs.run], dtype=np.bool_
    )
    rows: list[dict[str, object]] = []
    for arm in (comparison.settings.baseline, *comparison.rows["arm"]):
        own = _thinned(runs.where((runs.arm == arm) & ~ended), specs)
        if len(own.run):
            rows += _rows(str(arm), own, specs, comparison.settings.confidence)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def deviations(table: pd.DataFrame) -> pd.DataFrame:
    """Return one row an arm: arm, runs, and sd of the mean loss by source, of the sources found."""
    rows = table[table["task"] == MEAN]
    wide = rows.pivot(index="arm", columns="source", values="sd")
    wide = wide[[source for source in SOURCES if source in wide]]
    runs = rows.groupby("arm", sort=False)["runs"].first()
    return pd.concat([runs, wide.reindex(runs.index)], axis=1).reset_index(names="arm")


def setting_of(run: object, specs: Specs) -> str:
    """Return what an arm's run is, beside learning rate, seed and restart, as one text."""
    spec = specs[training_of(run)]
    parts = [spec.get(name) for name in ("method", "weights", "hyper", "treatment")]
    decay = (spec.get("optimizer") or {}).get("weight_decay")
    return json.dumps([*parts, decay, str(run).partition(POINT)[2]], sort_keys=True)


def _rows(arm: str, runs: Runs, specs: Specs, confidence: float) -> list[dict[str, object]]:
    losses = np.column_stack([runs.report, runs.report.mean(axis=1)])
    for left_out in MERGED:
        found = components(losses, _factors(runs, specs, left_out), confidence)
        if found["residual"].freedom:
            break
    names = (*runs.tasks, MEAN)
    variances = np.array([one.variance for one in found.values()])
    total = np.nansum(variances, axis=0)
    return [
        {
            "arm": arm,
            "task": task,
            "source": source,
            "levels": one.levels,
            "freedom": one.freedom,
            "runs": len(runs.run),
            **_deviations(one, k),
            "share": one.variance[k] / total[k] if total[k] > 0 else np.nan,
        }
        for k, task in enumerate(names)
        for source, one in found.items()
        if one.freedom
    ]


def _deviations(one: Component, column: int) -> dict[str, float]:
    """Standard deviations of what a component says as variances."""
    numbers = {"sd": one.variance, "low": one.low, "high": one.high}
    return {name: float(np.sqrt(values[column])) for name, values in numbers.items()}


def _factors(runs: Runs, specs: Specs, left_out: tuple[str, ...]) -> dict[str, Factor]:
    """The sources of one arm's runs, in the order in which they are adjusted for, but for some."""
    own = [specs[training_of(run)] for run in runs.run]
    settings = [setting_of(run, specs) for run in runs.run]
    rates = [spec["lr"] for spec in own]
    seeds = [int(seed) for seed in runs.seed]
    restarts = [(seed, spec.get("restart", 0)) for seed, spec in zip(seeds, own, strict=True)]
    cells = list(zip(settings, rates, strict=True))
    cell = ("setting", "learning_rate", "setting_and_rate")
    found = {
        "setting": Factor(settings, True, ("learning_rate",)),
        "learning_rate": Factor(rates, True, ("setting",)),
        "setting_and_rate": Factor(cells, True, ("setting", "learning_rate")),
        "seed": Factor(seeds, False, cell, within="restart"),
        "restart": Factor(restarts, False, (*cell, "seed")),
    }
    return {
        name: replace(factor, given=tuple(set(factor.given) - set(left_out)))
        for name, factor in found.items()
        if name not in left_out
    }


def _thinned(runs: Runs, specs: Specs) -> Runs:
    """At most LARGEST runs: some of the settings, evenly, with all their rates and seeds."""
    if len(runs.run) <= LARGEST:
        return runs
    settings = np.array([setting_of(run, specs) for run in runs.run])
    names = pd.unique(settings)
    count = max(1, len(names) * LARGEST // len(runs.run))
    kept = names[np.linspace(0, len(names) - 1, count).astype(int)]
    return runs.where(np.isin(settings, kept))
