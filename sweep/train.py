"""The one training loop: a pack of runs trained side by side, from seeds to measurements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtofront.methods import method_named
from mtofront.problems import Problem

from .course import Course, StepByStep
from .evaluate import Measurement, losses_of, measure_pack
from .manifold import ManifoldCourse
from .merging import MergeCourse
from .network import Network, network
from .pack import mark_divergence
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
    solver missed its tolerance, None for a method without one. members: networks that a run trains.
    notice: why not batched, or "".
    """

    specs: tuple[RunSpec, ...]
    measurements: tuple[Measurement, ...]
    diverged_at: NDArray[np.int64]
    backward_passes: NDArray[np.int64]
    unsolved: NDArray[np.float64] | None
    members: int
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
    course = start_course(net, specs)
    due = evaluation_epochs(specs[0].epochs, specs[0].evaluations)
    measured: list[Measurement] = []
    diverged_at = course.diverged_at()
    for epoch in range(specs[0].epochs + 1):
        if epoch > 0:
            course.train(epoch - 1)
        if epoch in due:
            networks = course.shown()
            latest = [measure_pack(net, shown, course.step(), epoch) for shown in networks]
            measured += [number for one in latest for number in one]
            diverged_at = _with_divergence(course, diverged_at, latest)
            listen(_progress(diverged_at, latest[len(latest) // 2], epoch, specs))
            if bool((diverged_at >= 0).all()):
                break
    steps = torch.where(diverged_at >= 0, diverged_at, course.step())
    unsolved = course.unsolved()
    return Trained(
        tuple(specs),
        tuple(measured),
        diverged_at.cpu().numpy(),
        course.passes(steps).cpu().numpy(),
        None if unsolved is None else unsolved.cpu().numpy(),
        course.members(),
        net.reason,
    )


def start_course(net: Network, specs: Sequence[RunSpec]) -> Course:
    """The training that the runs' method asks for, before its first step."""
    courses: dict[str, Callable[[Network, Sequence[RunSpec]], Course]] = {
        "": StepByStep,
        "merge": MergeCourse,
        "manifold": ManifoldCourse,
    }
    return courses[method_named(specs[0].method).scheme](net, specs)


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
        twins.members,
        twins.notice,
    )


def evaluation_epochs(epochs: int, evaluations: int) -> frozenset[int]:
    """Epochs after which a run is measured: the untrained network and `evaluations` even shares."""
    count = min(epochs, evaluations)
    return frozenset({0, *(round(epochs * k / count) for k in range(1, count + 1))})


def _with_divergence(
    course: Course, before: Tensor, latest: Sequence[Sequence[Measurement]]
) -> Tensor:
    """The steps (N,) of the runs' first non-finite losses, in training or on some split."""
    training = course.diverged_at()
    diverged_at = torch.where(before >= 0, before, training)
    for measured in latest:
        for split in ("train", "val", "test"):
            losses = torch.from_numpy(losses_of(measured, split)).to(diverged_at.device)
            diverged_at = mark_divergence(diverged_at, losses, course.step())
    return diverged_at


def _progress(
    diverged_at: Tensor, latest: Sequence[Measurement], epoch: int, specs: Sequence[RunSpec]
) -> Progress:
    points = losses_of(latest, "val").copy()
    gone = (diverged_at >= 0).cpu().numpy()
    points[gone] = np.nan
    return Progress(len(specs), epoch, specs[0].epochs, int(gone.sum()), points)
