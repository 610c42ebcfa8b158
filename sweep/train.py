"""The one training loop: a pack of runs trained side by side, from seeds to measurements."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from mtofront.methods import method_named
from mtofront.problems import Problem

from .course import Course, StepByStep
from .evaluate import measure_pack
from .ledger import Ledger
from .manifold import ManifoldCourse
from .merging import MergeCourse
from .network import Network, network
from .spec import RunSpec
from .timing import settled_time
from .trained import Progress, Trained, joined, runs_of


def ignore(progress: Progress) -> None:
    """Listen to nothing."""


def train_pack(
    problem: Problem,
    specs: Sequence[RunSpec],
    listen: Callable[[Progress], None] = ignore,
) -> Trained:
    """Train runs that differ only in seed, restart, learning rate, weights and numbers of a method.

    Each run's result follows from its own spec: parameters, minibatches and random numbers are
    its own, and nothing is summed over runs. Tensors live where the problem's data lives. A pack
    for which memory does not suffice is trained in halves.
    """
    try:
        if len(specs) > 1:
            return _train_together(problem, specs, listen)
        # kernels for a batch of one round differently from those for two or more
        twins = _train_together(problem, [specs[0]] * 2, lambda both: listen(_first(both)))
        return runs_of(twins, slice(0, 1))
    except (MemoryError, RuntimeError) as error:
        if len(specs) == 1 or not is_out_of_memory(error):
            raise
    # outside the handler: its traceback would keep the pack's tensors alive
    middle = len(specs) // 2
    return joined([train_pack(problem, half, listen) for half in (specs[:middle], specs[middle:])])


def _train_together(
    problem: Problem, specs: Sequence[RunSpec], listen: Callable[[Progress], None]
) -> Trained:
    net = network(problem, specs[0])
    course = start_course(net, specs)
    due = evaluation_epochs(specs[0].epochs, specs[0].evaluations)
    ledger = Ledger(specs)
    started, evaluating = time.perf_counter(), 0.0
    for epoch in range(specs[0].epochs + 1):
        if epoch > 0:
            course.train(epoch - 1)
        if epoch in due:
            # the numbers of the last steps must be there before evaluation is timed
            begin = settled_time(course)
            networks = course.shown()
            latest = [measure_pack(net, shown, course.step(), epoch) for shown in networks]
            ledger.enter(course, latest)
            evaluating += time.perf_counter() - begin
            training = time.perf_counter() - started - evaluating
            listen(replace(ledger.progress(epoch), training=training, evaluating=evaluating))
            rows = ledger.going_on()
            if rows is None:
                break
            if len(rows) < len(course.diverged_at()):
                course.keep(rows.to(course.diverged_at().device))
    return ledger.closed(course, net.reason)


def start_course(net: Network, specs: Sequence[RunSpec]) -> Course:
    """The training that the runs' method asks for, before its first step."""
    courses: dict[str, Callable[[Network, Sequence[RunSpec]], Course]] = {
        "": StepByStep,
        "merge": MergeCourse,
        "manifold": ManifoldCourse,
    }
    return courses[method_named(specs[0].method).scheme](net, specs)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on a processor or on an accelerator."""
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, MemoryError) or any(word in str(error).lower() for word in words)


def _first(both: Progress) -> Progress:
    """What twins tell, told of one."""
    return replace(both, runs=1, diverged=both.diverged // 2, points=both.points[:1])


def evaluation_epochs(epochs: int, evaluations: int) -> frozenset[int]:
    """Epochs after which a run is measured: the untrained network and `evaluations` even shares."""
    count = min(epochs, evaluations)
    return frozenset({0, *(round(epochs * k / count) for k in range(1, count + 1))})
