"""Meta-World MT10 by behaviour cloning: what would the expert do, in ten tasks of one arm."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from .datafolder import Arrays
from .generated import required_arrays
from .mt10_demonstrations import ACTION, OBSERVATION, TASKS
from .networks import Network, chosen
from .perceptrons import perceptron
from .problem import Problem, ProblemError, Split, Task
from .tabular import Rows, check_tasks, first_of, standardised

SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}


class OwnObservations(nn.Module):
    """A network of perceptrons on every task's observations; each task answers for its own.

    A row holds one observation of each task, so a task's loss is a mean over rows as ever.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, rows: Tensor) -> list[Tensor]:
        answers = self.network(rows.flatten(0, 1))
        return [answer.unflatten(0, rows.shape[:2])[:, task] for task, answer in enumerate(answers)]


def mt10(
    tasks: Sequence[str] = TASKS,
    hidden: int = 128,
    train: int | None = None,
    val: int | None = None,
    test: int | None = None,
    network: Network = "split",
) -> Problem:
    """Meta-World MT10 by behaviour cloning: ten tasks of a robot arm, learnt from experts.

    Yu et al. 2020 (1910.10897). Demonstrations by metaworld's scripted experts are made once:
    pip install 'mtofront[mt10]' && mtofront data get mt10; then that extra is not needed. The
    network sees what the arm senses (39 numbers, goal included, not which task it is) and gives
    the action (4 numbers in [-1, 1]). Success in the simulator is not measured: these are
    errors on the experts' own ways, and no match for published success rates.
    A row is one observation of every task. Episodes are divided 70 / 10 / 20 % once; a split has
    as many rows as its task with the fewest observations, the others' being drawn once.

    tasks: two or more of reach, push, pick_place, door_open, drawer_open, drawer_close,
    button_press, peg_insert, window_open, window_close. With more than about eight, a front's
    exact hypervolume takes very long. hidden: width of the two shared layers. train, val, test:
    rows; null for all. network: split, wide, deep, dense, mtan, cross_stitch, mmoe, stan or
    single_task, of layers of that width.
    Loss: mean square over the four numbers; mae: mean absolute error.
    """
    check_tasks(tasks, TASKS)
    choice = chosen(network)
    arrays = required_arrays("mt10")
    _check(arrays)
    places = {name: _places(arrays, name) for name in SHARES}
    numbers = {name: np.arange(len(own[TASKS[0]])) for name, own in places.items()}
    rows = first_of(numbers, {"train": train, "val": val, "test": test})
    own = [TASKS.index(task) for task in tasks]
    inputs = _inputs(arrays, places)
    splits = {
        name: Split(
            torch.from_numpy(inputs[name][part][:, own]),
            tuple(
                torch.from_numpy(arrays[f"{task}_actions"][places[name][task][part]])
                for task in tasks
            ),
        )
        for name, part in rows.items()
    }
    make = choice.maker(perceptron(OBSERVATION, hidden, (ACTION,) * len(tasks)), len(tasks))
    return Problem(
        "mt10",
        tuple(Task(task, functional.mse_loss, {"mae": functional.l1_loss}) for task in tasks),
        splits["train"],
        splits["val"],
        splits["test"],
        model=lambda: OwnObservations(make()),
        single_task=choice.single_task,
    )


def _check(arrays: Arrays) -> None:
    """Raise ProblemError unless every task has observations and actions of some episodes."""
    for task in TASKS:
        names = [f"{task}_{kind}" for kind in ("observations", "actions", "episodes")]
        found = [arrays[name].shape if name in arrays else None for name in names]
        steps = len(arrays[names[2]]) if found[2] else 0
        if found != [(steps, OBSERVATION), (steps, ACTION), (steps,)]:
            raise ProblemError(
                f"mt10.npz must hold {names} of shapes (n, {OBSERVATION}), (n, {ACTION}), (n,); "
                f"found {found}; make it again with: mtofront data get mt10 --again"
            )
        if len(np.unique(arrays[names[2]])) < 3:
            raise ProblemError(f"mt10.npz must hold three episodes or more of {task!r}")


def _places(arrays: Arrays, split: str) -> dict[str, Rows]:
    """Of every task the steps that make a split's rows, as many of each task."""
    steps = {
        task: _of_split(arrays[f"{task}_episodes"], split, number)
        for number, task in enumerate(TASKS)
    }
    fewest = min(len(own) for own in steps.values())
    return {task: own[:fewest] for task, own in steps.items()}


def _of_split(episodes: NDArray[np.int32], split: str, task: int) -> Rows:
    """All steps of a split's episodes, shuffled: which of them share a row."""
    generator = np.random.default_rng([2020, task])
    order = generator.permutation(np.unique(episodes))
    val, test = (max(1, round(SHARES[name] * len(order))) for name in ("val", "test"))
    parts = {"test": order[:test], "val": order[test : test + val], "train": order[test + val :]}
    steps: Rows = np.flatnonzero(np.isin(episodes, parts[split])).astype(np.int64)
    return np.random.default_rng([2020, task, list(SHARES).index(split)]).permutation(steps)


def _inputs(arrays: Arrays, places: dict[str, dict[str, Rows]]) -> dict[str, NDArray[np.float32]]:
    """Of each split observations (n, 10, 39), standardised over the training rows of all tasks."""
    stacked = {
        name: np.stack([arrays[f"{task}_observations"][own[task]] for task in TASKS], axis=1)
        for name, own in places.items()
    }
    every = np.concatenate([part.reshape(-1, OBSERVATION) for part in stacked.values()])
    train = len(stacked["train"]) * len(TASKS)
    scaled = standardised(every, np.arange(train))
    cuts = np.cumsum([part.shape[0] * len(TASKS) for part in stacked.values()])[:-1]
    return {
        name: part.reshape(-1, len(TASKS), OBSERVATION)
        for name, part in zip(stacked, np.split(scaled, cuts), strict=True)
    }
