"""The one training loop: a pack of runs trained side by side, from seeds to measurements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtofront.methods import METHODS, Method, Signals, State, TaskWeights
from mtofront.problems import Problem, Split

from .evaluate import Measurement, losses_of, measure_pack
from .gradients import gradients, passes_per_step
from .network import Network, Tensors, network, stacked_state
from .optimizers import OptimizerState, Settings, apply, schedule
from .spec import RunSpec
from .streams import method_noise, minibatches, stream


@dataclass(frozen=True)
class Progress:
    """What a pack tells while it trains: after `epoch` of `epochs`, the runs' validation losses.

    points: (N, T); a diverged run's row is NaN.
    """

    runs: int
    epoch: int
    epochs: int
    diverged: int
    points: NDArray[np.float64]


@dataclass(frozen=True)
class Trained:
    """What a pack measured. diverged_at: (N,) the step of a run's first non-finite loss, or -1.

    backward_passes: (N,) through the shared parameters. notice: why it was not batched, or "".
    """

    specs: tuple[RunSpec, ...]
    measurements: tuple[Measurement, ...]
    diverged_at: NDArray[np.int64]
    backward_passes: NDArray[np.int64]
    notice: str


@dataclass
class PackState:
    """Everything that changes while a pack trains."""

    params: Tensors
    buffers: Tensors
    optimizer: OptimizerState
    method: State
    diverged_at: Tensor
    step: int = 0


def ignore(progress: Progress) -> None:
    """Listen to nothing."""


def train_pack(
    problem: Problem,
    specs: Sequence[RunSpec],
    listen: Callable[[Progress], None] = ignore,
) -> Trained:
    """Train runs that differ only in seed, restart, learning rate, weights and numbers of a method.

    Each run's result follows from its own spec: parameters, minibatches and random numbers are
    its own, and nothing is summed over runs. Tensors live where the problem's data lives.
    """
    if len(specs) == 1:  # kernels for a batch of one round differently from those for two or more
        twins = train_pack(problem, [specs[0]] * 2, lambda both: listen(_first(both)))
        return _first_run(twins)
    net = network(problem, specs[0])
    pack = start_pack(net, specs)
    due = evaluation_epochs(specs[0].epochs, specs[0].evaluations)
    measured: list[Measurement] = []
    for epoch in range(specs[0].epochs + 1):
        if epoch > 0:
            train_epoch(net, pack, specs, epoch - 1)
        if epoch in due:
            latest = measure_pack(net, pack.params, pack.buffers, pack.step, epoch)
            measured += latest
            _note_divergence(pack, latest)
            listen(_progress(pack, latest, epoch, specs))
            if bool((pack.diverged_at >= 0).all()):
                break
    diverged = pack.diverged_at.cpu().numpy()
    steps = np.where(diverged >= 0, diverged, pack.step)
    passes = steps * passes_per_step(METHODS[specs[0].method], len(problem.tasks))
    return Trained(tuple(specs), tuple(measured), diverged, passes, net.reason)


def _first(both: Progress) -> Progress:
    """What twins tell, told of one."""
    return replace(both, runs=1, diverged=both.diverged // 2, points=both.points[:1])


def _first_run(twins: Trained) -> Trained:
    return Trained(
        twins.specs[:1],
        tuple(replace(m, values=m.values[:1]) for m in twins.measurements),
        twins.diverged_at[:1],
        twins.backward_passes[:1],
        twins.notice,
    )


def evaluation_epochs(epochs: int, evaluations: int) -> frozenset[int]:
    """Epochs after which a run is measured: the untrained network and `evaluations` even shares."""
    count = min(epochs, evaluations)
    return frozenset({0, *(round(epochs * k / count) for k in range(1, count + 1))})


def start_pack(net: Network, specs: Sequence[RunSpec]) -> PackState:
    """The state of a pack before its first step."""
    params, buffers = stacked_state(net.problem, specs)
    device = net.problem.train.inputs.device
    method = METHODS[specs[0].method]
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
    batch = min(specs[0].batch_size, len(train))
    orders = minibatches(specs, len(train), batch, epoch).to(device)
    method = METHODS[specs[0].method]
    width = method.noise(len(net.problem.tasks))
    noise = method_noise(specs, len(orders), width, epoch).to(device)
    values = method_values(method, specs, device)
    rates = torch.tensor([s.lr for s in specs], dtype=torch.float64, device=device)
    for k, rows in enumerate(orders):
        split = gathered(train, rows)
        progress = (epoch + k / len(orders)) / specs[0].epochs
        optimizer = specs[0].optimizer
        settings = Settings(
            rates * schedule(optimizer["schedule"], progress),
            optimizer["weight_decay"],
            optimizer["momentum"],
        )
        _train_step(net, pack, specs, split, noise[k], values, settings)


def gathered(split: Split, rows: Tensor) -> Split:
    """Each run's minibatch: rows (N, B) of row numbers -> inputs and targets (N, B, ...)."""
    flat = rows.reshape(-1)
    inputs, *targets = (
        whole.index_select(0, flat).view(*rows.shape, *whole.shape[1:])
        for whole in (split.inputs, *split.targets)
    )
    return Split(inputs, tuple(targets))


