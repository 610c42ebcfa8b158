"""What a method is: the signals it reads, the state it carries and the weights it answers with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

Need = Literal["losses", "gramian", "jacobian"]
"""The least a method must be shown; it decides how many backward passes a step costs."""

Answer = Literal["weights", "direction", "step"]
"""What a step answers with: weights (..., T) for the tasks' gradients; a direction (..., P) in the
place of a gradient; or a direction that the parameters take as it is, times the learning rate."""

State = Mapping[str, Tensor]
"""What a method remembers between steps; every tensor has the batch's leading dimensions."""

Values = Mapping[str, "Tensor | str | int"]
"""Hyper-parameters of one call: numbers as tensors of the batch's shape, choices as strings,
counts as integers."""

UNSOLVED = "unsolved"
"""The state (..., 1) in which a method counts the steps whose solver missed its tolerance."""


@dataclass(frozen=True)
class Signals:
    """What one step shows to a method. Leading dimensions `...` are a batch of independent runs.

    losses: (..., T) float64, the tasks' minibatch losses before the step.
    noise: (..., K) float64, uniform in [0, 1); K is the method's `noise(T)`.
    gramian: (..., T, T) float64, dot products of the tasks' gradients, or None if not asked for.
    jacobian: (..., T, P) the tasks' gradients themselves, or None if not asked for.
    independent: (..., T, T) float64, dot products of the tasks' gradients on one half of the
        minibatch (rows) with those on the other half (columns), or None if not asked for. Where
        only one sample is at hand it is the Gramian.
    epoch: how many passes over the training data were finished before the step; one for the batch.
    shapes: of the tensors that make up the P coordinates, in order; None if that is not known.
    """

    losses: Tensor
    noise: Tensor
    gramian: Tensor | None = None
    jacobian: Tensor | None = None
    independent: Tensor | None = None
    epoch: int = 0
    shapes: tuple[tuple[int, ...], ...] | None = None


Step = Callable[[Signals, State, Values], tuple[Tensor, State]]
"""One step: the answer, float64 (see `Answer`), and the next state. It is pure."""


def number(values: Values, name: str) -> Tensor:
    """A numeric hyper-parameter, shape (..., 1), so that it spreads over the tasks."""
    value = values[name]
    assert isinstance(value, Tensor)
    return value.unsqueeze(-1)


def is_main(values: Values, like: Tensor) -> Tensor:
    """Which task is the main one, by the hyper-parameter `main`; a mask for numbers (..., T)."""
    return torch.arange(like.shape[-1], device=like.device) == number(values, "main")


def choice(values: Values, name: str) -> str:
    """The setting of a hyper-parameter with named settings; one for the whole batch."""
    value = values[name]
    assert isinstance(value, str)
    return value


def count(values: Values, name: str) -> int:
    """A hyper-parameter that counts something; one for the whole batch."""
    value = values[name]
    assert isinstance(value, int)
    return value


def task_weights(values: Values, name: str) -> Tensor:
    """A hyper-parameter with one number a task, shape (..., T)."""
    value = values[name]
    assert isinstance(value, Tensor)
    return value


After = Callable[[Tensor, State, Values], State]
"""What a method learns from a step's effect: losses (..., T) float64 of the same minibatch after
the optimiser's step, the state that `step` returned, the values -> the state for the next step."""


@dataclass(frozen=True)
class Number:
    """A numeric hyper-parameter: its default, its closed range and what it does.

    whole: only integers are allowed. task: it is the number of a task, a whole one from 0 to T - 1.
    below: the name of a `Count` of the same method that it must be smaller than.
    """

    default: float
    help: str
    low: float = float("-inf")
    high: float = float("inf")
    whole: bool = False
    task: bool = False
    below: str = ""


@dataclass(frozen=True)
class Count:
    """A whole number that shapes the computation, so that runs of one batch share it."""

    default: int
    help: str
    low: int
    high: int


@dataclass(frozen=True)
class Choice:
    """A hyper-parameter with named settings: the default first."""

    options: tuple[str, ...]
    help: str


@dataclass(frozen=True)
class TaskWeights:
    """A hyper-parameter that is one non-negative number a task; equal weights 1/T unless given."""

    help: str


Hyper = Number | Count | Choice | TaskWeights


@dataclass(frozen=True)
class Paper:
    """Where a method comes from."""

    authors: str
    year: int
    title: str
    venue: str
    arxiv: str | None = None


def no_state(losses: Tensor) -> State:
    """The state of a method that remembers nothing."""
    return {}


def no_noise(tasks: int) -> int:
    """How many random numbers a deterministic method draws a step."""
    return 0


@dataclass(frozen=True)
class Method:
    """A multi-task optimisation method, written once over leading batch dimensions.

    needs: the least `step` must be shown.
    step: see `Step`.
    answers: what `step` answers with.
    init: zero losses (..., T) float64, or for a method that needs the Jacobian a zero Jacobian
        (..., T, P) -> the state before the first step.
    noise: number of tasks -> how many uniform random numbers a step uses.
    after: called once after every optimiser's step, if the method looks at its effect; it costs one
        more forward pass on the same minibatch.
    hyper: hyper-parameters by the paper's names.
    scheme: "" for what combines gradients step by step. "merge": T networks are trained, a task
        each, from a common start, and `step` makes one of the ways they went (task vectors, in
        place of the Jacobian). "manifold": T networks are trained whose mixtures form the front;
        `step` draws the mixtures (..., T).
    independent: whether `step` wants the Gramian between independent halves of the minibatch.
    layer: which parameters the Gramian is over: all shared ones, or the last shared layer.
    heads: how task-specific parameters are updated: by their own gradient ("unit") or weighted
        like the shared ones ("weighted").
    deviations: where this code differs from the paper, in words for the user; empty if nowhere.
    """

    name: str
    summary: str
    paper: Paper
    needs: Need
    step: Step
    answers: Answer = "weights"
    init: Callable[[Tensor], State] = no_state
    noise: Callable[[int], int] = no_noise
    after: After | None = None
    hyper: Mapping[str, Hyper] = field(default_factory=dict)
    scheme: Literal["", "merge", "manifold"] = ""
    independent: bool = False
    layer: Literal["shared", "last"] = "shared"
    heads: Literal["unit", "weighted"] = "unit"
    deviations: str = ""

    @property
    def takes_weights(self) -> bool:
        """Whether it has task weights of its own; else `weights` multiply the losses before it."""
        return any(isinstance(kind, TaskWeights) for kind in self.hyper.values())
