"""What a verdict owes to the grid of learning rates: tuned results over grids and over seeds.

Xin, Ghorbani, Gilmer, Garg, Firat, "Do Current Multi-Task Optimization Methods in Deep Learning
Even Help?", NeurIPS 2022, arXiv 2209.11379, figure 6.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from .selection import Runs, training_of
from .sources import MEAN, Specs
from .verdict import Comparison

COLUMNS = (
    "arm", "task", "grids", "seeds", "grid_sd", "grid_low", "grid_high", "seed_sd", "seed_low",
    "seed_high", "ratio", "ratio_low", "ratio_high",
)  # fmt: skip

Floats = NDArray[np.float64]


def grid_table(comparison: Comparison, specs: Specs) -> pd.DataFrame:
    """Return how far an arm's tuned result moves with the grid, and with the seed: COLUMNS.

    An arm's learning rates are cut into coarse grids, one a decade (the paper's {k · 10⁻³}, {k ·
    10⁻²}, {k · 10⁻¹}), or one a rate where all lie in one decade. Within a grid and a seed the run
    with the lowest mean normalised loss on the selection split is taken, and its normalised losses
    on the reporting split are the result, task by task and their mean, MEAN.

    grid_sd: standard deviation over grids, the root of its mean square over seeds. seed_sd: over
    seeds, the same over grids. low, high: intervals by the jackknife over seeds on a logarithmic
    scale, NaN for fewer than three seeds. ratio: grid_sd over seed_sd, NaN if that is 0. Seeds
    without a finished run in every grid are left out; so are arms with one grid or fewer than two
    such seeds.
    """
    runs = comparison.runs.normalised(comparison.normalisation)
    rows: list[dict[str, object]] = []
    for arm in (comparison.settings.baseline, *comparison.rows["arm"]):
        own = runs.where(runs.arm == arm)
        table = _tuned(own, specs)
        if table.shape[0] > 1 and table.shape[1] > 1:
            rows += [
                {"arm": str(arm), "task": task, **_row(table[..., k], comparison)}
                for k, task in enumerate((*runs.tasks, MEAN))
            ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _tuned(runs: Runs, specs: Specs) -> Floats:
    """The results (grids, seeds, T + 1); seeds that lack one are left out."""
    rates = np.array([float(specs[training_of(run)]["lr"]) for run in runs.run])
    grids = decades(rates)
    names = np.unique(grids)
    results = []
    for seed in np.unique(runs.seed):
        parts = [runs.where((runs.seed == seed) & (grids == name)) for name in names]
        if all(len(part.run) for part in parts):
            best = [part.report[part.select.mean(axis=1).argmin()] for part in parts]
            results.append([[*losses, losses.mean()] for losses in best])
    empty = np.empty((len(names), 0, len(runs.tasks) + 1))
    return np.array(results).transpose(1, 0, 2) if results else empty


def decades(rates: Floats) -> NDArray[np.int64]:
    """Return the grid (n,) of each rate: its decade, or the rate itself where there is but one."""
    # 1e-3 belongs to its own decade, whatever its last bit
    found = np.floor(np.log10(rates) + 1e-9).astype(np.int64)
    if len(np.unique(found)) > 1:
        return found
    return np.unique(rates, return_inverse=True)[1].astype(np.int64)


def _row(table: Floats, comparison: Comparison) -> dict[str, object]:
    """The numbers of one arm and task from its results (grids, seeds)."""
    confidence, row = comparison.settings.confidence, {}
    wanted: dict[str, Callable[[Floats], float]] = {
        "grid": lambda t: _spread(t, axis=0),
        "seed": lambda t: _spread(t, axis=1),
        "ratio": _ratio,
    }
    for name, statistic in wanted.items():
        low, high = _jackknife(table, statistic, confidence)
        row[name if name == "ratio" else f"{name}_sd"] = statistic(table)
        row[f"{name}_low"], row[f"{name}_high"] = low, high
    return {"grids": table.shape[0], "seeds": table.shape[1], **row}


def _spread(table: Floats, axis: int) -> float:
    return float(np.sqrt(table.var(axis=axis, ddof=1).mean()))


def _ratio(table: Floats) -> float:
    """The spread over grids over that over seeds; NaN where seeds make no difference."""
    seeds = _spread(table, axis=1)
    return _spread(table, axis=0) / seeds if seeds else math.nan


def _jackknife(
    table: Floats, statistic: Callable[[Floats], float], confidence: float
) -> tuple[float, float]:
    """The interval of a positive statistic, each seed left out in turn (Tukey 1958)."""
    seeds = table.shape[1]
    if seeds < 3:
        return math.nan, math.nan
    left = np.array([statistic(np.delete(table, k, axis=1)) for k in range(seeds)])
    whole = statistic(table)
    if not (np.isfinite(left).all() and (left > 0).all() and 0 < whole < math.inf):
        return math.nan, math.nan
    logs = np.log(left)
    error = math.sqrt((seeds - 1) / seeds * ((logs - logs.mean()) ** 2).sum())
    reach = math.exp(float(stats.t.isf((1 - confidence) / 2, seeds - 1)) * error)
    return whole / reach, whole * reach
