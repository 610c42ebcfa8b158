"""What a problem is: tasks, three data splits and a network with one output a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from .truth import Truth

Measure = Callable[[Tensor, Tensor], Tensor]
"""(output (B, ...), target (B, ...)) -> scalar, a mean over the B rows, smaller is better."""


class ProblemError(ValueError):
    """A problem that cannot be trained, with the rule, what was found and where."""


@dataclass(frozen=True)
class Task:
    """One loss of a problem, and further measures to report beside it.

    loss: what is trained, a mean over the rows of a minibatch, differentiable.
    metrics: name -> measure, reported for every split. Whoever has a maximised one flips it here.
    missing: labels may be missing (NaN, or -100 in a target of whole numbers), and loss and metrics
        are means over those that are there, 0 where none is; `partly_labelled` makes such a task.
    """

    name: str
    loss: Measure
    metrics: Mapping[str, Measure] = field(default_factory=dict)
    missing: bool = False


@dataclass(frozen=True)
class Split:
    """Rows of data: inputs (n, ...) and one target (n, ...) a task."""

    inputs: Tensor
    targets: tuple[Tensor, ...]

    def __len__(self) -> int:
        return len(self.inputs)


@dataclass(frozen=True)
class Problem:
    """Data with train / validation / test splits, a model and its tasks.

    model: makes a freshly initialised network (randomness from torch's global generator, which the
        engine seeds). Its forward takes inputs (B, ...) and returns a sequence of T outputs, in the
        tasks' order. A parameter that two or more tasks' losses depend on counts as shared. What
        it computes must follow from inputs, parameters and buffers: the engine may call it for
        many runs at once, and in long trainings repeats the operations of one call.
    features: the submodule whose output is the shared representation, for methods that look at
        gradients there; found by itself where shared parameters lie in modules of their own.
    truth: the true front, where it is known; the test split's losses are what it speaks of.
    single_task: it is meant that tasks share no parameter, each having a network of its own.

    Raises ProblemError if names, lengths or splits do not fit together.
    """

    name: str
    tasks: tuple[Task, ...]
    train: Split
    val: Split
    test: Split
    model: Callable[[], nn.Module]
    features: str | None = None
    truth: Truth | None = None
    single_task: bool = False

    def __post_init__(self) -> None:
        names = [task.name for task in self.tasks]
        if not names or len(set(names)) != len(names):
            raise ProblemError(
                f"problem {self.name!r}: tasks need distinct names and there must be at least one; "
                f"found {names}"
            )
        for split_name, split in self.splits().items():
            _check_split(self.name, names, split_name, split)

    def splits(self) -> dict[str, Split]:
        """The three splits by their names in the records."""
        return {"train": self.train, "val": self.val, "test": self.test}


def _check_split(problem: str, tasks: list[str], name: str, split: Split) -> None:
    where = f"problem {problem!r}, split {name!r}"
    if len(split) == 0:
        raise ProblemError(f"{where}: a split needs at least one row; found none")
    if len(split.targets) != len(tasks):
        raise ProblemError(
            f"{where}: one target a task is needed; found {len(split.targets)} targets for the "
            f"{len(tasks)} tasks {tasks}"
        )
    for task, target in zip(tasks, split.targets, strict=True):
        if len(target) != len(split):
            raise ProblemError(
                f"{where}, task {task!r}: inputs and target need the same number of rows; found "
                f"{len(split)} and {len(target)}"
            )
