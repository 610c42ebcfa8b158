"""Maps: problems whose targets are maps of a picture, from files that are prepared once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .mapped import carved, decoded, first_rows_of, mapped
from .pictures import Size
from .problem import Problem, ProblemError, Split, Task
from .segnet import SegNet

VALIDATION = 0.2
"""Of the training pictures: 595 of Cityscapes, as in Xin et al. 2022; 159 of NYUv2."""
Files = tuple[Path, ...]


@dataclass(frozen=True)
class Reader:
    """The files of each training and test picture, and what makes picture and maps of them."""

    train: Sequence[Files]
    test: Sequence[Files]
    read: Callable[[Files], tuple[NDArray[Any], ...]]


def maps_problem(
    recipe: Mapping[str, Any],
    tasks: Sequence[Task],
    outputs: Sequence[int],
    reader: Reader,
    size: Size,
    channels: Sequence[int],
    sizes: Mapping[str, int | None],
) -> Problem:
    """The problem of these tasks, with a small SegNet; a fifth of training is validation.

    recipe: names the problem and what else its maps depend on. outputs: channels of each task's
    map. sizes: pictures of each split, None for all.
    """
    rest, held = carved(len(reader.train), VALIDATION, seed=2016)
    order = np.random.default_rng(2017).permutation(len(reader.test))
    rows = {
        "train": [reader.train[n] for n in rest],
        "val": [reader.train[n] for n in held],
        "test": [reader.test[n] for n in order],
    }
    files = [file for row in (*reader.train, *reader.test) for file in row]
    names = [task.name for task in tasks]
    about = {**recipe, "tasks": names, "size": list(size)}
    columns = mapped(about, files, rows, reader.read)
    splits = {}
    for name, own in columns.items():
        inputs, *targets = first_rows_of(own, sizes[name], name)
        splits[name] = Split(inputs, tuple(targets), decoded)
    return Problem(
        recipe["problem"],
        tuple(tasks),
        splits["train"],
        splits["val"],
        splits["test"],
        model=lambda: SegNet(channels, outputs),
        features="trunk",
    )


def chosen_of(tasks: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """The tasks. Raises ProblemError if they are not different ones of those known."""
    different = len(set(tasks)) == len(tasks) > 0 and set(tasks) <= set(known)
    if isinstance(tasks, str) or not different:
        raise ProblemError(f"tasks must be different ones of {', '.join(known)}; found {tasks}")
    return tuple(tasks)
