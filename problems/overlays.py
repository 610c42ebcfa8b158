"""Overlays: two pictures on one canvas, from parts of the sources that no two splits share."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from .datafolder import Arrays, prepared
from .digits_and_clothes import CLASSES, SIDE, SPLITS, Pictures
from .lenet import LENETS, LeNet, lenet_body
from .multidigits import TwoDigits, error_rate
from .networks import Chosen, Network, chosen
from .perceptrons import perceptron
from .problem import Problem, ProblemError, Split, Task

CANVAS = 36
"""Side of the canvas: the second picture lies 8 pixels to the right of the first and below it."""
BASES = ("lenet_pmtl", "lenet_mgda", "lenet_pamal", "mlp")
"""The problems' own networks, of whose stages architectures are made, the default first."""
MLP_HIDDEN = 64
Parts = dict[str, Pictures]


def overlay_problem(
    name: str,
    tasks: tuple[str, str],
    files: list[Path],
    read: Callable[[], tuple[Parts, Parts]],
    network: Network,
    sizes: dict[str, int],
    seed: int,
) -> Problem:
    """The problem of naming both pictures.

    read: gives the parts for the upper left and the lower right picture. sizes: overlays by split.
    """
    choice = chosen(network, others=BASES, bases=BASES)
    base = choice.base or choice.name
    wrong = {split: count for split, count in sizes.items() if count < 1}
    if wrong:
        raise ProblemError(f"a split needs at least one overlay; found {wrong}")
    side = LENETS[base].side if base in LENETS else CANVAS
    recipe = {"problem": name, "version": 1, "sizes": sizes, "side": side, "seed": seed}
    arrays = prepared(recipe, files, lambda: _overlays(*read(), sizes, side, seed))
    train, val, test = (_split(arrays, split) for split in SPLITS)
    named = tuple(Task(task, functional.cross_entropy, {"error": error_rate}) for task in tasks)
    make: Callable[[], nn.Module] = partial(_base, base)
    if choice.name not in (*BASES, "split"):
        make = _architecture(choice, base)
    return Problem(name, named, train, val, test, make, single_task=choice.single_task)


def _base(name: str) -> nn.Module:
    if name in LENETS:
        return LeNet(LENETS[name], (CLASSES, CLASSES))
    return nn.Sequential(nn.Flatten(), TwoDigits(CANVAS**2, MLP_HIDDEN))


def _architecture(choice: Chosen, base: str) -> Callable[[], nn.Module]:
    """What makes networks of an architecture from the stages of a base."""
    if base in LENETS:
        return choice.maker(lenet_body(LENETS[base], (CLASSES, CLASSES)), tasks=2)
    body = perceptron(CANVAS**2, MLP_HIDDEN, (CLASSES, CLASSES))
    make = choice.maker(body, tasks=2)
    return lambda: nn.Sequential(nn.Flatten(), make())


def _overlays(left: Parts, right: Parts, sizes: dict[str, int], side: int, seed: int) -> Arrays:
    arrays: Arrays = {}
    for n, (split, count) in enumerate(sizes.items()):
        one, other = left[split], right[split]
        # drawn row by row: a smaller split is the beginning of a larger one
        bounds = (len(one.labels), len(other.labels))
        pairs = np.random.default_rng([seed, 3, n]).integers(bounds, size=(count, 2))
        arrays[f"{split}_images"] = overlaid(one.ink[pairs[:, 0]], other.ink[pairs[:, 1]], side)
        arrays[f"{split}_left"] = one.labels[pairs[:, 0]]
        arrays[f"{split}_right"] = other.labels[pairs[:, 1]]
    return arrays


def overlaid(
    left: NDArray[np.uint8], right: NDArray[np.uint8], side: int = CANVAS
) -> NDArray[np.uint8]:
    """Pairs of pictures (n, 28, 28) on canvases (n, side, side), the darker ink where they meet.

    A side other than 36 is reached by averaging with antialiased bilinear weights.
    """
    canvas = np.zeros((len(left), CANVAS, CANVAS), dtype=np.uint8)
    canvas[:, :SIDE, :SIDE] = left
    lower = canvas[:, -SIDE:, -SIDE:]
    np.maximum(lower, right, out=lower)
    if side == CANVAS:
        return canvas
    small = [_resized(part, side) for part in np.array_split(canvas, 1 + len(canvas) // 4096)]
    return np.concatenate(small)


def _resized(canvas: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    images = torch.from_numpy(canvas).unsqueeze(1).float()
    small = functional.interpolate(images, (side, side), mode="bilinear", antialias=True)
    result: NDArray[np.uint8] = small.squeeze(1).round().clamp(0, 255).byte().numpy()
    return result


def _split(arrays: Arrays, name: str) -> Split:
    images = torch.from_numpy(arrays[f"{name}_images"]).unsqueeze(1).float().div_(255)
    return Split(images, tuple(_labels(arrays[f"{name}_{side}"]) for side in ("left", "right")))


def _labels(labels: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(labels.astype(np.int64))
