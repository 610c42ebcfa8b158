"""A pack in training: what changes from step to step, and the step itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mtofront.methods import Count, Method, Signals, State, TaskWeights, method_named
from mtofront.problems import Split

from .gradients import gradients
from .network import Network, Outputs, Tensors, stacked_state
from .optimizers import OptimizerState, Settings, apply, schedule
from .spec import RunSpec
from .streams import method_noise, minibatches, stream


@dataclass
class PackState:
    """Everything that changes while a pack trains.

    diverged_at: (N,) the step of a run's first non-finite loss, or -1. step: optimiser steps taken.
    """

    params: Tensors
    buffers: Tensors
    optimizer: OptimizerState
    method: State
    diverged_at: Tensor
    step: int = 0


@dataclass(frozen=True)
class Minibatch:
    """One step's data: rows of each run's own, random numbers for its method, epochs finished.

    seeds: one a run for layers that draw random numbers; empty where the network has none.
    """

    split: Split
    noise: Tensor
    epoch: int
    seeds: Sequence[int]


def start_pack(net: Network, specs: Sequence[RunSpec]) -> PackState:
    """The state of a pack before its first step."""
    params, buffers = stacked_state(net.problem, specs)
    device = net.problem.train.inputs.device
    method = method_named(specs[0].method)
    zeros = torch.zeros(len(specs), len(net.problem.tasks), dtype=torch.float64, device=device)
    return PackState(
        params,
        buffers,
        OptimizerState(),
        method.init(zeros),
        torch.full((len(specs),), -1, dtype=torch.int64, device=device),
    )


def train_epoch(net: Network, pack: PackState, specs: Sequence[RunSpec], epoch: int) -> None:
    """Take every run of a pack once through its own permutation of the training data."""
    train = net.problem.train
    device = train.inputs.device
    orders = minibatches(specs, len(train), min(specs[0].batch_size, len(train)), epoch).to(device)
    method = method_named(specs[0].method)
    width = method.noise(len(net.problem.tasks))
    noise = method_noise(specs, len(orders), width, epoch).to(device)
    values = method_values(method, specs, device)
    rates = torch.tensor([s.lr for s in specs], dtype=torch.float64, device=device)
    optimizer = specs[0].optimizer
    for k, rows in enumerate(orders):
        seeds = (
            [] if net.batched else [stream(s, "layers", pack.step).initial_seed() for s in specs]
        )
        minibatch = Minibatch(gathered(train, rows), noise[k], epoch, seeds)
        update = _update(net, pack, method, values, minibatch)
        factor = schedule(optimizer["schedule"], (epoch + k / len(orders)) / specs[0].epochs)
        settings = Settings(rates * factor, optimizer["weight_decay"], optimizer["momentum"])
        apply(optimizer["name"], pack.optimizer, settings, pack.params, update)
        if method.after is not None:
            pack.method = method.after(_losses_again(net, pack, minibatch), pack.method, values)
        pack.step += 1


def _update(
    net: Network,
    pack: PackState,
    method: Method,
    values: dict[str, Tensor | str | int],
    minibatch: Minibatch,
) -> Tensors:
    """The gradients that the method makes of one minibatch; its state moves on."""
    losses = net.losses(pack.params, pack.buffers, minibatch.split, minibatch.seeds)
    detached = _columns(losses)
    pack.diverged_at = mark_divergence(pack.diverged_at, detached, pack.step)

    def decide(gramian: Tensor | None, jacobian: Tensor | None) -> Tensor:
        signals = Signals(detached, minibatch.noise, gramian, jacobian, epoch=minibatch.epoch)
        answer, pack.method = method.step(signals, pack.method, values)
        return answer

    return gradients(method, net.sharing, pack.params, losses, decide)


def _losses_again(net: Network, pack: PackState, minibatch: Minibatch) -> Tensor:
    """Losses (N, T) of the same minibatch after the step; running statistics are left alone."""
    buffers = {name: value.clone() for name, value in pack.buffers.items()}
    with torch.no_grad():
        return _columns(net.losses(pack.params, buffers, minibatch.split, minibatch.seeds))


def _columns(losses: Outputs) -> Tensor:
    return torch.stack([loss.detach() for loss in losses], dim=1).double()


def gathered(split: Split, rows: Tensor) -> Split:
    """Each run's minibatch: rows (N, B) of row numbers -> inputs and targets (N, B, ...)."""
    flat = rows.reshape(-1)
    inputs, *targets = (
        whole.index_select(0, flat).view(*rows.shape, *whole.shape[1:])
        for whole in (split.inputs, *split.targets)
    )
    return Split(inputs, tuple(targets))


def mark_divergence(diverged_at: Tensor, losses: Tensor, step: int) -> Tensor:
    """Note the step of each run's first non-finite loss (N, T), without asking the device."""
    fresh = (diverged_at < 0) & ~torch.isfinite(losses).all(dim=1)
    return torch.where(fresh, step, diverged_at)


def method_values(
    method: Method, specs: Sequence[RunSpec], device: torch.device
) -> dict[str, Tensor | str | int]:
    """The runs' hyper-parameters as a method takes them: numbers (N,), weights (N, T), the rest."""
    values: dict[str, Tensor | str | int] = {}
    for name, hyper in method.hyper.items():
        if isinstance(hyper, TaskWeights):
            rows = [s.weights for s in specs]
            values[name] = torch.tensor(rows, dtype=torch.float64, device=device)
        elif isinstance(hyper, Count):
            values[name] = int(specs[0].hyper[name])
        elif isinstance(first := specs[0].hyper[name], str):
            values[name] = first
        else:
            numbers = [float(s.hyper[name]) for s in specs]
            values[name] = torch.tensor(numbers, dtype=torch.float64, device=device)
    return values
