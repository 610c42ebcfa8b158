"""Pictures: files of pixels as arrays of a wanted size. Every error names the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .problem import ProblemError

Size = tuple[int, int]
"""Height and width in pixels."""


def picture(path: Path, size: Size) -> NDArray[np.uint8]:
    """A colour picture (3, H, W), shrunk with antialiasing (Pillow's bilinear filter)."""
    from PIL import Image, UnidentifiedImageError  # only for those who have pictures

    try:
        with Image.open(path) as image:
            return _shrunk(image.convert("RGB"), size)
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
        raise _broken(path, error) from None


def _shrunk(image: Any, size: Size) -> NDArray[np.uint8]:
    from PIL import Image

    if image.size != (size[1], size[0]):
        image = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return np.ascontiguousarray(np.asarray(image, dtype=np.uint8).transpose(2, 0, 1))


def numbers(path: Path) -> NDArray[Any]:
    """The whole numbers (H, W) of a picture that is a map, like labels."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            values = np.asarray(image)
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
        raise _broken(path, error) from None
    if values.ndim != 2:
        raise ProblemError(f"{path} must have one channel; found shape {values.shape}")
    return values


def array(path: Path, channels: int | None) -> NDArray[Any]:
    """A map (H, W), or (H, W, channels), from a .npy file. Nothing in it is executed."""
    try:
        values: NDArray[Any] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise _broken(path, error) from None
    if channels is None and values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    expected = "(H, W)" if channels is None else f"(H, W, {channels})"
    fits = values.ndim == (2 if channels is None else 3)
    if not fits or (channels is not None and values.shape[2] != channels):
        raise ProblemError(f"{path} must have shape {expected}; found {values.shape}")
    if not np.isfinite(values).all():
        raise ProblemError(f"{path} must hold finite numbers; found NaN or infinity")
    return values


def picture_of_array(path: Path, size: Size) -> NDArray[np.uint8]:
    """A colour picture (3, H, W) from a .npy file of numbers in [0, 1], shape (H, W, 3)."""
    from PIL import Image

    values = array(path, 3)
    if values.min() < 0 or values.max() > 1:
        raise ProblemError(
            f"{path} must hold a picture in [0, 1]; found {values.min():g} … {values.max():g}"
        )
    return _shrunk(Image.fromarray((values * 255).round().astype(np.uint8)), size)


def nearest(values: NDArray[Any], size: Size) -> NDArray[Any]:
    """A map (H, W, ...) of another size: of each new pixel, the old one at its middle."""
    if values.shape[:2] == size:
        return values
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.int64)
        for new, old in zip(size, values.shape[:2], strict=True)
    )
    chosen: NDArray[Any] = values[rows[:, None], columns]
    return chosen


def labels_in(path: Path, labels: NDArray[Any], classes: int) -> NDArray[np.int8]:
    """Labels as −1 … classes − 1. Raises ProblemError for any other."""
    wrong = (labels < -1) | (labels >= classes) | (labels != np.round(labels))
    if wrong.any():
        raise ProblemError(
            f"{path} must hold labels 0 … {classes - 1}, or -1 where there is none; found "
            f"{labels[wrong].ravel()[0]:g}"
        )
    return labels.astype(np.int8)


def _broken(path: Path, error: Exception) -> ProblemError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return ProblemError(f"{path} cannot be read: {reason}")
