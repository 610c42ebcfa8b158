"""Made-up results for the analysis tests: runs with known losses, as records and as a folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mtofront.analysis import schema

Vector = Sequence[float]


@dataclass(frozen=True)
class Run:
    """One made-up run. evaluations: (step, val losses, test losses), in the order of the steps."""

    name: str
    arm: str
    seed: int
    evaluations: tuple[tuple[int, Vector, Vector], ...]
    weights: Vector | None = None
    lr: float = 0.01
    passes: float | None = 100.0
    diverged: int | None = None
    stopped: bool = False
    unsolved: float | None = None
    hyper: dict[str, float] = field(default_factory=dict)
    restart: int = 0
    recorded: tuple[tuple[int, str, str, float], ...] = ()  # step, task, measure, value

    @property
    def method(self) -> str:
        return "linear" if self.arm == "scalarization" else self.arm


def run(
    name: str, arm: str, seed: int, val: Vector, test: Vector | None = None, **more: Any
) -> Run:
    """A run with one evaluation at step 10; test losses equal validation losses unless given."""
    return Run(name, arm, seed, ((10, val, val if test is None else test),), **more)


def rows_of(one: Run, tasks: Sequence[str]) -> list[dict[str, object]]:
    weights = one.weights if one.weights is not None else [np.nan] * len(tasks)
    base: dict[str, object] = {
        "run": one.name, "arm": one.arm, "method": one.method, "problem": "made-up",
        "seed": one.seed, "lr": one.lr,
    }  # fmt: skip
    base |= {f"w_{task}": weight for task, weight in zip(tasks, weights, strict=True)}
    rows = [
        base
        | {"step": step, "epoch": step // 10, "split": split, "task": task}
        | {"measure": measure, "value": value * scale}
        for step, val, test in one.evaluations
        for split, losses in (("train", val), ("val", val), ("test", test))
        for task, value in zip(tasks, losses, strict=True)
        for measure, scale in (("loss", 1.0), ("error", 0.1))
    ]
    rows += [
        base
        | {"step": step, "epoch": step // 10, "split": "train", "task": task}
        | {"measure": measure, "value": value}
        for step, task, measure, value in one.recorded
    ]
    about = {"step": 10, "epoch": 1, "split": "train", "task": ""}
    if one.passes is not None:
        rows.append(base | about | {"measure": "backward_passes", "value": one.passes})
    if one.unsolved is not None:
        rows.append(base | about | {"measure": "unsolved_steps", "value": one.unsolved})
    if one.diverged is not None:
        rows.append(base | about | {"step": one.diverged, "measure": "diverged", "value": 1.0})
    if one.stopped:
        rows.append(base | about | {"measure": "stopped", "value": 1.0})
    return rows


def frame_of(runs: Sequence[Run], tasks: Sequence[str] = ("a", "b")) -> pd.DataFrame:
    """Records of the runs with exactly the columns and the order that `load` promises."""
    names = schema(tasks).names
    rows = [row for one in runs for row in rows_of(one, tasks)]
    return pd.DataFrame(rows, columns=names)


def write_folder(
    folder: Path,
    runs: Sequence[Run],
    tasks: Sequence[str] = ("a", "b"),
    planned: Sequence[Run] = (),
    name: str = "made-up",
) -> Path:
    """A results folder, one records file a seed. planned: runs without records."""
    (folder / "records").mkdir(parents=True)
    (folder / "failures").mkdir()
    manifest = {
        "format": 2,
        "name": name,
        "problem": "made-up",
        "tasks": list(tasks),
        "created": "2026-01-31T12:00:00+00:00",
        "versions": {"mtofront": "0.1.0", "torch": "2.13.0", "numpy": "2.4.6"},
        "machine": {"cpu": "made-up CPU", "cores": 8, "platform": "Linux"},
        "report": {
            "objective": "loss", "select_on": "val", "report_on": "test",
            "baseline": "scalarization", "equivalence": 0.05, "confidence": 0.95,
        },
        "arms": {
            one.arm: {"method": one.method, "backward_passes_per_step": 1}
            for one in (*runs, *planned)
        },
        "runs": {
            one.name: {
                "arm": one.arm, "method": one.method, "problem": "made-up", "seed": one.seed,
                "restart": one.restart, "lr": one.lr,
                "weights": None if one.weights is None else list(one.weights), "hyper": one.hyper,
            }
            for one in (*runs, *planned)
        },
        "packs": [[one.name for one in (*runs, *planned)]],
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "config.yaml").write_text(f"name: {name}\nproblem: made-up  # <not> a real one\n")
    for seed in sorted({one.seed for one in runs}):
        write_records(folder, f"seed{seed}", [one for one in runs if one.seed == seed], tasks)
    return folder


def write_records(
    folder: Path, name: str, runs: Sequence[Run], tasks: Sequence[str] = ("a", "b")
) -> Path:
    path = folder / "records" / f"{name}.parquet"
    table = pa.Table.from_pandas(frame_of(runs, tasks), schema(tasks), preserve_index=False)
    pq.write_table(table, path)
    return path


def write_failure(folder: Path, name: str, runs: Sequence[str], error: str = "boom") -> Path:
    path = folder / "failures" / f"{name}.json"
    path.write_text(json.dumps({"runs": list(runs), "error": error, "traceback": "Traceback ..."}))
    return path
