"""Tabular: what problems with one number a task on rows of numbers have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from .networks import Chosen
from .perceptrons import perceptron
from .problem import ProblemError, Task

Rows = NDArray[np.int64]


class SharedBottom(nn.Module):
    """A perceptron with two shared hidden layers and one number a task."""

    def __init__(self, inputs: int, hidden: int, tasks: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()
        )
        self.heads = nn.ModuleList([nn.Linear(hidden, 1) for _ in range(tasks)])

    def forward(self, rows: Tensor) -> list[Tensor]:
        features = self.trunk(rows)
        return [head(features).squeeze(-1) for head in self.heads]


def tabular_network(
    choice: Chosen, inputs: int, hidden: int, tasks: int
) -> Callable[[], nn.Module]:
    """What makes freshly initialised networks of two layers, with one logit a task."""
    if choice.name == "split":
        return partial(SharedBottom, inputs, hidden, tasks)
    return choice.maker(perceptron(inputs, hidden, (None,) * tasks), tasks)


def yes_or_no(name: str) -> Task:
    """A task whose target is 0 or 1 and whose output is a logit."""
    loss = nn.functional.binary_cross_entropy_with_logits
    return Task(name, loss, {"error": _error_rate})


def _error_rate(logits: Tensor, targets: Tensor) -> Tensor:
    """Share of rows on the wrong side of one half, in [0, 1]."""
    return ((logits > 0) != (targets > 0.5)).to(logits.dtype).mean()


def check_tasks(tasks: Sequence[str], known: Sequence[str]) -> None:
    """Raise ProblemError unless these are two or more different ones of the known tasks."""
    if len(tasks) < 2 or len(set(tasks)) != len(tasks) or not set(tasks) <= set(known):
        raise ProblemError(f"tasks must be two or more different ones of {known}; found {tasks}")


def first_of(parts: Mapping[str, Rows], sizes: Mapping[str, int | None]) -> dict[str, Rows]:
    """So many rows of each part, None for all. Raises ProblemError if a part has fewer."""
    for name, size in sizes.items():
        if size is not None and not 1 <= size <= len(parts[name]):
            raise ProblemError(
                f"split {name!r} has 1 … {len(parts[name]):,} rows to give; {name}={size} asked"
            )
    return {name: parts[name][:size] for name, size in sizes.items()}


def standardised(values: NDArray[np.float32], train: Rows) -> NDArray[np.float32]:
    """Columns with mean 0 and deviation 1 over the training rows; constant ones become 0."""
    mean = values[train].mean(axis=0, dtype=np.float64)
    deviation = values[train].std(axis=0, dtype=np.float64)
    scaled = (values - mean) / np.where(deviation > 0, deviation, 1)
    result: NDArray[np.float32] = scaled.astype(np.float32)
    return result
