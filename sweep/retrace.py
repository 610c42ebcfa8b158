"""What earlier processes of a sweep measured, from its records: for going on, and for watching."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from .folder import Folder

COLUMNS = ["epoch", "split", "task", "measure", "value"]


@dataclass(frozen=True)
class Past:
    """One pack's records. points: (n, T) validation losses of all evaluations of all its runs.

    untrained: which of the points, (n,), were measured before training. stopped: runs that a
    scheduler ended.
    """

    diverged: int
    stopped: int
    points: NDArray[np.float64]
    untrained: NDArray[np.bool_]


def retrace(folder: Folder, packs: Iterable[int], tasks: Sequence[str]) -> dict[int, Past]:
    """Pack -> what its records say; packs whose records cannot be read are left out."""
    found = {}
    for number in sorted(packs):
        with contextlib.suppress(OSError, pa.ArrowException, ValueError, KeyError):
            found[number] = _past(pq.read_table(folder.records(number), columns=COLUMNS), tasks)
    return found


def _past(table: pa.Table, tasks: Sequence[str]) -> Past:
    # ParquetFile gives numpy objects for text: categories are compared once, not row by row
    measure, split, task = (table[name].to_numpy() for name in ("measure", "split", "task"))
    value, epoch = table["value"].to_numpy(), table["epoch"].to_numpy()
    losses = (measure == "loss") & (split == "val")
    # a run's rows come evaluation by evaluation, so the tasks' columns line up
    rows = [losses & (task == name) for name in tasks]
    points = np.stack([value[row] for row in rows], axis=1)
    diverged, stopped = (int((measure == kind).sum()) for kind in ("diverged", "stopped"))
    return Past(diverged, stopped, points, epoch[rows[0]] == 0)
