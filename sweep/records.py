"""From what a pack measured to rows of records, one number a row."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pyarrow as pa

from .diagnostics import MEASURES
from .spec import RunSpec
from .trained import Trained


def record_table(trained: Trained, tasks: Sequence[str]) -> pa.Table:
    """The records of a pack, one number a row, in the columns that `mtofront.analysis.load` names.

    A diverged run keeps what was measured before it diverged, and gets a row `diverged` with the
    step; one that a scheduler stopped gets a row `stopped` where that was; every run gets a row
    `backward_passes`, and one `unsolved_steps` if its method solves equations by iteration, and
    `members` if it trains several networks. No number in the records is NaN or infinite.
    """
    parts = [_measured(trained, tasks, n) for n in range(len(trained.specs))]
    return pa.concat_tables(parts)


def _measured(trained: Trained, tasks: Sequence[str], n: int) -> pa.Table:
    """All rows of run n; a network with a place of its own on the front names that place."""
    spec, diverged = trained.specs[n], int(trained.diverged_at[n])
    end = int(trained.steps[n])
    kept = [
        m
        for m in trained.measurements
        if (m.step < end or (m.step == end and diverged < 0))
        # gradients may overflow before a loss does
        and (m.measure not in MEASURES or math.isfinite(m.values[n]))
    ]
    rows = [(m.step, m.epoch, m.split, m.task, m.measure, float(m.values[n])) for m in kept]
    own = spec.weights or (float("nan"),) * len(tasks)
    places = [m.weights or own for m in kept]
    last = max(((m.step, m.epoch) for m in kept), default=(0, 0))
    if diverged >= 0:
        before = max((m.epoch for m in kept), default=0)
        last = (diverged, before)
        rows.append((diverged, before, "train", "", "diverged", 1.0))
    if trained.stopped[n]:
        rows.append((*last, "train", "", "stopped", 1.0))
    rows.append((*last, "train", "", "backward_passes", float(trained.backward_passes[n])))
    if trained.unsolved is not None:
        rows.append((*last, "train", "", "unsolved_steps", float(trained.unsolved[n])))
    if trained.members > 1:
        rows.append((*last, "train", "", "members", float(trained.members)))
    places += [own] * (len(rows) - len(places))
    step, epoch, split, task, measure, value = zip(*rows, strict=True)
    return pa.table(
        {
            **_constant(spec, len(rows)),
            **{
                f"w_{task}": pa.array([place[k] for place in places], pa.float64())
                for k, task in enumerate(tasks)
            },
            "step": pa.array(step, pa.int64()),
            "epoch": pa.array(epoch, pa.int64()),
            "split": pa.array(split, pa.string()),
            "task": pa.array(task, pa.string()),
            "measure": pa.array(measure, pa.string()),
            "value": pa.array(value, pa.float64()),
        }
    )


def _constant(spec: RunSpec, rows: int) -> dict[str, pa.Array]:
    """The columns that say which run a row is about."""
    values = {
        "run": pa.scalar(spec.id),
        "arm": pa.scalar(spec.arm),
        "method": pa.scalar(spec.method),
        "problem": pa.scalar(spec.problem),
        "seed": pa.scalar(spec.seed, pa.int64()),
        "lr": pa.scalar(spec.lr, pa.float64()),
    }
    return {name: pa.repeat(value, rows) for name, value in values.items()}
