"""Options of every problem with data: fewer labels, wrong labels, unequal tasks, fewer rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .missing import IGNORED, known, partly_labelled
from .problem import Problem, ProblemError, Task

ByTask = float | Mapping[str, float]
"""One number for all tasks, or some tasks' own by their names."""

LABEL_OPTIONS: Mapping[str, str] = {
    "labelled": "share of training rows that keep a task's label, 0.1 or {left: 0.1}",
    "task_imbalance": "first task's labels over the last one's, 10: between them geometrically",
    "label_noise": "share of training labels replaced by another class, 0.2 or {left: 0.2}; for "
    "numbers Gaussian noise, in standard deviations of the training targets",
    "subset": "rows of a split, {train: 500}",
    "label_seed": "of what is drawn for these, 0",
}
"""Option -> what it does, for the user; all are keywords of `with_label_options`."""

SUBSET, MISSING, NOISE = range(3)
"""What is drawn, in numbers that keep the draws apart."""


def with_label_options(
    problem: Problem,
    labelled: ByTask | None = None,
    task_imbalance: float | None = None,
    label_noise: ByTask | None = None,
    subset: Mapping[str, int] | None = None,
    label_seed: int = 0,
) -> Problem:
    """The problem with fewer or wrong labels in its training split; other labels stay.

    labelled: share in (0, 1] of the training rows that keep a task's label, missing completely at
        random. What one share keeps, a larger one keeps too. A missing label costs and teaches
        nothing: see `partly_labelled`. With 1, the task is left as it is.
    task_imbalance: R >= 1; task t of T keeps a share R^(-t / (T - 1)) of its labels, t from 0, the
        long-tailed profile of Cao et al. 2019 (1906.07413), with tasks in the place of classes.
    label_noise: for classes (whole numbers, or floating targets that are all 0 or 1) the share in
        [0, 1] of the labels left that become another class, drawn uniformly from those in the
        training split; else the standard deviation >= 0 of Gaussian noise, in standard deviations
        of the task's training targets.
    subset: split -> rows that are kept, in their order; a smaller subset lies in a larger one.
    label_seed: of all that is drawn; the draws of different tasks and options are independent.

    Raises ProblemError for unknown tasks or splits, numbers outside their ranges and problems
    without labels.
    """
    if problem.truth is not None:
        raise ProblemError(
            f"problem {problem.name!r} has no labels that could be missing or wrong: its losses "
            f"are formulas. {', '.join(LABEL_OPTIONS)} are for problems with data"
        )
    if type(label_seed) is not int or label_seed < 0:
        raise ProblemError(f"label_seed must be a whole number, 0 or more; found {label_seed!r}")
    names = [task.name for task in problem.tasks]
    shares = _shares(names, labelled, task_imbalance)
    noises = _by_task("label_noise", label_noise, names, 0.0)
    fewer = _subset(problem, subset or {}, label_seed)
    tasks, targets = list(problem.tasks), list(fewer.train.targets)
    for t, name in enumerate(names):
        where = f"problem {problem.name!r}, task {name!r}"
        if shares[name] < 1:
            draw = np.random.default_rng([label_seed, MISSING, t])
            tasks[t], targets[t] = _with_missing(tasks[t], targets[t], shares[name], draw, where)
        if noises[name] > 0:
            draw = np.random.default_rng([label_seed, NOISE, t])
            targets[t] = _with_noise(targets[t], noises[name], draw, where)
    train = replace(fewer.train, targets=tuple(targets))
    return replace(fewer, tasks=tuple(tasks), train=train)


def _shares(names: list[str], labelled: ByTask | None, imbalance: float | None) -> dict[str, float]:
    """What share of its labels each task keeps."""
    if imbalance is None:
        shares = _by_task("labelled", labelled, names, 1.0)
        for name, share in shares.items():
            if not 0 < share <= 1:
                raise ProblemError(f"labelled must lie in (0, 1]; found {share} for {name!r}")
        return shares
    if labelled is not None:
        raise ProblemError("labelled and task_imbalance both say how many labels stay: choose one")
    if not _is_number(imbalance) or imbalance < 1 or len(names) < 2:
        raise ProblemError(
            f"task_imbalance must be a number, 1 or more, for two tasks or more; found "
            f"{imbalance!r} for {len(names)}"
        )
    return {name: imbalance ** (-t / (len(names) - 1)) for t, name in enumerate(names)}


