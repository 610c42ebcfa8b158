"""TorchJD's aggregators and weightings as methods, each named by its call: `torchjd:NAME(...)`.

TorchJD's own code answers, run by run: what weights the Gramian is given the Gramian, all others
the Jacobian. It is imported when such a method is named, not before.
Quinton, Rey, "Jacobian Descent for Multi-Objective Optimization", arXiv 2406.16232, 2024, the paper
of the library TorchJD (0.18 or newer); its documentation names each aggregator's own paper.
Differences: computed in float64; a run for which TorchJD raises, or answers NaN or inf, gets NaN
and is counted; what it draws follows from the run's own random numbers.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator
from functools import cache, partial

import torch
from torch import Tensor

from .call_text import write_call
from .graddrop import FRACTION
from .method import UNSOLVED, Method, Paper, Signals, State, Values
from .torchjd_class import Borrowed, borrowed
from .torchjd_memory import Recall, fresh_memory, recall

PREFIX = "torchjd:"

MOST_TASKS = 64
"""Arguments with which a class answers for no number of tasks up to this are refused."""


@cache
def torchjd_method(text: str) -> Method:
    """The method that `torchjd:NAME(arguments)` names; its own name has every argument by keyword.

    Raises ValueError where TorchJD is missing, has no such class, or refuses the arguments.
    """
    try:
        source = borrowed(text.removeprefix(PREFIX))
        _check_it_answers(source)
    except ValueError as error:
        raise ValueError(f"method {text!r}: {error}") from None
    return Method(
        name=PREFIX + write_call(source.name, source.arguments),
        summary=f"{source.name} of the library TorchJD",
        paper=Paper(
            authors="Quinton, Rey",
            year=2024,
            title="Jacobian Descent for Multi-Objective Optimization (the library TorchJD)",
            venue="arXiv",
            arxiv="2406.16232",
        ),
        needs="jacobian" if source.reads == "jacobian" else "gramian",
        step=partial(step, source),
        answers=source.answers,
        init=partial(init, source),
        noise=noise,
        independent=source.reads == "independent",
        deviations="TorchJD's own code, run by run",
    )


def init(source: Borrowed, zeros: Tensor) -> State:
    """No step unsolved and nothing remembered. zeros: see `Method.init`."""
    batch = tuple(zeros.shape[:-2] if source.reads == "jacobian" else zeros.shape[:-1])
    sizes = dict(zip("TP", zeros.shape[len(batch) :], strict=False))
    counted = torch.zeros((*batch, 1), dtype=torch.float64, device=zeros.device)
    return {UNSOLVED: counted, **fresh_memory(source.memory, zeros, batch, sizes)}


def noise(tasks: int) -> int:
    """One number, the seed of whatever TorchJD draws in the step."""
    return 1


def step(source: Borrowed, signals: Signals, state: State, values: Values) -> tuple[Tensor, State]:
    """Weights (..., T) or a direction (..., P), NaN for a run that TorchJD cannot answer."""
    shown: Tensor | None = getattr(signals, source.reads)
    assert shown is not None
    batch = shown.shape[:-2]
    runs = math.prod(batch)
    # where TorchJD computes: T x T algebra is latency on any other device
    place = shown.device if source.reads == "jacobian" else torch.device("cpu")
    matrices = shown.detach().to(place, torch.float64).reshape(runs, *shown.shape[-2:])
    seeds = (signals.noise / FRACTION).long().reshape(runs).tolist()
    flat = {name: value.reshape(runs, *value.shape[len(batch) :]) for name, value in state.items()}
    rows = [{name: value[n] for name, value in flat.items()} for n in range(runs)]
    with _quiet(place):
        sample = torch.eye(*shown.shape[-2:], dtype=torch.float64, device=place)
        remembered = recall(source.core(place), source.memory, sample)
        stepped = [
            _one_run(source, remembered, *run) for run in zip(matrices, seeds, rows, strict=True)
        ]
    answers = torch.stack([answer for answer, _ in stepped])
    after = {
        name: torch.stack([row[name] for _, row in stepped]).reshape(value.shape)
        for name, value in state.items()
    }
    return answers.reshape(*batch, answers.shape[-1]).to(shown.device), after


def _one_run(
    source: Borrowed, remembered: Recall, matrix: Tensor, seed: int, row: State
) -> tuple[Tensor, State]:
    """One run's answer, NaN if it has none, and its next state."""
    width = matrix.shape[-1 if source.answers == "direction" else 0]
    lost = matrix.new_full((width,), math.nan)
    if not bool(torch.isfinite(matrix).all()):
        return lost, row
    remembered.load(row)
    _seed(matrix.device, seed)
    try:
        # a copy, because the signals are not theirs to write into
        answer = remembered.core(matrix.clone()).double()
    except Exception:  # whatever a solver raises for one run must not stop the others
        answer = lost
    if not bool(torch.isfinite(answer).all()):
        return lost, {**row, UNSOLVED: row[UNSOLVED] + 1}
    return answer, {**row, **remembered.read(row)}


def _check_it_answers(source: Borrowed) -> None:
    """Refuse arguments that a class looks at only when it is called, and then never accepts."""
    lengths = [len(value) for value in source.arguments.values() if isinstance(value, list | tuple)]
    # one number a task, or one for every task but the first
    likely = [tasks for length in lengths for tasks in (length, length + 1)]
    place = torch.device("cpu")
    core, reason = source.core(place), None
    with _quiet(place):
        for tasks in (*likely, *range(1, MOST_TASKS + 1)):
            try:
                core(torch.eye(tasks, dtype=torch.float64))
                return
            except Exception as error:
                reason = error
    raise ValueError(f"with these arguments {source.name} answers for no number of tasks: {reason}")


@contextlib.contextmanager
def _quiet(device: torch.device) -> Iterator[None]:
    """No gradients, no trace in global generators, no warnings: each would come once a run."""
    places = [device] if device.type == "cuda" else []
    with torch.no_grad(), warnings.catch_warnings(), torch.random.fork_rng(devices=places):
        warnings.simplefilter("ignore")
        yield


def _seed(device: torch.device, seed: int) -> None:
    """Seed the generators that TorchJD draws from: the processor's, and the device's own."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index].manual_seed(seed)
