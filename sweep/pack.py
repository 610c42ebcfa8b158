"""A pack in training: what changes from step to step, and the step itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mtofront.methods import (
    Count,
    Method,
    State,
    TaskWeights,
    Treatment,
    first_state,
    method_named,
    noise_width,
)
from mtofront.problems import Split

from .chunks import bounded_step
from .gradients import Minibatch, Stepped
from .network import Network, Tensors, stacked_state
from .optimizers import (
    BETA2,
    OptimizerState,
    Schedule,
    Settings,
    apply,
    kept_optimizer,
    start_optimizer,
)
from .spec import RunSpec
from .stages import Rule, Tell, tell, treated_losses
from .storage import Storage, selected, stored
from .streams import method_noise, minibatches, stream
from .tally import WeightTally
from .traced import WORTH_STEPS, Replay


@dataclass
class PackState:
    """Everything that changes while a pack trains.

    params: all parameters (N, ...), the trained ones as views of the storage.
    diverged_at: (N,) the step of a run's first non-finite loss, or -1. step: optimiser steps taken.
    tell: how a step's passes through the network are computed.
    """

    params: Tensors
    buffers: Tensors
    storage: Storage
    optimizer: OptimizerState
    method: State
    diverged_at: Tensor
    step: int = 0
    tell: Tell = tell


def start_pack(net: Network, specs: Sequence[RunSpec]) -> PackState:
    """The state of a pack before its first step."""
    params, buffers = stacked_state(net.problem, specs)
    storage = stored(params, net.sharing.trained)
    device = net.problem.train.device
    rule = pack_rule(specs, device)
    zeros = torch.zeros(len(specs), len(net.problem.tasks), dtype=torch.float64, device=device)
    return PackState(
        params | dict(storage.views),
        buffers,
        storage,
        start_optimizer(optimizer_settings(specs), storage),
        first_state(rule.method, rule.treatment, zeros, _sizes(net, params)),
        torch.full((len(specs),), -1, dtype=torch.int64, device=device),
    )


def train_epoch(
    net: Network,
    pack: PackState,
    specs: Sequence[RunSpec],
    epoch: int,
    tally: WeightTally | None = None,
) -> None:
    """Take every run of a pack once through its own permutation of the training data.

    tally: takes in how the tasks are weighed.
    """
    train = net.problem.train
    device, held = train.device, train.inputs.device
    orders = minibatches(specs, len(train), min(specs[0].batch_size, len(train)), epoch).to(held)
    rule = replace(pack_rule(specs, device), follow=tally is not None)
    tasks, tensors = len(net.problem.tasks), len(net.sharing.shared)
    width = noise_width(rule.method, rule.treatment, tasks, tensors)
    if pack.tell is tell and net.batched and (specs[0].epochs - epoch) * len(orders) >= WORTH_STEPS:
        pack.tell = Replay()
    noise = method_noise(specs, len(orders), width, epoch).to(device)
    seeds = step_seeds(net, specs, pack.step, len(orders))
    for k, rows in enumerate(orders):
        minibatch = Minibatch(gathered(train, rows), noise[k], epoch, seeds[k])
        stepped = _step(net, pack, rule, minibatch, rate_factor(specs[0], epoch, k, len(orders)))
        if tally is not None:
            tally.add(rule, stepped)


def step_seeds(
    net: Network, specs: Sequence[RunSpec], first: int, steps: int, copies: int = 1
) -> Tensor:
    """Each run's seeds for layers that draw, (K, N·copies), in K steps; zeros where none does.

    first: the number of the first of these steps. All are made at once: a copy to a device waits.
    """
    device = net.problem.train.device
    if not net.draws:
        return torch.zeros(steps, len(specs) * copies, dtype=torch.int64, device=device)
    seeds = [
        [stream(s, "layers", step).initial_seed() for s in specs]
        for step in range(first, first + steps)
    ]
    drawn = torch.tensor(seeds, dtype=torch.int64, device=device).repeat_interleave(copies, dim=1)
    # copies of a run drop each their own
    return drawn + torch.arange(copies, device=device).repeat(len(specs))


def kept(pack: PackState, specs: Sequence[RunSpec], rows: Tensor) -> PackState:
    """The pack of some of the runs (K,), whose specs these are; nobody computes for the others."""

    def some(tensors: Mapping[str, Tensor]) -> Tensors:
        return {name: value.detach().index_select(0, rows) for name, value in tensors.items()}

    storage = selected(pack.storage, rows)
    return PackState(
        some(pack.params) | dict(storage.views),
        some(pack.buffers),
        storage,
        kept_optimizer(pack.optimizer, optimizer_settings(specs), storage, rows),
        some(pack.method),
        pack.diverged_at.index_select(0, rows),
        pack.step,
    )


def optimizer_settings(specs: Sequence[RunSpec]) -> Settings:
    """What the runs' optimiser is told."""
    optimizer = specs[0].optimizer
    return Settings(
        optimizer["name"],
        tuple(spec.lr for spec in specs),
        tuple(spec.optimizer["weight_decay"] for spec in specs),
        optimizer["momentum"],
        optimizer["clip"],
        optimizer.get("beta2", BETA2),
    )


