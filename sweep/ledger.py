"""What is known of a pack's runs while it trains: who goes on, who ended, and what was measured."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .course import Course
from .evaluate import Measurement, losses_of
from .snapshot import Snapshot
from .spec import RunSpec
from .trained import Progress, Trained, Waiting

Floats = NDArray[np.float64]
ARRAYS = (
    "rows", "ended", "stopped", "steps", "diverged_at", "passes", "unsolved", "best", "waited",
    "points",
)  # fmt: skip
"""What the account keeps beside the measurements; `unsolved` and `best` may not be there yet."""


class Ledger:
    """The account of N runs.

    A run that diverged, or whose validation losses have not fallen for `patience` evaluations, or
    that a scheduler stopped, has ended: it leaves the pack, and nobody computes for it any more.
    """

    def __init__(self, specs: Sequence[RunSpec]) -> None:
        count = len(specs)
        self._specs = tuple(specs)
        self._rows = np.arange(count)
        self._ended = np.zeros(count, dtype=bool)
        self._stopped = np.zeros(count, dtype=bool)
        self._measured: list[Measurement] = []
        self._steps = np.zeros(count, dtype=np.int64)
        self._diverged_at = np.full(count, -1, dtype=np.int64)
        self._passes = np.zeros(count, dtype=np.int64)
        self._unsolved: Floats | None = None
        self._best: Floats | None = None
        self._waited = np.zeros(count, dtype=np.int64)
        self._points = np.empty((count, 0))

    @property
    def rows(self) -> list[int]:
        """Which runs the course's rows are."""
        return [int(row) for row in self._rows]

    @property
    def is_over(self) -> bool:
        """Whether every run has ended."""
        return bool(self._ended.all())

    def state(self) -> Snapshot:
        """The account so far, as tensors and plain values."""
        arrays = {name: getattr(self, f"_{name}") for name in ARRAYS}
        return {
            **{k: None if a is None else torch.from_numpy(a.copy()) for k, a in arrays.items()},
            "values": torch.from_numpy(np.stack([m.values for m in self._measured])),
            "measured": [
                (m.step, m.epoch, m.split, m.task, m.measure, m.weights) for m in self._measured
            ],
        }

    def restore(self, state: Snapshot) -> None:
        """Go on from the account of the same runs."""
        for name in ARRAYS:
            array = state[name]
            setattr(self, f"_{name}", None if array is None else array.numpy())
        self._measured = [
            Measurement(step, epoch, split, task, measure, values, weights)
            for (step, epoch, split, task, measure, weights), values in zip(
                state["measured"], state["values"].numpy(), strict=True
            )
        ]

    def enter(self, course: Course, latest: Sequence[Sequence[Measurement]]) -> None:
        """Write down an evaluation of the course's rows: one list of numbers a network shown."""
        own = ~self._ended[self._rows]
        runs = self._rows[own]
        everywhere = np.concatenate(
            [losses_of(one, split) for one in latest for split in ("train", "val", "test")], axis=1
        )
        diverged_at = course.diverged_at().cpu().numpy()[own]
        broken = ~np.isfinite(everywhere[own]).all(axis=1)
        diverged_at = np.where((diverged_at < 0) & broken, course.step(), diverged_at)
        self._measured += [self._spread(m, own) for one in latest for m in one]
        self._note(course, own, diverged_at)
        self._wait(runs, np.concatenate([losses_of(one, "val") for one in latest], axis=1)[own])
        shown = losses_of(latest[len(latest) // 2], "val")
        self._points = np.full((len(self._specs), shown.shape[1]), np.nan)
        self._points[runs[diverged_at < 0]] = shown[own][diverged_at < 0]

    def stop(self, runs: Container[str]) -> None:
        """End the runs of these ids by a scheduler's decision; those that have ended stay as is."""
        named = np.array([spec.id in runs for spec in self._specs])
        self._stopped |= named & ~self._ended
        self._ended |= named

    def going_on(self) -> Tensor | None:
        """Rows of the course that are still needed, or None if every run has ended.

        A last run keeps one ended run as company: kernels for one run round differently.
        """
        needed = np.flatnonzero(~self._ended[self._rows])
        if len(needed) == 0:
            return None
        if len(needed) == 1:
            company = next(row for row in range(len(self._rows)) if row != needed[0])
            needed = np.sort(np.append(needed, company))
        self._rows = self._rows[needed]
        return torch.from_numpy(needed)

    def progress(self, epoch: int) -> Progress:
        """What to tell after an evaluation."""
        diverged = int((self._diverged_at >= 0).sum())
        stopped, steps = int(self._stopped.sum()), int(self._steps.sum())
        return Progress(
            len(self._specs),
            epoch,
            self._specs[0].epochs,
            diverged,
            self._points,
            steps,
            stopped=stopped,
        )

    def waiting(self, epoch: int) -> Waiting:
        """What to compare at a rung: the runs that have not ended."""
        return Waiting(epoch, np.where(self._ended[:, None], np.nan, self._points))

    def closed(self, course: Course, notice: str) -> Trained:
        """The whole account, when the training is over."""
        return Trained(
            self._specs,
            tuple(self._measured),
            self._steps,
            self._diverged_at,
            self._stopped,
            self._passes,
            self._unsolved,
            course.members(),
            notice,
        )

    def _note(self, course: Course, own: NDArray[np.bool_], diverged_at: NDArray[np.int64]) -> None:
        """Steps, passes and misses of the runs that were still going on."""
        runs = self._rows[own]
        steps = np.where(diverged_at >= 0, diverged_at, course.step())
        all_steps = np.full(len(own), course.step())
        all_steps[own] = steps
        device = course.diverged_at().device
        passes = course.passes(torch.from_numpy(all_steps).to(device)).cpu().numpy()
        self._steps[runs], self._diverged_at[runs] = steps, diverged_at
        self._passes[runs] = passes[own]
        self._ended[runs] = diverged_at >= 0
        unsolved = course.unsolved()
        if unsolved is not None:
            if self._unsolved is None:
                self._unsolved = np.zeros(len(self._specs))
            self._unsolved[runs] = unsolved.cpu().numpy()[own]

    def _wait(self, runs: NDArray[np.int64], losses: Floats) -> None:
        """Count the evaluations in which no validation loss of a run fell below its best."""
        if self._best is None:
            self._best = np.full((len(self._specs), losses.shape[1]), np.inf)
        fell = (losses < self._best[runs]).any(axis=1)
        self._waited[runs] = np.where(fell, 0, self._waited[runs] + 1)
        self._best[runs] = np.fmin(self._best[runs], losses)
        patience = self._specs[0].patience
        if patience is not None:
            self._ended[runs] |= self._waited[runs] >= patience

    def _spread(self, one: Measurement, own: NDArray[np.bool_]) -> Measurement:
        """A measurement of the course's rows as one of all runs."""
        values = np.full(len(self._specs), np.nan)
        values[self._rows[own]] = one.values[own]
        return replace(one, values=values)
