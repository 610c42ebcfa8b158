"""The weights that finished runs gave their tasks, averaged over their training, from records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .diagnostics import WEIGHT
from .weights import Vector


def mean_weights(files: Iterable[Path], tasks: Sequence[str]) -> dict[str, Vector]:
    """Run -> mean weight of each task over all its steps, none below 0.

    The records hold, at each evaluation, the mean over the steps since the one before. A run that
    diverged, one whose weights were not recorded, and one without a positive mean are absent.
    """
    frame = pd.concat([_weights_in(path) for path in files])
    diverged = set(frame.loc[frame["measure"] == "diverged", "run"])
    frame = frame[~frame["run"].isin(diverged)]
    found = {}
    for run, own in frame.groupby("run"):
        # an evaluation without numbers has no rows: the next one's stand for its steps, too
        wide = own.pivot(index="step", columns="task", values="value").reindex(columns=list(tasks))
        steps = np.diff(wide.index.to_numpy(dtype=np.float64), prepend=0.0)
        means = np.clip(steps @ wide.to_numpy(dtype=np.float64) / steps.sum(), 0.0, None)
        if np.isfinite(means).all() and means.any():
            found[str(run)] = tuple(map(float, means))
    return found


def _weights_in(path: Path) -> pd.DataFrame:
    columns = ["run", "step", "task", "measure", "value"]
    table = pq.read_table(path, columns=columns)
    of_weight = pc.equal(table["measure"], WEIGHT)
    chosen = pc.or_(of_weight, pc.equal(table["measure"], "diverged"))
    frame: pd.DataFrame = table.filter(chosen).to_pandas()
    return frame
