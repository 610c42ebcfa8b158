"""How long steps take: training cut down to a few of them, and clocks that wait for the device."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace

import torch

from mtofront.problems import Problem

from .course import Course
from .spec import RunSpec

MOST = 10
"""Epochs timed at most, to take the fastest."""
ENOUGH = 0.3
"""Seconds of timing after which no further epoch is timed."""


def short_problem(problem: Problem, batch: int, steps: int) -> Problem:
    """The problem with as many training rows as so many steps take."""
    rows = min(batch, len(problem.train)) * steps
    positions = [n % len(problem.train) for n in range(rows)]
    train = problem.train
    targets = tuple(target[positions] for target in train.targets)
    return replace(problem, train=replace(train, inputs=train.inputs[positions], targets=targets))


def short_run(problem: Problem, spec: RunSpec, steps: int) -> RunSpec:
    """The run with epochs of so many steps, and as many of them as make it no shorter than it is.

    Long runs take their steps in another way than short ones. problem: the one that is not cut.
    """
    of_epoch = len(problem.train) // min(spec.batch_size, len(problem.train))
    return replace(spec, epochs=-(-spec.epochs * of_epoch // steps))


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Packs are the parallelism: threads inside one would fight, and change the last digits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def seconds_of_epoch(course: Course, epoch: int) -> float:
    """Seconds that one more epoch takes, after one to warm up: the least of several, if short.

    What else a machine does can only make an epoch slower, and a short one many times as slow.
    """
    course.train(epoch)
    seconds: list[float] = []
    while len(seconds) < MOST and sum(seconds) < ENOUGH:
        begin = settled_time(course)
        course.train(epoch)
        seconds.append(settled_time(course) - begin)
    return min(seconds)


def settled_time(course: Course) -> float:
    """The time when an accelerator has done all that training asked of it."""
    if course.diverged_at().is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter()
