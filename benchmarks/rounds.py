"""Times alternatives in turn, in several processes at once, and says what they reach together."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import torch
from loops import LOOPS, Advance
from workloads import WORKLOADS

from mtofront.sweep.memory import keep_freed_memory

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
CALL_SECONDS, MOST_STEPS = 0.1, 32
"""How long a call should take, and of how many steps it is at most."""


@dataclass(frozen=True)
class Alternative:
    """A loop of one workload, with its arguments. label: its row in the table."""

    label: str
    workload: str
    loop: str
    options: dict[str, Any] = field(default_factory=dict)
    quick: bool = False


@dataclass(frozen=True)
class Timing:
    """clock, device, windows in seconds and how many each alternative gets."""

    clock: str
    device: str
    seconds: float
    rounds: int


Rates = dict[str, list[float]]
"""label -> model-steps a second of all processes together, one a round."""


class Team:
    """Worker processes that do the same at the same time."""

    def __init__(self, processes: int, timing: Timing) -> None:
        context = multiprocessing.get_context("spawn")
        self._barrier = context.Barrier(processes)  # lives as long as whoever waits at it
        self.timing = timing
        pairs = [context.Pipe() for _ in range(processes)]
        self._ends = [mine for mine, _ in pairs]
        self._workers = [
            context.Process(target=_serve, args=(theirs, self._barrier, timing), daemon=True)
            for _, theirs in pairs
        ]
        for worker in self._workers:
            worker.start()

    def __len__(self) -> int:
        return len(self._workers)

    def ask(self, order: str, argument: Any = None) -> list[Any]:
        """What each worker answers; its exceptions are answers too."""
        for end in self._ends:
            end.send((order, argument))
        return [end.recv() for end in self._ends]

    def close(self) -> None:
        for end in self._ends:
            end.send(("end", None))
        for worker in self._workers:
            worker.join()

    def rates(self, alternatives: Sequence[Alternative]) -> tuple[Rates, list[str]]:
        """All alternatives in turn, round after round; and those that cannot be timed, with why."""
        running, left_out = [], []
        for alternative in alternatives:
            error = _first_error(self.ask("make", alternative))
            if error:
                left_out.append(f"{alternative.label}: {error}")
            else:
                running.append(alternative.label)
        rates: Rates = {label: [] for label in running}
        for _ in range(self.timing.rounds):
            for label in list(rates):
                answers = self.ask("time", label)
                error = _first_error(answers)
                if error:
                    left_out.append(f"{label}: {error}")
                    del rates[label]
                else:
                    rates[label].append(sum(answers))
        self.ask("forget")
        return rates, left_out


@contextlib.contextmanager
def team(processes: int, timing: Timing) -> Iterator[Team]:
    """Workers for a while, each with one thread."""
    os.environ["OMP_NUM_THREADS"] = "1"
    workers = Team(processes, timing)
    try:
        yield workers
    finally:
        workers.close()


def middle(rates: Sequence[float]) -> tuple[float, float]:
    """The median, and half the range between the quartiles relative to it."""
    median = statistics.median(rates)
    if len(rates) < 2:
        return median, 0.0
    low, _, high = statistics.quantiles(rates, n=4, method="inclusive")
    return median, (high - low) / 2 / median


def ratio(rates: Rates, first: str, second: str) -> float | None:
    """How many times faster the first is: the median over the rounds, in which both took turns."""
    pairs = zip(rates.get(first, ()), rates.get(second, ()), strict=False)
    ratios = [one / other for one, other in pairs]
    return statistics.median(ratios) if ratios else None


def _first_error(answers: Sequence[Any]) -> str:
    return next((answer for answer in answers if isinstance(answer, str)), "")


def _serve(end: Connection, barrier: Any, timing: Timing) -> None:
    """A worker's life: makes alternatives, times them when told, forgets them."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    keep_freed_memory()  # as where packs train; the peers gain as well
    loops: dict[str, tuple[Advance, int]] = {}
    while True:
        order, argument = end.recv()
        if order == "end":
            return
        answer: Any = None
        try:
            if order == "make":
                advance = LOOPS[argument.loop](
                    WORKLOADS[argument.workload], timing.device, **argument.options
                )
                loops[argument.label] = advance, _steps(advance, timing)
            elif order == "forget":
                loops.clear()
            else:
                barrier.wait()
                answer = _rate(*loops[argument], timing)
        except Exception as error:
            answer = f"{type(error).__name__}: {str(error).strip()[:200]}"
        end.send(answer)


def _steps(advance: Advance, timing: Timing) -> int:
    """How many steps make a call of the wanted length, after a first one to warm up."""
    advance(1)
    seconds = _taken(lambda: advance(2), timing) / 2
    return max(1, min(MOST_STEPS, round(CALL_SECONDS / max(seconds, 1e-9))))


def _rate(advance: Advance, steps: int, timing: Timing) -> float:
    """Model-steps a second over one window."""
    clock = CLOCKS[timing.clock]
    end, taken = time.perf_counter() + timing.seconds, 0
    begin = clock()
    while True:
        taken += advance(steps)
        if time.perf_counter() >= end:
            _wait(timing.device)
            return taken / (clock() - begin)


def _taken(call: Callable[[], object], timing: Timing) -> float:
    _wait(timing.device)
    begin = time.perf_counter()
    call()
    _wait(timing.device)
    return time.perf_counter() - begin


def _wait(device: str) -> None:
    """Until the accelerator has done what it was told."""
    if device == "cuda":
        torch.cuda.synchronize()
