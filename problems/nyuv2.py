"""NYUv2: classes, depth and surface normals of rooms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .datafolder import required_layout
from .dense import depth, normal, segmentation
from .maps import Reader, chosen_of, maps_problem
from .npy_folders import numbered
from .pictures import Size, array, labels_in, nearest, picture_of_array
from .problem import Problem
from .segnet import check_shape

CLASSES = 13
TASKS = {"segmentation": "label", "depth": "depth", "normal": "normal"}
"""Task -> the folder with its maps."""


def nyuv2(
    tasks: Sequence[str] = tuple(TASKS),
    size: Sequence[int] = (288, 384),
    channels: Sequence[int] = (32, 64, 128, 128),
    train: int | None = None,
    val: int | None = None,
    test: int | None = None,
) -> Problem:
    """NYUv2: name 13 classes, estimate depth in metres and surface normals, pixel by pixel.

    Silberman et al. 2012. You bring the npy folders of Liu et al. 2019, MTAN (mtofront data where
    nyuv2). As in papers, the 654 official test pictures, there called val, are the test split; a
    fixed fifth of the 795 training pictures, 159, is validation, which most papers do without.
    Nothing is augmented.

    tasks: some of segmentation, depth, normal. size: height and width. channels: of the levels of a
    SegNet. train, val, test: pictures, drawn once; null for all.
    """
    chosen = chosen_of(tasks, tuple(TASKS))
    shape = check_shape(size, channels)
    folder, layout = required_layout("nyuv2")
    kinds = ["image", *(TASKS[task] for task in chosen)]
    rows = {part: numbered(folder / part, kinds) for part in ("train", "val")}
    known = {"segmentation": segmentation(CLASSES), "depth": depth(), "normal": normal()}
    outputs = {"segmentation": CLASSES, "depth": 1, "normal": 3}
    return maps_problem(
        {"problem": "nyuv2", "version": 1, "layout": layout},
        [known[task] for task in chosen],
        [outputs[task] for task in chosen],
        Reader(rows["train"], rows["val"], lambda row: _read(row, chosen, shape)),
        shape,
        channels,
        {"train": train, "val": val, "test": test},
    )


def _read(files: tuple[Path, ...], tasks: Sequence[str], size: Size) -> tuple[NDArray[Any], ...]:
    maps = [_map(file, task, size) for task, file in zip(tasks, files[1:], strict=True)]
    return picture_of_array(files[0], size), *maps


def _map(file: Path, task: str, size: Size) -> NDArray[Any]:
    values = nearest(array(file, 3 if task == "normal" else None), size)
    if task == "segmentation":
        return labels_in(file, values, CLASSES)
    if task == "depth":
        return values.astype(np.float32)[None]
    return values.transpose(2, 0, 1).astype(np.float16)
