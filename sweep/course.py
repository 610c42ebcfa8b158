"""How a pack's training goes from epoch to epoch, and which networks it has to show for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mtofront.methods import Treatment, method_named, unsolved_steps

from .costs import passes_per_step
from .network import Network, Tensors
from .pack import kept, start_pack, train_epoch
from .snapshot import Snapshot, pack_snapshot, put_back
from .spec import RunSpec
from .tally import WeightTally


@dataclass(frozen=True)
class Shown:
    """Networks (N, ...) to be measured. weights: their place on the front, if runs show several."""

    params: Tensors
    buffers: Tensors
    weights: tuple[float, ...] | None = None


class Course(Protocol):
    """A pack in training."""

    def train(self, epoch: int) -> None:
        """Take every run once through the training data."""

    def shown(self) -> list[Shown]:
        """The networks that the runs would deliver now."""

    def step(self) -> int:
        """How many optimiser steps each run has taken."""

    def diverged_at(self) -> Tensor:
        """(N,) the step of each run's first non-finite loss, or -1."""

    def passes(self, steps: Tensor) -> Tensor:
        """Backward passes through the shared parameters that so many steps (N,) cost."""

    def keep(self, rows: Tensor) -> None:
        """Go on with some of the runs (K,), at least two, in this order."""

    def unsolved(self) -> Tensor | None:
        """(N,) steps in which the method's solver missed its tolerance; None if it has none."""

    def members(self) -> int:
        """How many networks a run trains."""

    def weights(self) -> Tensor | None:
        """(N, T) mean task weights of the steps since the last call; None if not followed."""

    def state(self) -> Snapshot:
        """Everything that changes while the runs train."""

    def restore(self, state: Snapshot) -> None:
        """Go on, before the first step, from where the same runs were. Raises SnapshotError."""


class StepByStep:
    """The usual course: one network a run, a method's update at every step.

    diagnostics: whether to follow how the method weighs the tasks.
    """

    def __init__(self, net: Network, specs: Sequence[RunSpec], diagnostics: bool = False) -> None:
        self._net, self._specs = net, specs
        self._tally = WeightTally() if diagnostics else None
        self._pack = start_pack(net, specs)

    def train(self, epoch: int) -> None:
        train_epoch(self._net, self._pack, self._specs, epoch, self._tally)

    def shown(self) -> list[Shown]:
        return [Shown(self._pack.params, self._pack.buffers)]

    def step(self) -> int:
        return self._pack.step

    def diverged_at(self) -> Tensor:
        return self._pack.diverged_at

    def passes(self, steps: Tensor) -> Tensor:
        spec = self._specs[0]
        method, treatment = method_named(spec.method), Treatment(**spec.treatment)
        return steps * passes_per_step(method, treatment, len(self._net.problem.tasks))

    def keep(self, rows: Tensor) -> None:
        self._specs = [self._specs[row] for row in rows.tolist()]
        self._pack = kept(self._pack, self._specs, rows)

    def unsolved(self) -> Tensor | None:
        return unsolved_steps(self._pack.method, [len(self._specs)])

    def members(self) -> int:
        return 1

    def weights(self) -> Tensor | None:
        return None if self._tally is None else self._tally.taken()

    def state(self) -> Snapshot:
        return pack_snapshot(self._pack)

    def restore(self, state: Snapshot) -> None:
        put_back(self._pack, state)


def earliest(diverged_at: Tensor) -> Tensor:
    """The step (N,) at which the first of a run's members (N, T) diverged, or -1."""
    never = torch.iinfo(diverged_at.dtype).max
    first = torch.where(diverged_at < 0, never, diverged_at).amin(dim=1)
    return torch.where(first == never, -1, first)
