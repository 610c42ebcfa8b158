"""How long steps take: training cut down to a few of them, and clocks that wait for the device."""

from __future__ import annotations

import time
from dataclasses import replace

import torch

from mtofront.problems import Problem

from .course import Course
from .spec import RunSpec


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


def seconds_of_epoch(course: Course, epoch: int) -> float:
    """Seconds that one more epoch takes, after one to warm up."""
    course.train(epoch)
    begin = settled_time(course)
    course.train(epoch)
    return settled_time(course) - begin


def settled_time(course: Course) -> float:
    """The time when an accelerator has done all that training asked of it."""
    if course.diverged_at().is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter()
