"""Packs against single runs, for problems whose networks hold layers of their own kind."""

from __future__ import annotations

import numpy as np
from test_engine import spec

from mtofront.methods import METHODS
from mtofront.problems import Problem
from mtofront.sweep.spec import RunSpec
from mtofront.sweep.train import train_pack


def assert_same_alone_and_in_a_pack(problem: Problem, method: str, runs: int = 4) -> None:
    """Final values of all measures agree bit for bit, and differ between the runs."""
    tasks = len(problem.tasks)
    even = (1 / tasks,) * tasks if "weights" in METHODS[method].hyper else None
    specs = [
        spec(method, problem=problem.name, seed=seed, weights=even, evaluations=1)
        for seed in range(runs)
    ]
    pack = _at_end(problem, specs)
    alone = np.concatenate([_at_end(problem, [spec]) for spec in specs])
    assert np.array_equal(pack, alone)
    assert len(np.unique(pack[:, 0])) == runs


def _at_end(problem: Problem, specs: list[RunSpec]) -> np.ndarray:
    trained = train_pack(problem, specs)
    last = max(measurement.step for measurement in trained.measurements)
    return np.stack([m.values for m in trained.measurements if m.step == last], axis=1)
