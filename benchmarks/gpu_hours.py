"""What the claims' experiments would cost at full size on one GPU: reckoned, not measured.

    python benchmarks/gpu_hours.py          # writes docs/results/full.csv

Floating-point operations and calls of torch are counted on one minibatch of the network, forward
and back, and multiplied by steps, runs and each method's backward passes; evaluations are counted
too. Hours assume 5 TFLOP/s, about a tenth of what an H100 does in float32, and 10 microseconds a
call, shared by packs of 256 runs. Neither was measured here: no GPU was to be had.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from claims import RESULTS, config_of, full_sizes
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from mtofront.problems import Problem
from mtofront.sweep import Plan, load_config, plan
from mtofront.sweep.provide import provide

RATE = 5e12
CALL = 1e-5
PACK = 256
ABSENT = "problem_options.full=true"
"""Asks for files that only the user has; costs are the same without."""


@dataclass(frozen=True)
class Work:
    """Of a pass over one minibatch: floating-point operations of a row, and calls of torch."""

    operations: float
    calls: int


class _Calls(TorchDispatchMode):
    """Counts the operators that are called."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        self.count += 1
        return function(*args, **(kwargs or {}))


def passes(problem: Problem, batch: int) -> tuple[Work, Work]:
    """The network's forward and backward pass, counted on one minibatch of training rows."""
    module = problem.model()
    split = problem.train.rows(torch.arange(batch))
    total = torch.zeros(())

    def forward() -> None:
        nonlocal total
        outputs = module(split.inputs)
        parts = zip(problem.tasks, outputs, split.targets, strict=True)
        total = torch.stack([task.loss(output, target) for task, output, target in parts]).sum()

    return _counted(forward, batch), _counted(lambda: total.backward(), batch)


def _counted(pass_: Callable[[], None], batch: int) -> Work:
    with FlopCounterMode(display=False) as operations, _Calls() as calls:
        pass_()
    return Work(operations.get_total_flops() / batch, calls.count)


def cost(planned: Plan, problem: Problem) -> tuple[int, float, float]:
    """Runs, floating-point operations, and hours of a plan."""
    batch = planned.config.budget.batch_size
    forward, backward = passes(problem, batch)
    specs = planned.all_specs()
    steps = sum(map(planned.steps_of, specs))
    back = sum(planned.arm_passes().values())
    rows = sum(len(split) for split in (problem.train, problem.val, problem.test))
    measured = rows * sum(spec.evaluations + 1 for spec in specs)
    operations = batch * (steps * forward.operations + back * backward.operations)
    operations += measured * forward.operations
    calls = (steps * forward.calls + back * backward.calls) / PACK
    return len(specs), operations, (operations / RATE + calls * CALL) / 3600


def main() -> None:
    """Reckon all and write them."""
    rows = []
    for name, settings in full_sizes().items():
        given = [one for one in settings if one != ABSENT]
        config = load_config(config_of(name), [*given, f"resources.pack={PACK}"])
        runs, operations, hours = cost(plan(config), provide(config))
        rows.append((name, runs, round(operations / 1e15, 2), round(hours, 1)))
        print(*rows[-1], flush=True)
    frame = pd.DataFrame(rows, columns=["experiment", "runs", "petaflop", "hours"])
    frame.to_csv(RESULTS / "full.csv", index=False)


if __name__ == "__main__":
    main()