def _by_task(
    option: str, given: ByTask | None, names: list[str], default: float
) -> dict[str, float]:
    """One number a task. Raises ProblemError for anything else."""
    each = given if isinstance(given, Mapping) else dict.fromkeys(names, given)
    numbers = dict.fromkeys(names, default)
    for name, value in each.items():
        if name not in names:
            raise ProblemError(f"{option}: unknown task {name!r}; the tasks are {', '.join(names)}")
        if value is None:
            continue
        if not _is_number(value) or value < 0:
            raise ProblemError(
                f"{option} must be a number, 0 or more, or one a task; found {value!r}"
            )
        numbers[name] = float(value)
    return numbers


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value)


def _subset(problem: Problem, subset: Mapping[str, int], seed: int) -> Problem:
    splits = problem.splits()
    if not isinstance(subset, Mapping) or not subset.keys() <= splits.keys():
        raise ProblemError(f"subset takes rows by split, like {{train: 500}}; found {subset!r}")
    parts = {}
    for n, (name, split) in enumerate(splits.items()):
        if name not in subset:
            continue
        rows = subset[name]
        if type(rows) is not int or not 1 <= rows <= len(split):
            raise ProblemError(
                f"split {name!r} has 1 … {len(split):,} rows to give; subset asks for {rows!r}"
            )
        order = np.random.default_rng([seed, SUBSET, n]).permutation(len(split))
        kept = torch.from_numpy(np.sort(order[:rows])).to(split.inputs.device)
        targets = tuple(target[kept] for target in split.targets)
        parts[name] = replace(split, inputs=split.inputs[kept], targets=targets)
    return replace(problem, **parts) if parts else problem  # type: ignore[arg-type]


def _with_missing(
    task: Task, target: Tensor, share: float, draw: np.random.Generator, where: str
) -> tuple[Task, Tensor]:
    """The target with labels left in a share of the rows that have one, and the task for it."""
    if target.dtype in (torch.bool, torch.uint8):
        raise ProblemError(
            f"{where}: a target of {target.dtype} has no value for a missing label; make it int64 "
            "or floating"
        )
    there = known(target)
    rows = _places(there.flatten(1).any(1) if target.ndim > 1 else there, where)
    keep = max(1, round(share * len(rows)))
    lost = torch.from_numpy(draw.permutation(rows)[keep:]).to(target.device)
    fill = target[there][0].item()
    missing = float("nan") if target.is_floating_point() else IGNORED
    return partly_labelled(task, fill), target.index_fill(0, lost, missing)


def _with_noise(target: Tensor, noise: float, draw: np.random.Generator, where: str) -> Tensor:
    """The target with wrong classes, or with noise on its numbers."""
    flat = target.flatten().clone()
    places = _places(known(flat), where)
    values = flat[torch.from_numpy(places).to(flat.device)]
    classes, positions = np.unique(values.cpu().numpy(), return_inverse=True)
    if target.is_floating_point() and not np.isin(classes, (0, 1)).all():
        spread = noise * float(values.double().std(correction=0))
        wrong = values + torch.from_numpy(draw.normal(0, spread, len(values))).to(values)
    else:
        if noise > 1 or len(classes) < 2:
            raise ProblemError(
                f"{where}: label_noise replaces a share in [0, 1] of the labels by another of two "
                f"classes or more; found {noise:g} for {len(classes)} classes"
            )
        chosen = draw.permutation(len(places))[: round(noise * len(places))]
        shift = draw.integers(1, len(classes), size=len(chosen))
        places = places[chosen]
        others = classes[(positions[chosen] + shift) % len(classes)]
        wrong = torch.from_numpy(others).to(values)
    return flat.index_copy(0, torch.from_numpy(places).to(flat.device), wrong).view_as(target)


def _places(there: Tensor, where: str) -> NDArray[np.int64]:
    """Numbers of the places where there is a label."""
    places: NDArray[np.int64] = there.nonzero()[:, 0].cpu().numpy()
    if len(places) == 0:
        raise ProblemError(f"{where}: the training split holds no label that could be changed")
    return places
