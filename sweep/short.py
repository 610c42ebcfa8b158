"""A problem cut down to a few steps, to time them."""

from __future__ import annotations

from dataclasses import replace

from mtofront.problems import Problem, Split


def short_problem(problem: Problem, batch: int, steps: int) -> Problem:
    """The problem with as many training rows as so many steps take."""
    rows = min(batch, len(problem.train)) * steps
    positions = [n % len(problem.train) for n in range(rows)]
    targets = tuple(target[positions] for target in problem.train.targets)
    return replace(problem, train=Split(problem.train.inputs[positions], targets))
