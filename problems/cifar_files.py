"""The files in which CIFAR-100 is distributed, as arrays; nothing in them is executed."""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .problem import ProblemError

SIDE = 32
PIXELS = 3 * SIDE * SIDE


@dataclass(frozen=True)
class Contents:
    """Groups (n,), classes (n,) and pictures (n, 3072)."""

    groups: NDArray[np.uint8]
    classes: NDArray[np.uint8]
    pictures: NDArray[np.uint8]


def read_binary(file: Path) -> Contents:
    """The binary version: of each picture a byte for its group, one for its class, and pixels."""
    content = np.fromfile(file, dtype=np.uint8)
    if content.size == 0 or content.size % (2 + PIXELS):
        raise ProblemError(
            f"{file} must hold {2 + PIXELS} bytes for every picture; found {content.size} bytes"
        )
    rows = content.reshape(-1, 2 + PIXELS)
    return Contents(rows[:, 0], rows[:, 1], rows[:, 2:])


def read_pickled(file: Path) -> Contents:
    """The Python version. Arrays, lists and words are taken from it; anything else is refused."""
    try:
        found = _Plain(io.BytesIO(file.read_bytes()), encoding="bytes").load()
        parts = [found[key] for key in (b"coarse_labels", b"fine_labels", b"data")]
        coarse, fine, pictures = (np.asarray(part) for part in parts)
    except Exception as error:  # whatever a damaged pickle makes of itself
        raise ProblemError(
            f"{file} must be a file of CIFAR-100's Python version: {type(error).__name__}: {error}"
        ) from None
    count = len(coarse)
    fits = pictures.shape == (count, PIXELS) and pictures.dtype == np.uint8
    whole = all(labels.shape == (count,) and labels.dtype.kind in "iu" for labels in (coarse, fine))
    if not fits or not whole or min(coarse.min(), fine.min()) < 0 or fine.max() > 255:
        raise ProblemError(
            f"{file} must hold a group, a class and {PIXELS} bytes for every picture; found shapes "
            f"{coarse.shape}, {fine.shape} and {pictures.shape} ({pictures.dtype})"
        )
    return Contents(coarse.astype(np.uint8), fine.astype(np.uint8), pictures)


class _Plain(pickle.Unpickler):
    """Unpickles NumPy arrays of plain numbers and what needs no class."""

    def find_class(self, module: str, name: str) -> Any:
        """The three names that a pickled array needs, whatever NumPy version wrote it."""
        rebuild = np.empty(0).__reduce__()[0]
        known = {"_reconstruct": rebuild, "ndarray": np.ndarray, "dtype": np.dtype}
        if module.split(".")[0] == "numpy" and name in known:
            return known[name]
        raise pickle.UnpicklingError(
            f"it asks for {module}.{name}, which such a file does not; nothing was called"
        )
