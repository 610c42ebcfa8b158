"""The verdict on each arm: does it beat, match or trail the tuned baseline, and how surely?"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from .decision import statistics, verdict
from .effort import equivalent_runs
from .errors import ComparisonError
from .normalisation import Normalisation, fit, reported_on
from .records import PASSES
from .seeds import compare_seeds, other_arms, seeds_left_out
from .selection import (
    Runs,
    edge_vectors,
    evaluations,
    last_losses,
    points,
    points_apart,
    run_table,
    select,
    tasks_of,
    training_of,
)
from .settings import Settings

COLUMNS = (
    "arm", "verdict", "margin", "low", "high", "hypervolume_ratio", "equivalent_runs", "runs",
    "backward_passes",
)  # fmt: skip
VERDICTS = ("beats", "matches", "worse", "inconclusive")


@dataclass(frozen=True)
class Comparison:
    """A finished comparison, with everything that it rests on.

    rows: the verdicts, one row an arm other than the baseline, with COLUMNS. margins: one row an
    arm and seed, with `seeds.COLUMNS`. statistics: one row an arm, with `decision.COLUMNS`.
    left_out: for each arm the seeds that could not be compared. runs: every finished run at its
    checkpoint, in the problem's own losses. edge_vectors: how many weight vectors the baseline has
    if each gives some task none, else 0: its front then has no middle.
    """

    rows: pd.DataFrame
    margins: pd.DataFrame
    statistics: pd.DataFrame
    normalisation: Normalisation
    settings: Settings
    runs: Runs
    left_out: dict[str, list[int]]
    edge_vectors: int = 0


def compare(
    frame: pd.DataFrame,
    *,
    baseline: str = "scalarization",
    objective: str = "loss",
    select_on: str = "val",
    report_on: str = "test",
    equivalence: float = 0.05,
    confidence: float = 0.95,
    seed: int = 0,
    checkpoint: str = "best",
) -> pd.DataFrame:
    """Return one verdict row for each arm other than the baseline; see `judge` for the method.

    frame: records as `load` returns them. The columns are COLUMNS; `.attrs` holds the
    normalisation, the settings and the seeds left out, as plain values that travel with the table.
    """
    settings = Settings(
        baseline, objective, select_on, report_on, equivalence, confidence, seed, checkpoint
    )
    return judge(frame, settings).rows


def judge(frame: pd.DataFrame, settings: Settings | None = None) -> Comparison:
    """Return the comparison of every arm with the baseline.

    frame: records as `load` returns them. The normalisation is fixed first, from the baseline's
    losses on the selection split at each run's last evaluation; every run is then taken at one
    checkpoint for all tasks, and `judge_runs` compares them. The reporting split's losses are
    measured from where the baseline's lie there (`normalisation.reported_on`).

    Raises ComparisonError for records that do not allow it: no finished run of the baseline, a
    measure or a split that is not there, a run with two values of one thing.
    """
    chosen = settings or Settings()
    frame = points_apart(frame)
    table = run_table(frame)
    finished = table.index[~table["diverged"]]
    own = table.index[~table["diverged"] & (table["arm"] == chosen.baseline)]
    check_baseline(table, chosen.baseline)
    wide = evaluations(frame, chosen.objective, [chosen.select_on, chosen.report_on], finished)
    last = last_losses(wide, chosen.select_on).loc[own]
    unit = fit(tasks_of(frame), last.to_numpy(), table.loc[own, "seed"].to_numpy())
    steps = select(wide, unit, chosen.select_on, chosen.checkpoint)
    runs = points(wide, steps, table, chosen.select_on, chosen.report_on)
    mine = runs.arm == chosen.baseline
    unit = reported_on(unit, runs.select[mine], runs.report[mine])
    first = frame.drop_duplicates("run").set_index("run").loc[own]
    weights = first[[f"w_{task}" for task in runs.tasks]].to_numpy(np.float64)
    return replace(judge_runs(runs, table, unit, chosen), edge_vectors=edge_vectors(weights))


def check_baseline(table: pd.DataFrame, baseline: str) -> None:
    """Raise ComparisonError unless the run table holds a finished run of the baseline."""
    own = table[table["arm"] == baseline]
    if own["diverged"].all():
        found = (
            f"{len(own)} diverged ones" if len(own) else f"the arms {list(table['arm'].unique())}"
        )
        raise ComparisonError(
            f"a comparison needs a finished run of the baseline {baseline!r}; found {found}. "
            f"Finish its runs, or name another arm as the baseline"
        )


def judge_runs(
    runs: Runs, table: pd.DataFrame, unit: Normalisation, settings: Settings
) -> Comparison:
    """Return the comparison of runs whose checkpoints and units are fixed.

    table: one row a run, diverged ones too, as `selection.run_table` returns it.

    Per seed (`seeds.compare_seeds`) the arm's selected run lies a distance beyond the baseline's
    front, of which a placebo explains a part: the gaps of a finite weight grid, and the luck of as
    many tries. What is left is the margin; it is averaged over seeds. low, high: its interval, see
    `decision.evidence`. verdict: see `decision.verdict`; inconclusive with fewer than two seeds
    (low and high are NaN).

    hypervolume_ratio: mean over seeds of arm over baseline, one reference point for all; NaN if a
    baseline's is 0. equivalent_runs: see `effort`, inf if there is none. runs, backward_passes:
    what the arm cost over all seeds, diverged runs included; the passes are NaN where a run has
    none. A run that shows several points of a front counts once.
    """
    margins = compare_seeds(runs, table, unit, settings)
    arms = other_arms(table, settings.baseline)
    known = statistics(margins, arms, settings)
    rows = pd.DataFrame(
        [
            _arm_row(found, margins[margins["arm"] == found["arm"]], table, settings)
            for found in known.to_dict("records")
        ],
        columns=list(COLUMNS),
    )
    left_out = {arm: seeds_left_out(table, margins, arm, settings.baseline) for arm in arms}
    rows.attrs = {
        "normalisation": asdict(unit),
        "settings": asdict(settings),
        "left_out": {arm: seeds for arm, seeds in left_out.items() if seeds},
    }
    return Comparison(rows, margins, known, unit, settings, runs, rows.attrs["left_out"])


def _arm_row(
    found: Mapping[Hashable, Any], seeds: pd.DataFrame, table: pd.DataFrame, settings: Settings
) -> dict[str, object]:
    """One arm's verdict row from its statistics and its seeds' rows, of which there may be none."""
    own = table[table["arm"] == found["arm"]]
    paid = own[PASSES].groupby(own.index.map(training_of)).first()
    cost = {"runs": len(paid), PASSES: float(paid.sum(skipna=False))}
    if seeds.empty:
        numbers = dict.fromkeys(("hypervolume_ratio", "equivalent_runs"), math.nan)
    else:
        bases = seeds["hypervolume_baseline"].to_numpy(np.float64)
        ratios = seeds["hypervolume"].to_numpy(np.float64) / np.where(bases > 0, bases, np.nan)
        numbers = {
            "hypervolume_ratio": float(ratios.mean()),
            "equivalent_runs": equivalent_runs(seeds["good"].tolist(), seeds["drawn"].tolist()),
        }
    ends = found["low"], found["high"]
    word = verdict(*ends, settings.equivalence, found["p_holm"], 1 - settings.confidence)
    shown = {name: found[name] for name in ("arm", "margin", "low", "high")}
    return {**shown, "verdict": word, **numbers, **cost}
