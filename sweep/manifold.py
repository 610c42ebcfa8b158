"""Manifold runs: T members whose mixtures are trained together and are all shown at the end."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mtofront.methods import Signals, Values, method_named, number
from mtofront.problems import Split

from .course import Shown
from .network import Network, Tensors
from .optimizers import apply, start_optimizer
from .pack import (
    PackState,
    gathered,
    kept,
    mark_divergence,
    method_values,
    optimizer_settings,
    rate_factor,
    start_pack,
    step_seeds,
)
from .snapshot import Snapshot, pack_snapshot, put_back
from .spec import RunSpec
from .storage import stored
from .streams import method_noise, minibatches
from .weights import weight_grid


class ManifoldCourse:
    """N runs of T members each; every parameter is (N, T, ...)."""

    def __init__(self, net: Network, specs: Sequence[RunSpec]) -> None:
        self._net, self._specs = net, specs
        self._method = method_named(specs[0].method)
        self._values = self._read_values()
        self._tasks = len(net.problem.tasks)
        self._windows = int(specs[0].hyper["windows"])
        points = max(int(specs[0].hyper["points"]), self._tasks)
        self._front = weight_grid("lattice", points, self._tasks)
        single = start_pack(net, specs)
        members = {
            name: _repeated(value.detach(), self._tasks) for name, value in single.params.items()
        }
        storage = stored(members, net.sharing.trained)
        optimizer = start_optimizer(optimizer_settings(specs), storage)
        params = members | dict(storage.views)
        self._pack = PackState(params, single.buffers, storage, optimizer, {}, single.diverged_at)

    def train(self, epoch: int) -> None:
        specs, train = self._specs, self._net.problem.train
        batch = min(specs[0].batch_size, len(train))
        device = train.device
        orders = minibatches(specs, len(train), batch, epoch).to(train.inputs.device)
        width = self._method.noise(self._tasks) * self._windows
        noise = method_noise(specs, len(orders), width, epoch).to(device)
        seeds = step_seeds(self._net, specs, self._pack.step, len(orders), self._windows)
        for k, rows in enumerate(orders):
            mixtures = self._drawn(noise[k])
            losses = self._losses(mixtures, gathered(train, rows), seeds[k])
            total = self._objective(losses, mixtures)
            names = self._net.sharing.trained
            grads = torch.autograd.grad(total, [self._pack.params[name] for name in names])
            raw = losses.detach().double().flatten(1)
            self._pack.diverged_at = mark_divergence(self._pack.diverged_at, raw, self._pack.step)
            gradients = dict(zip(names, grads, strict=True))
            factor = rate_factor(specs[0], epoch, k, len(orders))
            apply(self._pack.optimizer, self._pack.storage, gradients, factor)
            self._pack.step += 1

    def shown(self) -> list[Shown]:
        return [Shown(self._mixed_alike(point), self._pack.buffers, point) for point in self._front]

    def step(self) -> int:
        return self._pack.step

    def diverged_at(self) -> Tensor:
        return self._pack.diverged_at

    def passes(self, steps: Tensor) -> Tensor:
        return steps * self._windows

    def keep(self, rows: Tensor) -> None:
        self._specs = [self._specs[row] for row in rows.tolist()]
        self._values = self._read_values()
        self._pack = kept(self._pack, self._specs, rows)

    def unsolved(self) -> Tensor | None:
        return None

    def members(self) -> int:
        return self._tasks

    def weights(self) -> Tensor | None:
        return None

    def state(self) -> Snapshot:
        return pack_snapshot(self._pack)

    def restore(self, state: Snapshot) -> None:
        put_back(self._pack, state)

    def _read_values(self) -> Values:
        device = self._net.problem.train.device
        return method_values(self._method, self._specs, device)

    def _drawn(self, noise: Tensor) -> Tensor:
        """The step's mixtures (N, W, T) from its random numbers (N, W·K)."""
        windows = noise.reshape(len(noise), self._windows, -1)
        zeros = windows.new_zeros(*windows.shape[:2], self._tasks)
        return self._method.step(Signals(losses=zeros, noise=windows), {}, self._values)[0]

    def _losses(self, mixtures: Tensor, split: Split, seeds: Tensor) -> Tensor:
        """Losses (N, W, T) of the mixtures on each run's minibatch; running statistics move on."""
        pack, windows = self._pack, self._windows
        params = {name: _mixed(mixtures, value) for name, value in pack.params.items()}
        buffers = {n: v.repeat_interleave(windows, 0) for n, v in pack.buffers.items()}
        repeated = Split(
            split.inputs.repeat_interleave(windows, 0),
            tuple(target.repeat_interleave(windows, 0) for target in split.targets),
        )
        losses = self._net.losses(params, buffers, repeated, seeds)
        for name, value in buffers.items():
            runs = value.view(-1, windows, *value.shape[1:])
            pack.buffers[name] = runs.mean(1) if value.is_floating_point() else runs[:, 0]
        return torch.stack(losses, dim=1).view(-1, windows, self._tasks)

    def _objective(self, losses: Tensor, mixtures: Tensor) -> Tensor:
        """What all members descend along, summed over the runs, each independent of the others."""
        mean = (mixtures.to(losses.dtype) * losses).sum(-1).mean(-1)
        penalty = number(self._values, "penalty").squeeze(-1)
        return (mean + penalty.to(losses.dtype) * out_of_order(losses, mixtures)).sum()

    def _mixed_alike(self, point: tuple[float, ...]) -> Tensors:
        """The networks (N, ...) that one mixture makes of each run's members."""
        runs = len(self._specs)
        mixture = torch.tensor(point, dtype=torch.float64, device=self._pack.diverged_at.device)
        mixtures = mixture.expand(runs, 1, -1)
        with torch.no_grad():
            return {name: _mixed(mixtures, value) for name, value in self._pack.params.items()}


def out_of_order(losses: Tensor, mixtures: Tensor) -> Tensor:
    """How far losses rise as their task's share of the mixture grows, (N,); 0 for one mixture.

    losses, mixtures: (N, W, T). For each task, over neighbours in the order of its share:
    log mean exp(max(0, rise)); summed over tasks.
    """
    if losses.shape[1] == 1:
        return losses.new_zeros(len(losses))
    order = mixtures.argsort(dim=1)
    rise = losses.gather(1, order).diff(dim=1).clamp_min(0)
    return torch.logsumexp(rise, dim=1).sub(torch.log(losses.new_full((), rise.shape[1]))).sum(-1)


def _mixed(mixtures: Tensor, members: Tensor) -> Tensor:
    """Σ_k α_k θ_k: mixtures (N, W, T) and members (N, T, ...) give (N·W, ...)."""
    rest = [1] * (members.ndim - 2)
    shares = mixtures.to(members.dtype)
    total = shares[:, :, 0].reshape(*shares.shape[:2], *rest) * members[:, None, 0]
    for k in range(1, members.shape[1]):
        total = total + shares[:, :, k].reshape(*shares.shape[:2], *rest) * members[:, None, k]
    return total.flatten(0, 1)


def _repeated(values: Tensor, members: int) -> Tensor:
    """(N, ...) as (N, T, ...), the same for all members."""
    return values.unsqueeze(1).expand(-1, members, *values.shape[1:])
