"""CIFAR-100 as twenty tasks: name the class, knowing the group of five that it is in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from .cifar_files import SIDE, Contents, read_binary, read_pickled
from .datafolder import Arrays, prepared, required_layout
from .mapped import decoded
from .multidigits import error_rate
from .problem import Problem, ProblemError, Split, Task

GROUPS, EACH = 20, 5
VALIDATION = 0.1
PARTS = ("train", "val", "test")


def cifar100(
    groups: Sequence[int] = tuple(range(GROUPS)), width: int = 32, seed: int = 0
) -> Problem:
    """CIFAR-100: 20 tasks, one for each group of 5 classes (Rosenbaum et al. 2018, PCGrad 2020).

    Krizhevsky 2009. You bring the data (mtofront data where cifar100), as Python or binary files.
    A picture belongs to one task only. A row is one picture of every task, so that a loss is a mean
    over rows like any other: 2,250 / 250 / 500 rows of 20 pictures, put together once. The test
    split is the official one; a tenth of each class of the official training set is validation.

    groups: numbers 0 … 19 of those that are tasks, in the files' order. With more than about
    eight, a front's exact hypervolume takes very long. width: channels of the first layer.
    seed: of the division and of which pictures share a row.
    """
    chosen = list(groups)
    if not chosen or len(set(chosen)) != len(chosen) or not set(chosen) <= set(range(GROUPS)):
        raise ProblemError(f"groups must be different ones of 0 … {GROUPS - 1}; found {chosen}")
    folder, layout = required_layout("cifar100")
    names = ("train", "test") if layout == "python" else ("train.bin", "test.bin")
    files = [folder / name for name in names]
    recipe = {"problem": "cifar100", "version": 1, "seed": seed}
    arrays = prepared(recipe, files, lambda: _rows(files, layout == "python", seed))
    train, val, test = (_split(arrays, part, chosen) for part in PARTS)
    return Problem(
        "cifar100",
        tuple(
            Task(f"group{group}", functional.cross_entropy, {"error": error_rate})
            for group in chosen
        ),
        train,
        val,
        test,
        model=lambda: Groups(width, len(chosen)),
    )


def _split(arrays: Arrays, part: str, groups: list[int]) -> Split:
    inputs = torch.from_numpy(arrays[f"{part}_pictures"][:, groups])
    labels = torch.from_numpy(arrays[f"{part}_labels"])
    return Split(inputs, tuple(labels[:, group].contiguous() for group in groups), decoded)


def _rows(files: list[Path], pickled: bool, seed: int) -> Arrays:
    """Of each split, pictures (n, 20, 3, 32, 32) and labels 0 … 4 (n, 20)."""
    read = read_pickled if pickled else read_binary
    train, test = (read(file) for file in files)
    classes = _classes(files[0], train)
    if not np.array_equal(classes, _classes(files[1], test)):
        raise ProblemError(f"{files[1]} must have the groups of {files[0]}; it has others")
    generator = np.random.default_rng([seed, 100])
    own = {"train": _places(files[0], train, classes, generator)}
    own["test"] = _places(files[1], test, classes, generator)
    held = max(1, round(VALIDATION * own["train"].shape[2]))
    own["val"], own["train"] = own["train"][..., :held], own["train"][..., held:]
    arrays: Arrays = {}
    for part in PARTS:
        pictures = (test if part == "test" else train).pictures
        labels = np.broadcast_to(np.arange(EACH, dtype=np.int8)[:, None], own[part].shape)
        order = generator.permuted(
            np.tile(np.arange(labels[0].size), (GROUPS, 1)), axis=1
        )  # each group's own: which pictures share a row
        chosen = np.take_along_axis(own[part].reshape(GROUPS, -1), order, axis=1).T
        arrays[f"{part}_pictures"] = pictures[chosen].reshape(-1, GROUPS, 3, SIDE, SIDE)
        arrays[f"{part}_labels"] = np.take_along_axis(labels.reshape(GROUPS, -1), order, axis=1).T
    return arrays


def _places(
    file: Path, contents: Contents, classes: NDArray[np.int64], generator: np.random.Generator
) -> NDArray[np.int64]:
    """Numbers (20, 5, n) of the pictures of every class, shuffled."""
    counts = np.bincount(contents.classes, minlength=GROUPS * EACH)
    if len(set(counts)) > 1:
        raise ProblemError(
            f"{file} must hold as many pictures of every class; found {counts.min()} … "
            f"{counts.max()}"
        )
    places = [
        generator.permutation(np.flatnonzero(contents.classes == one)) for one in classes.ravel()
    ]
    return np.stack(places).reshape(GROUPS, EACH, -1)


def _classes(file: Path, contents: Contents) -> NDArray[np.int64]:
    """The five classes of every group, (20, 5). Raises ProblemError if it is not so."""
    both = np.stack([contents.groups, contents.classes], axis=1).astype(np.int64)
    pairs = np.unique(both, axis=0)
    expected = np.repeat(np.arange(GROUPS), EACH)
    fits = len(pairs) == GROUPS * EACH and np.array_equal(pairs[:, 0], expected)
    if not fits or len(np.unique(pairs[:, 1])) != GROUPS * EACH or pairs[:, 1].max() >= 100:
        raise ProblemError(
            f"{file} must hold labels of {GROUPS} groups, 0 … {GROUPS - 1}, with {EACH} classes "
            f"each, 0 … {GROUPS * EACH - 1}; found {len(pairs)} pairs of group and class, up to "
            f"{both[:, 0].max()} and {both[:, 1].max()}"
        )
    return pairs[:, 1].reshape(GROUPS, EACH)


class Groups(nn.Module):
    """A convolutional trunk for the pictures of all tasks, and five logits from each one's own.

    Three levels of two 3×3 convolutions with BatchNorm, widths 1, 2 and 4 times `width`, each
    halving the sides; the mean over the picture; one linear layer a task.
    """

    def __init__(self, width: int, tasks: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for own in (width, 2 * width, 4 * width):
            for channels in (before, own):
                layer = nn.Conv2d(channels, own, 3, padding=1, bias=False)
                layers += [layer, nn.BatchNorm2d(own), nn.ReLU()]
            layers.append(nn.MaxPool2d(2))
            before = own
        self.trunk = nn.Sequential(*layers)
        self.heads = nn.ModuleList([nn.Linear(before, EACH) for _ in range(tasks)])

    def forward(self, rows: Tensor) -> list[Tensor]:
        features = self.trunk(rows.flatten(0, 1)).mean((2, 3))
        own = features.unflatten(0, rows.shape[:2])
        return [head(own[:, task]) for task, head in enumerate(self.heads)]
