"""Packs against single runs, for problems whose networks hold layers of their own kind."""

from __future__ import annotations

import numpy as np

from mtofront.methods import METHODS
from mtofront.problems import Problem
from mtofront.sweep.arms import default_values
from mtofront.sweep.spec import RunSpec
from mtofront.sweep.train import train_pack


def _short_run(problem: Problem, method: str, seed: int) -> RunSpec:
    tasks = len(problem.tasks)
    rates = {"name": "constant", "warmup": 0.0, "every": 0.4, "factor": 0.1}
    return RunSpec(
        arm="a",
        method=method,
        problem=problem.name,
        options={},
        seed=seed,
        restart=0,
        lr=0.01,
        weights=(1 / tasks,) * tasks if "weights" in METHODS[method].hyper else None,
        hyper=default_values(METHODS[method]),
        treatment={},
        optimizer={
            "name": "adam",
            "weight_decay": 0.0,
            "momentum": 0.0,
            "schedule": rates,
            "clip": None,
        },
        epochs=2,
        batch_size=16,
        evaluations=1,
    )


def assert_same_alone_and_in_a_pack(problem: Problem, method: str, runs: int = 4) -> None:
    """Final values of all measures agree bit for bit, and differ between the runs."""
    specs = [_short_run(problem, method, seed) for seed in range(runs)]
    pack = _at_end(problem, specs)
    alone = np.concatenate([_at_end(problem, [spec]) for spec in specs])
    assert np.array_equal(pack, alone)
    assert len(np.unique(pack[:, 0])) == runs


def _at_end(problem: Problem, specs: list[RunSpec]) -> np.ndarray:
    trained = train_pack(problem, specs)
    last = max(measurement.step for measurement in trained.measurements)
    return np.stack([m.values for m in trained.measurements if m.step == last], axis=1)
