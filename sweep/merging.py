"""Merging runs: a common start, then one copy a task, put together again to be measured."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mtofront.methods import Signals, method_named

from .arms import as_linear
from .costs import joint_epochs
from .course import Shown, earliest
from .network import Network, Tensors
from .optimizers import start_optimizer
from .pack import PackState, kept, method_values, optimizer_settings, start_pack, train_epoch
from .snapshot import Snapshot, pack_snapshot, put_back
from .spec import RunSpec
from .storage import stored


class MergeCourse:
    """N runs of T members each; members of one run stand side by side in the pack.

    All tasks together train the common start with equal weights. Each copy then trains its own
    task, on the same minibatches, from a fresh optimiser.
    """

    def __init__(self, net: Network, specs: Sequence[RunSpec]) -> None:
        self._net, self._specs = net, specs
        self._tasks = len(net.problem.tasks)
        self._joint_epochs = joint_epochs(specs[0].hyper, specs[0].epochs)
        equal = (1 / self._tasks,) * self._tasks
        self._joint = [as_linear(spec, equal) for spec in specs]
        own = [tuple(float(k == t) for k in range(self._tasks)) for t in range(self._tasks)]
        self._single = [as_linear(spec, weights) for spec in specs for weights in own]
        self._start = start_pack(net, self._joint)
        self._members: PackState | None = None

    def train(self, epoch: int) -> None:
        if epoch < self._joint_epochs:
            train_epoch(self._net, self._start, self._joint, epoch)
            return
        if self._members is None:
            self._members = self._copies()
        train_epoch(self._net, self._members, self._single, epoch)

    def shown(self) -> list[Shown]:
        if self._members is None:
            return [Shown(self._start.params, self._start.buffers)]
        return [Shown(self._merged(self._members), self._mean_buffers(self._members))]

    def step(self) -> int:
        return self._start.step if self._members is None else self._members.step

    def diverged_at(self) -> Tensor:
        if self._members is None:
            return self._start.diverged_at
        return earliest(self._members.diverged_at.view(-1, self._tasks))

    def passes(self, steps: Tensor) -> Tensor:
        joint = steps.clamp_max(self._start.step)
        return joint + (steps - joint) * self._tasks

    def keep(self, rows: Tensor) -> None:
        self._specs = [self._specs[row] for row in rows.tolist()]
        self._joint = [self._joint[row] for row in rows.tolist()]
        self._start = kept(self._start, self._joint, rows)
        members = (
            rows.unsqueeze(1) * self._tasks + torch.arange(self._tasks, device=rows.device)
        ).flatten()
        self._single = [self._single[member] for member in members.tolist()]
        if self._members is not None:
            self._members = kept(self._members, self._single, members)

    def unsolved(self) -> Tensor | None:
        return None

    def members(self) -> int:
        return self._tasks

    def weights(self) -> Tensor | None:
        return None

    def state(self) -> Snapshot:
        members = None if self._members is None else pack_snapshot(self._members)
        return {"start": pack_snapshot(self._start), "members": members}

    def restore(self, state: Snapshot) -> None:
        put_back(self._start, state["start"])
        if state["members"] is not None:
            self._members = self._copies()
            put_back(self._members, state["members"])

    def _copies(self) -> PackState:
        """T copies of every run as it is now."""

        def repeated(tensors: Tensors) -> Tensors:
            return {k: v.detach().repeat_interleave(self._tasks, 0) for k, v in tensors.items()}

        start = self._start
        params, buffers = repeated(start.params), repeated(start.buffers)
        storage = stored(params, self._net.sharing.trained)
        optimizer = start_optimizer(optimizer_settings(self._single), storage)
        diverged_at = start.diverged_at.repeat_interleave(self._tasks)
        params |= dict(storage.views)
        return PackState(params, buffers, storage, optimizer, {}, diverged_at, start.step)

    def _merged(self, members: PackState) -> Tensors:
        """Shared parameters as the method merges them; each task's own from its own member."""
        sharing, start = self._net.sharing, self._start.params
        copies = {
            name: value.detach().unflatten(0, (-1, self._tasks))  # type: ignore[no-untyped-call]
            for name, value in members.params.items()
        }
        ways = [(copies[name] - start[name].detach().unsqueeze(1)) for name in sharing.shared]
        vectors = torch.cat([way.flatten(2) for way in ways], dim=2)
        moved = self._combined(vectors, [tuple(way.shape[2:]) for way in ways])
        merged = {name: value[:, 0] for name, value in copies.items()}
        parts = torch.split(moved, [way[0, 0].numel() for way in ways], dim=1)
        for name, part in zip(sharing.shared, parts, strict=True):
            merged[name] = start[name].detach() + part.view_as(start[name])
        for task, names in enumerate(sharing.heads):
            merged |= {name: copies[name][:, task] for name in names}
        return merged

    def _combined(self, vectors: Tensor, shapes: Sequence[tuple[int, ...]]) -> Tensor:
        """The method's merged task vector (N, P) of the runs' task vectors (N, T, P)."""
        method = method_named(self._specs[0].method)
        zeros = vectors.new_zeros(*vectors.shape[:2], dtype=torch.float64)
        signals = Signals(
            losses=zeros,
            noise=zeros[:, :0],
            jacobian=vectors,
            shapes=tuple(shape or (1,) for shape in shapes),
        )
        values = method_values(method, self._specs, vectors.device)
        return method.step(signals, {}, values)[0].to(vectors.dtype)

    def _mean_buffers(self, members: PackState) -> Tensors:
        """Running statistics: the members' mean; the first member's where that has no meaning."""
        copies = {
            name: value.unflatten(0, (-1, self._tasks))  # type: ignore[no-untyped-call]
            for name, value in members.buffers.items()
        }
        return {k: v.mean(1) if v.is_floating_point() else v[:, 0] for k, v in copies.items()}
