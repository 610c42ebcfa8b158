"""Verdicts for results from elsewhere: a table with one row a run and one column a task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from .errors import ComparisonError, RecordsError
from .normalisation import fit
from .records import DIVERGED, PASSES
from .selection import Floats, Runs, edge_vectors, group_names
from .settings import Settings
from .table_cells import losses_of, named_cells, task_columns
from .verdict import Comparison, check_baseline, judge_runs

RESERVED = ("arm", "seed", "run", "method", "problem", "lr", DIVERGED, PASSES)
"""Columns of a table that are never tasks; so are those that start with w_."""


def read_table(path: str | Path) -> pd.DataFrame:
    """Return the table in a .csv or .parquet file, as `judge_table` takes it.

    Raises RecordsError for a file that is not there, cannot be read or has another ending.
    """
    source = Path(path)
    readers: dict[str, Callable[[Path], pd.DataFrame]] = {
        ".csv": pd.read_csv,
        ".parquet": pd.read_parquet,
    }
    if source.suffix not in readers:
        raise RecordsError(f"{source}: a table ends in {' or '.join(readers)}")
    try:
        return readers[source.suffix](source)
    except (OSError, ValueError) as error:
        raise RecordsError(f"{source} cannot be read ({error})") from error


def compare_table(
    table: pd.DataFrame,
    *,
    baseline: str = "scalarization",
    tasks: Sequence[str] | None = None,
    maximise: Sequence[str] = (),
    equivalence: float = 0.05,
    confidence: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Return verdict rows for a table of results from elsewhere; see `judge_table`."""
    settings = Settings(
        baseline=baseline, equivalence=equivalence, confidence=confidence, seed=seed
    )
    return judge_table(table, settings, tasks, maximise).rows


def judge_table(
    table: pd.DataFrame,
    settings: Settings | None = None,
    tasks: Sequence[str] | None = None,
    maximise: Sequence[str] = (),
) -> Comparison:
    """Return the comparison for a table with one row a run.

    Columns: arm, seed (integers), one a task, smaller is better unless it is named in `maximise`:
    such a column's sign is flipped here, once. Optional: run (a unique name), diverged (true or
    false), backward_passes, and w_<task>, the fixed weights of the baseline's runs. Without weights
    each run counts as a point of the grid by itself. tasks: the task columns; by default all
    columns that have no other meaning here.

    A table holds one loss a run and task, so selection and report look at the same numbers: a
    winner is then partly a lucky one, and verdicts are kinder to whoever had more tries.

    Raises ComparisonError for missing columns, a column whose name says that larger is better and
    that is in neither `tasks` nor `maximise`, cells that are no numbers, losses that are not finite
    in a run that is not marked as diverged, or no finished run of the baseline.
    """
    chosen = settings or Settings()
    names = task_columns(table, RESERVED, tasks, maximise)
    runs = _run_table(table, names)
    check_baseline(runs, chosen.baseline)
    finished = ~runs["diverged"].to_numpy(dtype=bool)
    losses = losses_of(table, names, finished)
    losses *= np.where(np.isin(names, list(maximise)), -1.0, 1.0)
    own = finished & (runs["arm"] == chosen.baseline).to_numpy()
    unit = fit(names, losses[own], runs["seed"].to_numpy()[own])
    points = Runs(
        tasks=names,
        run=runs.index.to_numpy(dtype=object),
        arm=runs["arm"].to_numpy(dtype=object),
        seed=runs["seed"].to_numpy(dtype=np.int64),
        group=runs["group"].to_numpy(dtype=object),
        step=np.zeros(len(runs), dtype=np.int64),
        select=losses,
        report=losses,
    )
    comparison = judge_runs(points.where(finished), runs, unit, chosen)
    return replace(comparison, edge_vectors=edge_vectors(_weights(table, names)[own]))


def _run_table(table: pd.DataFrame, tasks: Sequence[str]) -> pd.DataFrame:
    """The run table of `selection.run_table`, from a table with one row a run."""
    if not pd.api.types.is_integer_dtype(table["seed"]):
        whole = pd.to_numeric(table["seed"], errors="coerce") % 1 == 0
        raise ComparisonError(
            f"the column seed holds whole numbers; found {named_cells(table, 'seed', ~whole)}"
        )
    names = table["run"] if "run" in table else pd.Series(range(len(table)), index=table.index)
    names = names.astype(str)
    if names.duplicated().any():
        raise ComparisonError(
            f"a table has one row a run; the run {names[names.duplicated()].iloc[0]!r} has several"
        )
    values = _weights(table, tasks)
    diverged = table[DIVERGED] if DIVERGED in table else pd.Series(False, index=table.index)
    passes = table[PASSES] if PASSES in table else pd.Series(np.nan, index=table.index)
    columns = {
        "arm": table["arm"].astype(str).to_numpy(dtype=object),
        "seed": table["seed"].to_numpy(np.int64),
        "group": group_names(values, names.tolist()),
        "diverged": diverged.to_numpy(dtype=bool),
        PASSES: passes.to_numpy(np.float64),
    }
    return pd.DataFrame(columns, index=pd.Index(names, name="run"))


def _weights(table: pd.DataFrame, tasks: Sequence[str]) -> Floats:
    """(n, T) fixed weights, one column of NaN if the table has none."""
    columns = [f"w_{task}" for task in tasks]
    if not set(columns) <= set(table.columns):
        return np.full((len(table), 1), np.nan)
    return table[columns].to_numpy(np.float64)
