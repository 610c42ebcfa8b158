"""Cityscapes: classes and disparity of street scenes, and the way to the middle of each object."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .datafolder import required_layout
from .dense import depth, instance, segmentation
from .maps import Reader, chosen_of, maps_problem
from .npy_folders import numbered
from .pictures import Size, array, labels_in, nearest, numbers, picture, picture_of_array
from .problem import Problem, ProblemError
from .segnet import check_shape

TASKS = ("segmentation", "depth", "instance")
CLASSES = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""The official ids of the 19 classes that are evaluated; all others are ignored."""
GROUPS = (0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 4, 5, 5, 6, 6, 6, 6, 6, 6)
"""Their 7 groups: flat, construction, object, nature, sky, human, vehicle."""
IDS = 34
NO_ID = 255
"""How a file of bytes has the official id −1."""
FIRST_INSTANCE = 1000
"""Ids of single objects are 1000 times the class and a number; smaller ones are no objects."""
DISPARITY = 256 * 128
"""A file has 1 + 256 times the disparity in pixels; here it is in units of 128 pixels."""


def cityscapes(
    tasks: Sequence[str] = ("segmentation", "depth"),
    classes: int = 7,
    size: Sequence[int] = (128, 256),
    channels: Sequence[int] = (32, 64, 128, 128),
    train: int | None = None,
    val: int | None = None,
    test: int | None = None,
) -> Problem:
    """Cityscapes: name 7 or 19 classes and estimate disparity, pixel by pixel (Cordts et al. 2016).

    You bring the data (mtofront data where cityscapes): the official PNG files or the npy folders
    of Liu et al. 2019 (MTAN). As in papers, the 500 official validation pictures are the test
    split; a fixed fifth of the 2,975 training pictures, 595 as in Xin et al. 2022, is validation.
    Nothing is augmented. Depth is what papers call so: of npy folders as it is there, of official
    files the disparity in units of 128 pixels; their errors cannot be compared.

    tasks: two or three of segmentation, depth, instance (Kendall et al. 2018: the way to the middle
    of the object, in pixels; official files only). classes: 7 or 19. size: height and width.
    channels: of the levels of a SegNet. train, val, test: pictures, drawn once; null for all.
    """
    tasks = chosen_of(tasks, TASKS)
    if classes not in (7, 19):
        raise ProblemError(f"classes must be 7 or 19; found {classes}")
    shape = check_shape(size, channels)
    folder, layout = required_layout("cityscapes")
    reader = _reader(folder, layout, tasks, classes, shape)
    recipe = {"problem": "cityscapes", "version": 1, "layout": layout, "classes": classes}
    known = {"segmentation": segmentation(classes), "depth": depth(), "instance": instance()}
    outputs = {"segmentation": classes, "depth": 1, "instance": 2}
    return maps_problem(
        recipe,
        [known[task] for task in tasks],
        [outputs[task] for task in tasks],
        reader,
        shape,
        channels,
        {"train": train, "val": val, "test": test},
    )


def _reader(folder: Path, layout: str, tasks: Sequence[str], classes: int, size: Size) -> Reader:
    if layout == "npy":
        if "instance" in tasks:
            raise ProblemError(
                "the task 'instance' needs Cityscapes' official files (leftImg8bit, gtFine, "
                f"disparity); {folder} has npy folders, in which there are no objects"
            )
        labels = f"label_{classes}"
        if classes == 7 and not (folder / "train" / labels).exists():
            labels = "label"
        kinds = ["image", *({"segmentation": labels, "depth": "depth"}[task] for task in tasks)]
        rows = {part: numbered(folder / part, kinds) for part in ("train", "val")}
        return Reader(rows["train"], rows["val"], lambda row: _of_npy(row, tasks, classes, size))
    parts = {part: official_files(folder, part, tasks) for part in ("train", "val")}
    return Reader(parts["train"], parts["val"], lambda row: _of_png(row, tasks, classes, size))


def _of_npy(
    files: tuple[Path, ...], tasks: Sequence[str], classes: int, size: Size
) -> tuple[NDArray[Any], ...]:
    maps = []
    for task, file in zip(tasks, files[1:], strict=True):
        values = nearest(array(file, None), size)
        maps.append(
            labels_in(file, values, classes)
            if task == "segmentation"
            else values.astype(np.float32)[None]
        )
    return picture_of_array(files[0], size), *maps


def official_files(folder: Path, part: str, tasks: Sequence[str]) -> list[tuple[Path, ...]]:
    """Picture and maps of every scene of the official train or val folder, in order of names."""
    ends = {
        "segmentation": ("gtFine", "gtFine_labelIds"),
        "depth": ("disparity", "disparity"),
        "instance": ("gtFine", "gtFine_instanceIds"),
    }
    pictures = sorted((folder / "leftImg8bit" / part).glob("*/*_leftImg8bit.png"))
    if not pictures:
        raise ProblemError(
            f"{folder / 'leftImg8bit' / part} must hold CITY/*_leftImg8bit.png; found none"
        )
    rows = []
    for path in pictures:
        stem, city = path.name.removesuffix("leftImg8bit.png"), path.parent.name
        maps = [folder / ends[t][0] / part / city / f"{stem}{ends[t][1]}.png" for t in tasks]
        rows.append((path, *maps))
    return rows


def _of_png(
    files: tuple[Path, ...], tasks: Sequence[str], classes: int, size: Size
) -> tuple[NDArray[Any], ...]:
    of: dict[str, Callable[[Path], NDArray[Any]]] = {
        "segmentation": lambda file: classes_of(file, nearest(numbers(file), size), classes),
        "depth": lambda file: _disparity(nearest(numbers(file), size)),
        "instance": lambda file: ways(nearest(numbers(file), size)),
    }
    maps = [of[task](file) for task, file in zip(tasks, files[1:], strict=True)]
    return picture(files[0], size), *maps


def classes_of(file: Path, ids: NDArray[Any], classes: int) -> NDArray[np.int8]:
    """Official ids as classes, −1 where a pixel is not evaluated."""
    wrong = ((ids < 0) | (ids >= IDS)) & (ids != NO_ID)
    if wrong.any():
        raise ProblemError(
            f"{file} must hold label ids 0 … {IDS - 1}, or {NO_ID}; found {ids[wrong].ravel()[0]}"
        )
    table = np.full(256, -1, dtype=np.int8)
    table[list(CLASSES)] = np.arange(19) if classes == 19 else GROUPS
    labels: NDArray[np.int8] = table[ids]
    return labels


def _disparity(values: NDArray[Any]) -> NDArray[np.float32]:
    """(1, H, W) in units of 128 pixels of the full picture; 0 where there is none."""
    pixels: NDArray[np.float32] = np.maximum(values, 1).astype(np.float32)[None] - 1
    return pixels / np.float32(DISPARITY)


def ways(ids: NDArray[Any]) -> NDArray[np.float16]:
    """(3, H, W): pixels down and right to the middle of the object, and 1 where there is one."""
    _, numbered_ids = np.unique(ids, return_inverse=True)
    objects = numbered_ids.reshape(ids.shape)
    sizes = np.bincount(objects.ravel())
    places = np.indices(ids.shape)
    middles = [np.bincount(objects.ravel(), axis.ravel()) / sizes for axis in places]
    known = ids >= FIRST_INSTANCE
    away = [(m[objects] - axis) * known for m, axis in zip(middles, places, strict=True)]
    return np.stack([*away, known]).astype(np.float16)
