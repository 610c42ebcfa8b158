"""Measuring a pack: every split, task and measure, batched over the runs and bounded in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mtofront.problems import Split, labelled_share

from .course import Shown
from .network import Network, Tensors

ROWS, NUMBERS = 1024, 2**21
"""Rows evaluated at a time, and the numbers that their inputs may have together: large enough for
the processor, small enough for hundreds of runs, or for a few whose rows are large pictures."""


@dataclass(frozen=True)
class Measurement:
    """One number a run: values (N,) float64, of one measure of one task on one split.

    weights: the place on the front of the networks measured, if runs show several.
    """

    step: int
    epoch: int
    split: str
    task: str
    measure: str
    values: NDArray[np.float64]
    weights: tuple[float, ...] | None = None


def measure_pack(net: Network, shown: Shown, step: int, epoch: int) -> list[Measurement]:
    """Every measure of every task on train, validation and test data."""
    return [
        Measurement(step, epoch, name, task, measure, values.double().cpu().numpy(), shown.weights)
        for name, split in net.problem.splits().items()
        for (task, measure), values in _means(net, shown.params, shown.buffers, split).items()
    ]


def _means(
    net: Network, params: Tensors, buffers: Tensors, split: Split
) -> dict[tuple[str, str], Tensor]:
    """Means over all rows, from the means over blocks of them, and what is made of means."""
    total: dict[tuple[str, str], Tensor] = {}
    tasks, rows = net.problem.tasks, rows_at_once(split)
    for start in range(0, len(split), rows):
        chosen = slice(start, start + rows)
        shares = {
            task.name: labelled_share(task, whole[chosen], whole)
            for task, whole in zip(tasks, split.targets, strict=True)
        }
        for key, values in net.measures(params, buffers, split.rows(chosen)).items():
            weighted = shares[key[0]] * values
            total[key] = total[key] + weighted if key in total else weighted
    return net.finished(total)


def rows_at_once(split: Split) -> int:
    """How many rows of a split are evaluated at a time."""
    return max(1, min(ROWS, NUMBERS // max(1, split.inputs[0].numel())))


def losses_of(measurements: Sequence[Measurement], split: str) -> NDArray[np.float64]:
    """The tasks' losses on one split, (N, T)."""
    columns = [m.values for m in measurements if m.split == split and m.measure == "loss"]
    return np.stack(columns, axis=1)
