"""The cells of a table from elsewhere: which columns are tasks, and what must not stand in them."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .errors import ComparisonError

LARGER_IS_BETTER = re.compile(
    r"(^|[_\W])(acc|accuracy|auc|auroc|f1|m?iou|bleu|reward|return|score|success|precision|recall"
    r"|r2|psnr|ssim|m?ap)($|[_\W\d])",
    re.IGNORECASE,
)
"""Names that usually stand for something to be maximised."""

SHOWN = 3
"""So many rows are named in a message."""


def task_columns(
    table: pd.DataFrame,
    reserved: Sequence[str],
    tasks: Sequence[str] | None,
    maximise: Sequence[str],
) -> tuple[str, ...]:
    """Return the task columns: those given, else all with a name that means nothing else here.

    Raises ComparisonError if one is missing, holds something other than numbers, or has a name that
    says larger is better without being declared: in `maximise`, or as a loss by being in `tasks`.
    """
    wanted = ["arm", "seed", *(tasks or ()), *maximise]
    missing = [name for name in wanted if name not in table.columns]
    if missing:
        raise ComparisonError(
            f"a table of runs needs the columns {missing}; found {list(table.columns)}"
        )
    rest = [str(c) for c in table.columns if c not in reserved and not str(c).startswith("w_")]
    names = tuple(tasks) if tasks is not None else tuple(rest)
    names += tuple(name for name in maximise if name not in names)
    if not names:
        raise ComparisonError(
            f"a table of runs needs one column a task beside arm and seed; found "
            f"{list(table.columns)}"
        )
    for name in names:
        _check_numbers(table, name)
    said = {*(tasks or ()), *maximise}
    doubtful = [name for name in names if name not in said and LARGER_IS_BETTER.search(name)]
    if doubtful:
        raise ComparisonError(
            f"a task's column is minimised; {doubtful} look as if larger were better. Declare "
            f"them: --maximise {doubtful[0]} flips the sign, --task {doubtful[0]} says it is a loss"
        )
    return names


def losses_of(
    table: pd.DataFrame, tasks: Sequence[str], finished: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return the columns (n, T). Raises ComparisonError unless finished runs have all numbers."""
    losses = table[list(tasks)].to_numpy(np.float64, copy=True)
    bad = ~np.isfinite(losses) & finished[:, None]
    for column, task in enumerate(tasks):
        if not bad[:, column].any():
            continue
        found = named_cells(table, task, bad[:, column])
        raise ComparisonError(
            f"a finished run has a finite loss for each task; found {found}. Leave these rows out, "
            f"or give the table a column `diverged` that is true there"
        )
    return losses


def named_cells(table: pd.DataFrame, column: str, bad: NDArray[np.bool_] | pd.Series[bool]) -> str:
    """Return which cells of a column are meant: values, rows (from 0), arms and seeds."""
    rows = np.flatnonzero(np.asarray(bad))
    cells = [
        f"{_shown(table[column].iloc[row])} in row {row} (arm {table['arm'].iloc[row]!r}, "
        f"seed {table['seed'].iloc[row]})"
        for row in rows[:SHOWN]
    ]
    more = f" and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
    return f"{', '.join(cells)}{more} for {column!r}"


def _shown(value: object) -> str:
    return repr(value) if isinstance(value, str) else str(value)


def _check_numbers(table: pd.DataFrame, name: str) -> None:
    if pd.api.types.is_numeric_dtype(table[name]):
        return
    words = pd.to_numeric(table[name], errors="coerce").isna() & table[name].notna()
    raise ComparisonError(
        f"a task's column holds one number a run; found {named_cells(table, name, words)}. Mend "
        f"the cells, or name the task columns without it (--task)"
    )
