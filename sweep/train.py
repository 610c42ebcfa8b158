"""The one training loop: a pack of runs trained side by side, from seeds to measurements."""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, replace

from mtofront.methods import method_named
from mtofront.problems import Problem

from .checkpoint import Checkpoints
from .course import Course, StepByStep
from .diagnostics import measure_gradients, measure_weights
from .evaluate import measure_pack
from .ledger import Ledger
from .manifold import ManifoldCourse
from .merging import MergeCourse
from .network import Network, network
from .snapshot import Snapshot
from .spec import RunSpec
from .timing import settled_time
from .trained import Progress, Trained, Waiting, joined, runs_of, waiting_of

Ask = Callable[[int], Container[str] | None]
"""Rung -> ids of the runs that stop there, None if that is not decided yet."""


def ignore(progress: Progress) -> None:
    """Listen to nothing."""


def nobody(rung: int) -> Container[str]:
    """Stop no run at any rung."""
    return ()


def train_pack(
    problem: Problem,
    specs: Sequence[RunSpec],
    listen: Callable[[Progress], None] = ignore,
    checkpoints: Checkpoints | None = None,
    ask: Ask = nobody,
    diagnostics: bool = False,
) -> Trained | Waiting:
    """Train runs that differ only in seed, restart, learning rate, weights and numbers of a method.

    Each run's result follows from its own spec: parameters, minibatches and random numbers are
    its own, and nothing is summed over runs. Tensors live where the problem's data lives. A pack
    for which memory does not suffice is trained in halves. It goes on from a checkpoint of exactly
    these runs, if there is one, with the result that it would have had without a break.

    At a rung that is not decided, as `ask` answers, it leaves a checkpoint and waits.

    diagnostics: whether to measure at evaluations how the tasks' gradients lie to each other and
    how they were weighed. It changes nothing else that is measured.
    """
    if len(specs) > 1 and checkpoints and checkpoints.is_halved():
        return _train_halves(problem, specs, listen, checkpoints, ask, diagnostics)
    try:
        if len(specs) > 1:
            return _train_together(problem, specs, listen, checkpoints, ask, diagnostics)
        # kernels for a batch of one round differently from those for two or more
        twins = [specs[0]] * 2
        both = _train_together(
            problem, twins, lambda t: listen(_first(t)), checkpoints, ask, diagnostics
        )
        if isinstance(both, Waiting):
            return replace(both, points=both.points[:1])
        return runs_of(both, slice(0, 1))
    except (MemoryError, RuntimeError) as error:
        if len(specs) == 1 or not is_out_of_memory(error):
            raise
    # outside the handler: its traceback would keep the pack's tensors alive
    return _train_halves(problem, specs, listen, checkpoints, ask, diagnostics)


def _train_halves(
    problem: Problem,
    specs: Sequence[RunSpec],
    listen: Callable[[Progress], None],
    checkpoints: Checkpoints | None,
    ask: Ask,
    diagnostics: bool,
) -> Trained | Waiting:
    middle = len(specs) // 2
    places = checkpoints.halves() if checkpoints else (None, None)
    parts = [
        train_pack(problem, half, listen, place, ask, diagnostics)
        for half, place in zip((specs[:middle], specs[middle:]), places, strict=True)
    ]
    return waiting_of(parts) or joined([part for part in parts if isinstance(part, Trained)])


@dataclass
class Training:
    """A pack between two epochs. epoch: the last one that is done; -1 before anything is measured.

    diagnostics: whether evaluations are to say more of gradients and weights. training, evaluating:
    seconds spent so far.
    """

    course: Course
    ledger: Ledger
    epochs: int
    diagnostics: bool
    epoch: int = -1
    training: float = 0.0
    evaluating: float = 0.0

    @property
    def goes_on(self) -> bool:
        """Whether there is anything left to train."""
        return self.epoch < self.epochs and not self.ledger.is_over

    def stop(self, runs: Container[str]) -> None:
        """End the runs of these ids."""
        self.ledger.stop(runs)
        self.leave_ended()

    def leave_ended(self) -> None:
        """Go on without the runs that have ended, if any goes on."""
        rows, held = self.ledger.going_on(), self.course.diverged_at()
        if rows is not None and len(rows) < len(held):
            self.course.keep(rows.to(held.device))

    def progress(self) -> Progress:
        """What to tell after an evaluation."""
        told = self.ledger.progress(self.epoch)
        return replace(told, training=self.training, evaluating=self.evaluating)

    def state(self) -> Snapshot:
        """Everything that is needed to go on."""
        return {
            "epoch": self.epoch,
            "training": self.training,
            "evaluating": self.evaluating,
            "ledger": self.ledger.state(),
            "course": self.course.state(),
        }