def rate_factor(spec: RunSpec, epoch: int, step: int, steps: int) -> float:
    """What the schedule makes of the learning rate in step `step` of `steps` of an epoch."""
    schedule = Schedule(**spec.optimizer["schedule"])
    return schedule.at((epoch + step / steps) / spec.epochs, 1 / (steps * spec.epochs))


def _step(
    net: Network, pack: PackState, rule: Rule, minibatch: Minibatch, factor: float
) -> Stepped:
    """One optimiser step of every run, and what it was made of."""
    stepped = bounded_step(net, rule, pack.params, pack.buffers, pack.method, minibatch, pack.tell)
    pack.diverged_at = mark_divergence(pack.diverged_at, stepped.losses, pack.step)
    pack.method = stepped.state
    as_is = net.sharing.shared if rule.method.answers == "step" else ()
    apply(pack.optimizer, pack.storage, stepped.gradients, factor, as_is)
    if rule.method.after is not None:
        effect = _losses_again(net, pack, rule, minibatch)
        pack.method = rule.method.after(effect, pack.method, rule.values)
    pack.step += 1
    return stepped


def _losses_again(net: Network, pack: PackState, rule: Rule, minibatch: Minibatch) -> Tensor:
    """Losses (N, T) of the same minibatch after the step; running statistics are left alone."""
    buffers = {name: value.clone() for name, value in pack.buffers.items()}
    with torch.no_grad():
        losses = net.losses(pack.params, buffers, minibatch.split, minibatch.seeds)
        return torch.stack(treated_losses(rule, losses)[0], dim=1).double()


def _sizes(net: Network, params: Tensors) -> list[int]:
    """How many numbers each shared tensor of one run has."""
    return [params[name][0].numel() for name in net.sharing.shared]


def gathered(split: Split, rows: Tensor) -> Split:
    """Each run's minibatch: rows (N, B) of row numbers -> inputs and targets (N, B, ...)."""
    flat = split.rows(rows.reshape(-1))
    inputs, *targets = (
        part.view(*rows.shape, *part.shape[1:]) for part in (flat.inputs, *flat.targets)
    )
    return Split(inputs, tuple(targets))


def mark_divergence(diverged_at: Tensor, losses: Tensor, step: int) -> Tensor:
    """Note the step of each run's first non-finite loss (N, T), without asking the device."""
    fresh = (diverged_at < 0) & ~torch.isfinite(losses).all(dim=1)
    return torch.where(fresh, step, diverged_at)


def pack_rule(specs: Sequence[RunSpec], device: torch.device) -> Rule:
    """The method of a pack's runs: treatment, values, weights on the losses before it."""
    method = method_named(specs[0].method)
    weights = None
    if specs[0].weights is not None and not method.takes_weights:
        weights = torch.tensor([s.weights for s in specs], dtype=torch.float64, device=device)
    treatment = Treatment(**specs[0].treatment)
    return Rule(method, treatment, method_values(method, specs, device), weights)


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
