"""What training a pack tells while it runs, and what it measured in the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .evaluate import Measurement
from .spec import RunSpec


@dataclass(frozen=True)
class Progress:
    """What a pack tells while it trains: after `epoch` of `epochs`, the runs' validation losses.

    points: (N, T); a diverged run's row is NaN. steps: that all its runs have taken together.
    training, evaluating: seconds spent so far. stopped: runs that a scheduler has ended.
    """

    runs: int
    epoch: int
    epochs: int
    diverged: int
    points: NDArray[np.float64]
    steps: int = 0
    training: float = 0.0
    evaluating: float = 0.0
    stopped: int = 0


@dataclass(frozen=True)
class Waiting:
    """A pack that stands at a rung until it is decided which of its runs go on.

    points: (N, T) validation losses, NaN for runs that have ended.
    """

    epoch: int
    points: NDArray[np.float64]


@dataclass(frozen=True)
class Trained:
    """What a pack measured. steps: (N,) optimiser steps that each run took before it ended.

    diverged_at: (N,) the step of a run's first non-finite loss, or -1. stopped: (N,) whether a
    scheduler ended it. backward_passes: (N,) through the shared parameters. unsolved: (N,) steps in
    which the method's solver missed its tolerance, None for a method without one. members: networks
    that a run trains. notice: why not batched, or "". Measurements after a run's end hold NaN for
    it.
    """

    specs: tuple[RunSpec, ...]
    measurements: tuple[Measurement, ...]
    steps: NDArray[np.int64]
    diverged_at: NDArray[np.int64]
    stopped: NDArray[np.bool_]
    backward_passes: NDArray[np.int64]
    unsolved: NDArray[np.float64] | None
    members: int
    notice: str


def runs_of(trained: Trained, runs: slice) -> Trained:
    """The account of some of the runs."""
    return replace(
        trained,
        specs=trained.specs[runs],
        measurements=tuple(replace(m, values=m.values[runs]) for m in trained.measurements),
        steps=trained.steps[runs],
        diverged_at=trained.diverged_at[runs],
        stopped=trained.stopped[runs],
        backward_passes=trained.backward_passes[runs],
        unsolved=None if trained.unsolved is None else trained.unsolved[runs],
    )


def joined(parts: Sequence[Trained]) -> Trained:
    """One account of packs of the same kind; NaN where a part ended before a measurement."""
    found = [{_key(m): m.values for m in part.measurements} for part in parts]
    nothing = [np.full(len(part.specs), np.nan) for part in parts]
    longest = max(parts, key=lambda part: len(part.measurements))
    measurements = [
        replace(
            one,
            values=np.concatenate(
                [own.get(_key(one), none) for own, none in zip(found, nothing, strict=True)]
            ),
        )
        for one in longest.measurements
    ]
    unsolved = [part.unsolved for part in parts if part.unsolved is not None]
    return Trained(
        tuple(spec for part in parts for spec in part.specs),
        tuple(measurements),
        np.concatenate([part.steps for part in parts]),
        np.concatenate([part.diverged_at for part in parts]),
        np.concatenate([part.stopped for part in parts]),
        np.concatenate([part.backward_passes for part in parts]),
        np.concatenate(unsolved) if unsolved else None,
        parts[0].members,
        parts[0].notice,
    )


def waiting_of(parts: Sequence[Trained | Waiting]) -> Waiting | None:
    """How the whole pack waits if one of its parts does; the runs of the others have ended."""
    at = [part for part in parts if isinstance(part, Waiting)]
    if not at:
        return None
    tasks = at[0].points.shape[1]
    points = [
        part.points if isinstance(part, Waiting) else np.full((len(part.specs), tasks), np.nan)
        for part in parts
    ]
    return Waiting(at[0].epoch, np.concatenate(points))


def _key(one: Measurement) -> tuple[object, ...]:
    """What a measurement is of, apart from its values."""
    return one.step, one.split, one.task, one.measure, one.weights
