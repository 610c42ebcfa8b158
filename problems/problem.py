"""What a problem is: tasks, three data splits and a network with one output a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from .truth import Truth

Measure = Callable[[Tensor, Tensor], Tensor]
"""(output (B, ...), target (B, ...)) -> scalar, a mean over the B rows, smaller is better."""


Decode = Callable[[Tensor, tuple[Tensor, ...]], tuple[Tensor, tuple[Tensor, ...]]]
"""(inputs (k, ...), targets (k, ...)) as a split holds them -> as network and losses take them."""


class ProblemError(ValueError):
    """A problem that cannot be trained, with the rule, what was found and where."""


@dataclass(frozen=True)
class Pooled:
    """A measure of a whole split that is no mean over its rows, like intersection over union.

    parts: a Measure whose value may have any shape, a mean over the rows. finish: makes the
    measure, a scalar, of the parts' mean over all rows of a split; under torch.func.vmap.
    """

    parts: Measure
    finish: Callable[[Tensor], Tensor]

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        """The measure of these rows alone."""
        return self.finish(self.parts(output, target))


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
    metrics: Mapping[str, Measure | Pooled] = field(default_factory=dict)
    missing: bool = False


@dataclass(frozen=True)
class Split:
    """Rows of data: inputs (n, ...) and one target (n, ...) a task.

    decode: what is done to gathered rows before a network sees them, so that they can be kept
    small, like pixels as bytes. They can also be kept on disk, as tensors of memory-mapped files.
    to: the device that gathered rows are sent to, where all rows together would not fit; None:
    they stay on the device that holds them.
    """

    inputs: Tensor
    targets: tuple[Tensor, ...]
    decode: Decode | None = None
    to: torch.device | None = None

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def device(self) -> torch.device:
        """Where gathered rows are."""
        return self.to or self.inputs.device

    @property
    def nbytes(self) -> int:
        """Bytes of all rows as they are kept."""
        return sum(whole.nbytes for whole in (self.inputs, *self.targets))

    def rows(self, chosen: Tensor | slice) -> Split:
        """Some rows as a network takes them: decoded, on `device`.

        chosen: row numbers (k,) where the rows are held, or a slice, which copies nothing that
        needs neither decoding nor sending.
        """
        inputs, *targets = (
            self._sent(
                whole[chosen] if isinstance(chosen, slice) else whole.index_select(0, chosen)
            )
            for whole in (self.inputs, *self.targets)
        )
        if self.decode is None:
            return Split(inputs, tuple(targets))
        return Split(*self.decode(inputs, tuple(targets)))

    def _sent(self, part: Tensor) -> Tensor:
        if self.to is None:
            return part
        # from pinned memory the copy runs beside what the device computes
        part = part.pin_memory() if self.to.type == "cuda" else part
        return part.to(self.to, non_blocking=True)


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