def _train_together(
    problem: Problem,
    specs: Sequence[RunSpec],
    listen: Callable[[Progress], None],
    checkpoints: Checkpoints | None,
    ask: Ask,
    diagnostics: bool,
) -> Trained | Waiting:
    net = network(problem, specs[0])
    now = checkpoints and _resumed(net, specs, checkpoints, diagnostics)
    if now:
        listen(now.progress())
    now = now or Training(
        start_course(net, specs, diagnostics), Ledger(specs), specs[0].epochs, diagnostics
    )
    due = evaluation_epochs(specs[0].epochs, specs[0].evaluations)
    rungs = specs[0].rungs
    since = time.perf_counter()
    while now.goes_on:
        if now.epoch in rungs:
            stopped = ask(now.epoch)
            if stopped is None:
                return now.ledger.waiting(now.epoch)
            now.stop(stopped)
            if not now.goes_on:
                break
        now.epoch += 1
        if now.epoch > 0:
            now.course.train(now.epoch - 1)
        if now.epoch in due:
            _evaluate(net, now, specs[0].batch_size, since)
            at_rung = now.epoch in rungs and ask(now.epoch) is None
            if checkpoints and now.goes_on and (at_rung or checkpoints.is_due()):
                checkpoints.save(specs, now.state())
            listen(now.progress())
            since = time.perf_counter()
    if checkpoints and checkpoints.half:
        checkpoints.save(specs, now.state())
    return now.ledger.closed(now.course, net.reason)


def _evaluate(net: Network, now: Training, batch_size: int, since: float) -> None:
    """Measure every run; those that have ended leave the course. since: when training went on."""
    # the numbers of the last steps must be there before evaluation is timed
    begin = settled_time(now.course)
    now.training += begin - since
    step, networks = now.course.step(), now.course.shown()
    latest = [measure_pack(net, shown, step, now.epoch) for shown in networks]
    if now.diagnostics:
        for found, shown in zip(latest, networks, strict=True):
            found += measure_gradients(net, shown, batch_size, step, now.epoch)
        latest[0] += measure_weights(net, now.course.weights(), step, now.epoch)
    now.ledger.enter(now.course, latest)
    now.leave_ended()
    now.evaluating += time.perf_counter() - begin


def _resumed(
    net: Network, specs: Sequence[RunSpec], checkpoints: Checkpoints, diagnostics: bool
) -> Training | None:
    """The training where its checkpoint left it, if there is one that fits."""
    state = checkpoints.load(specs)
    if state is None:
        return None
    try:
        ledger = Ledger(specs)
        ledger.restore(state["ledger"])
        course = start_course(net, [specs[row] for row in ledger.rows], diagnostics)
        course.restore(state["course"])
        spent = {name: state[name] for name in ("epoch", "training", "evaluating")}
        return Training(course, ledger, specs[0].epochs, diagnostics=diagnostics, **spent)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        checkpoints.refuse(f"this checkpoint does not fit its runs ({error})")
        return None


def start_course(net: Network, specs: Sequence[RunSpec], diagnostics: bool = False) -> Course:
    """The training that the runs' method asks for, before its first step."""
    scheme = method_named(specs[0].method).scheme
    if not scheme:
        return StepByStep(net, specs, diagnostics)
    courses: dict[str, Callable[[Network, Sequence[RunSpec]], Course]] = {
        "merge": MergeCourse,
        "manifold": ManifoldCourse,
    }
    return courses[scheme](net, specs)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on a processor or on an accelerator."""
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, MemoryError) or any(word in str(error).lower() for word in words)


def _first(both: Progress) -> Progress:
    """What twins tell, told of one."""
    return replace(
        both,
        runs=1,
        diverged=both.diverged // 2,
        points=both.points[:1],
        steps=both.steps // 2,
        stopped=both.stopped // 2,
    )


def evaluation_epochs(epochs: int, evaluations: int) -> frozenset[int]:
    """Epochs after which a run is measured: the untrained network and `evaluations` even shares."""
    count = min(epochs, evaluations)
    return frozenset({0, *(round(epochs * k / count) for k in range(1, count + 1))})
