"""What a plan will cost on this machine: a few steps of each arm are timed, nothing is written."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

from mtofront.methods import method_named

from .diagnostics import measure_gradients
from .evaluate import measure_pack
from .network import network
from .planning import Plan
from .provide import placed_problem
from .spec import RunSpec
from .timing import one_thread, seconds_of_epoch, short_problem, short_run
from .train import evaluation_epochs, start_course
from .work import workers

TIMED_STEPS = 5
"""Steps timed for each arm, after as many to warm up."""


@dataclass(frozen=True)
class ArmEstimate:
    """runs, packs, backward passes of all runs, and seconds on one worker.

    epochs_share: of all epochs of its runs, that a scheduler is expected to have it train.
    """

    arm: str
    runs: int
    packs: int
    backward_passes: int
    seconds: float
    epochs_share: float = 1.0


@dataclass(frozen=True)
class Estimate:
    """The arms' costs, and how many packs train at once here."""

    arms: tuple[ArmEstimate, ...]
    workers: int

    @property
    def seconds(self) -> float:
        """Wall time of the whole sweep, starting Ray and reporting not counted."""
        return sum(arm.seconds for arm in self.arms) / self.workers

    def rows(self) -> list[dict[str, Any]]:
        """One plain mapping an arm, for JSON."""
        return [vars(arm) for arm in self.arms]


def estimate(planned: Plan) -> Estimate:
    """Time a few steps and one evaluation of each arm's largest pack in this process."""
    arms = tuple(_arm(planned, arm) for arm in planned.arms)
    return Estimate(arms, workers(planned.config.resources))


def _arm(planned: Plan, arm: str) -> ArmEstimate:
    if arm in planned.controls:
        largest = max(planned.control_packs(arm), key=len)
    else:
        packs = [pack for pack in planned.packs if planned.runs[pack[0]].arm == arm]
        largest = [planned.runs[identity] for identity in max(packs, key=len)]
    step, evaluation = _timed(largest, planned)
    evaluations = len(evaluation_epochs(largest[0].epochs, largest[0].evaluations))
    share = planned.arm_shares()[arm]
    seconds = share * (planned.steps_of(largest[0]) * step + evaluations * evaluation)
    runs = planned.arm_runs()[arm]
    return ArmEstimate(
        arm,
        runs,
        planned.arm_packs()[arm],
        planned.arm_passes()[arm],
        seconds * runs / len(largest),
        share,
    )


def _timed(specs: list[RunSpec], planned: Plan) -> tuple[float, float]:
    """Seconds of one step and of one evaluation of a pack."""
    problem = placed_problem(specs[0].problem, specs[0].options_text, "cpu")
    net = network(short_problem(problem, specs[0].batch_size, TIMED_STEPS), specs[0])
    short = [short_run(problem, spec, TIMED_STEPS) for spec in specs]
    course = start_course(net, short)
    # the last epoch is what most of a merging run is like
    scheme = method_named(specs[0].method).scheme
    with one_thread():  # as packs train
        training = seconds_of_epoch(course, short[0].epochs - 1 if scheme else 0)
        begin = time.perf_counter()
        whole = replace(net, problem=problem)
        for shown in course.shown():
            measure_pack(whole, shown, 0, 0)
            if planned.config.follows_weights:
                measure_gradients(whole, shown, specs[0].batch_size, 0, 0)
        return training / TIMED_STEPS, time.perf_counter() - begin
