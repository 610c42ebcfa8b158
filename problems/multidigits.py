"""MultiDigits: two overlaid hand-written digits from scikit-learn's bundled scans."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from .networks import Network, chosen
from .perceptrons import perceptron
from .problem import Problem, Split, Task

SCAN = 8
"""Side of a scan in pixels."""
CLASSES = 10


class TwoDigits(nn.Module):
    """A perceptron with a shared trunk of two hidden layers and one linear head a digit."""

    def __init__(self, pixels: int, hidden: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Linear(pixels, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()
        )
        self.left = nn.Linear(hidden, CLASSES)
        self.right = nn.Linear(hidden, CLASSES)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.trunk(images)
        return self.left(features), self.right(features)


def error_rate(logits: Tensor, labels: Tensor) -> Tensor:
    """Share of rows whose largest logit is not the label's, in [0, 1]."""
    return (logits.argmax(-1) != labels).to(logits.dtype).mean()


def multidigits(
    offset: int = 4,
    hidden: int = 32,
    train: int = 2000,
    val: int = 1000,
    test: int = 2000,
    network: Network = "split",
) -> Problem:
    """Two digits overlaid `offset` pixels apart: name the left (upper) and the right (lower) one.

    Real data without a download: the 1,797 scans of 8×8 pixels that scikit-learn bundles (UCI
    "Optical Recognition of Handwritten Digits", Alpaydin & Kaynak 1998, CC BY 4.0), after
    MultiMNIST (Sabour et al. 2017; Sener & Koltun 2018). Scans are divided into 60 / 15 / 25 % by
    class before any overlay, so that no scan is in two splits; division and pairs are fixed.

    offset: 1 … 8 pixels, to the right and down; the smaller, the more the digits hide each other.
    hidden: width of the two shared layers. train, val, test: number of overlays in each split.
    network: split, wide, deep, dense, mtan, cross_stitch, mmoe, stan or single_task, of two layers
    of that width; options as in {name: mmoe, experts: 8}.
    """
    choice = chosen(network)
    if not 1 <= offset <= SCAN:
        raise ValueError(f"offset must lie in 1 … {SCAN} pixels; found {offset}")
    from sklearn.model_selection import train_test_split  # two seconds that other problems spare

    scans, labels = _scans()
    rest, test_part = train_test_split(
        np.arange(len(labels)), test_size=0.25, random_state=0, stratify=labels
    )
    train_part, val_part = train_test_split(
        rest, test_size=0.2, random_state=0, stratify=labels[rest]
    )
    generator = np.random.default_rng(1998)
    train_split, val_split, test_split = (
        _overlays(scans[part], labels[part], count, offset, generator)
        for part, count in ((train_part, train), (val_part, val), (test_part, test))
    )
    tasks = tuple(
        Task(side, functional.cross_entropy, {"error": error_rate}) for side in ("left", "right")
    )
    pixels = (SCAN + offset) ** 2
    make: Callable[[], nn.Module] = partial(TwoDigits, pixels, hidden)
    if choice.name != "split":
        make = choice.maker(perceptron(pixels, hidden, (CLASSES, CLASSES)), len(tasks))
    return Problem(
        "multidigits",
        tasks,
        train_split,
        val_split,
        test_split,
        model=make,
        single_task=choice.single_task,
    )


def _scans() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """All scans (1797, 8, 8) with ink in [0, 1], and their digits (1797,)."""
    from sklearn.datasets import load_digits

    bundle = load_digits()
    scans = (bundle.images / 16.0).astype(np.float32)
    return scans, cast("NDArray[np.int64]", bundle.target.astype(np.int64))


def _overlays(
    scans: NDArray[np.float32],
    labels: NDArray[np.int64],
    count: int,
    offset: int,
    generator: np.random.Generator,
) -> Split:
    """`count` random pairs from one part of the scans, the darker pixel winning where they meet."""
    left, right = generator.integers(len(labels), size=(2, count))
    side = SCAN + offset
    canvas = np.zeros((2, count, side, side), dtype=np.float32)
    canvas[0, :, :SCAN, :SCAN] = scans[left]
    canvas[1, :, offset:, offset:] = scans[right]
    images = torch.from_numpy(canvas.max(axis=0).reshape(count, side * side))
    return Split(images, (torch.from_numpy(labels[left]), torch.from_numpy(labels[right])))
