"""The one training loop: a pack of runs trained side by side, from seeds to measurements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from mtofront.methods import Treatment, method_named, unsolved_steps
from mtofront.problems import Problem

from .evaluate import Measurement, losses_of, measure_pack
from .gradients import passes_per_step
from .network import network
from .pack import PackState, mark_divergence, start_pack, train_epoch
from .spec import RunSpec


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

    backward_passes: (N,) through the shared parameters. unsolved: (N,) steps in which the method's
    solver missed its tolerance, None for a method without one. notice: why not batched, or "".
    """

    specs: tuple[RunSpec, ...]
    measurements: tuple[Measurement, ...]
    diverged_at: NDArray[np.int64]
    backward_passes: NDArray[np.int64]
    unsolved: NDArray[np.float64] | None
    notice: str


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
    method, treatment = method_named(specs[0].method), Treatment(**specs[0].treatment)
    passes = steps * passes_per_step(method, treatment, len(problem.tasks))
    unsolved = unsolved_steps(pack.method, [len(specs)])
    return Trained(
        tuple(specs),
        tuple(measured),
        diverged,
        passes,
        None if unsolved is None else unsolved.cpu().numpy(),
        net.reason,
    )


def _first(both: Progress) -> Progress:
    """What twins tell, told of one."""
    return replace(both, runs=1, diverged=both.diverged // 2, points=both.points[:1])


def _first_run(twins: Trained) -> Trained:
    return Trained(
        twins.specs[:1],
        tuple(replace(m, values=m.values[:1]) for m in twins.measurements),
        twins.diverged_at[:1],
        twins.backward_passes[:1],
        None if twins.unsolved is None else twins.unsolved[:1],
        twins.notice,
    )


def evaluation_epochs(epochs: int, evaluations: int) -> frozenset[int]:
    """Epochs after which a run is measured: the untrained network and `evaluations` even shares."""
    count = min(epochs, evaluations)
    return frozenset({0, *(round(epochs * k / count) for k in range(1, count + 1))})


def _note_divergence(pack: PackState, latest: Sequence[Measurement]) -> None:
    """A run whose loss is not finite on some split has diverged too."""
    for split in ("train", "val", "test"):
        losses = torch.from_numpy(losses_of(latest, split)).to(pack.diverged_at.device)
        pack.diverged_at = mark_divergence(pack.diverged_at, losses, pack.step)


def _progress(
    pack: PackState, latest: Sequence[Measurement], epoch: int, specs: Sequence[RunSpec]
) -> Progress:
    points = losses_of(latest, "val").copy()
    gone = (pack.diverged_at >= 0).cpu().numpy()
    points[gone] = np.nan
    return Progress(len(specs), epoch, specs[0].epochs, int(gone.sum()), points)