def _train_step(
    net: Network,
    pack: PackState,
    specs: Sequence[RunSpec],
    split: Split,
    noise: Tensor,
    values: dict[str, Tensor | str],
    settings: Settings,
) -> None:
    method = METHODS[specs[0].method]
    seeds = [] if net.batched else [stream(s, "layers", pack.step).initial_seed() for s in specs]
    losses = net.losses(pack.params, pack.buffers, split, seeds)
    detached = torch.stack([loss.detach() for loss in losses], dim=1).double()
    pack.diverged_at = _mark(pack.diverged_at, detached, pack.step)

    def decide(gramian: Tensor | None, jacobian: Tensor | None) -> Tensor:
        answer, pack.method = method.step(
            Signals(detached, noise, gramian, jacobian), pack.method, values
        )
        return answer

    grads = gradients(method, net.sharing, pack.params, losses, decide)
    apply(specs[0].optimizer["name"], pack.optimizer, settings, pack.params, grads)
    pack.step += 1


def _mark(diverged_at: Tensor, losses: Tensor, step: int) -> Tensor:
    """Note the step of the first non-finite loss of each run, without asking the device."""
    fresh = (diverged_at < 0) & ~torch.isfinite(losses).all(dim=1)
    return torch.where(fresh, step, diverged_at)


def _note_divergence(pack: PackState, latest: Sequence[Measurement]) -> None:
    """A run whose loss is not finite on some split has diverged too."""
    for split in ("train", "val", "test"):
        losses = torch.from_numpy(losses_of(latest, split)).to(pack.diverged_at.device)
        pack.diverged_at = _mark(pack.diverged_at, losses, pack.step)


def _progress(
    pack: PackState, latest: Sequence[Measurement], epoch: int, specs: Sequence[RunSpec]
) -> Progress:
    points = losses_of(latest, "val").copy()
    gone = (pack.diverged_at >= 0).cpu().numpy()
    points[gone] = np.nan
    return Progress(len(specs), epoch, specs[0].epochs, int(gone.sum()), points)


def method_values(
    method: Method, specs: Sequence[RunSpec], device: torch.device
) -> dict[str, Tensor | str]:
    """The runs' hyper-parameters as a method takes them: numbers (N,), weights (N, T), choices."""
    values: dict[str, Tensor | str] = {}
    for name, hyper in method.hyper.items():
        if isinstance(hyper, TaskWeights):
            rows = [s.weights for s in specs]
            values[name] = torch.tensor(rows, dtype=torch.float64, device=device)
        elif isinstance(first := specs[0].hyper[name], str):
            values[name] = first
        else:
            numbers = [float(s.hyper[name]) for s in specs]
            values[name] = torch.tensor(numbers, dtype=torch.float64, device=device)
    return values
