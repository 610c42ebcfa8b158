"""CelebA: yes-or-no attributes of faces."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .brought import BROUGHT
from .datafolder import required_layout
from .mapped import decoded, first_rows_of, mapped
from .pictures import picture
from .problem import Problem, ProblemError, Split
from .tabular import yes_or_no

PARTS = ("train", "val", "test")
"""What 0, 1 and 2 mean in the official partition."""
LEAST = 8
"""Side of the smallest picture: it is halved three times."""


def celeba(
    attributes: Sequence[str] | None = None,
    size: int = 64,
    width: int = 64,
    train: int | None = None,
    val: int | None = None,
    test: int | None = None,
) -> Problem:
    """CelebA: 40 yes-or-no attributes of 202,599 aligned faces (Liu et al. 2015).

    You bring the data (mtofront data where celeba). Splits are the official 162,770 / 19,867 /
    19,962. Pictures are shrunk to squares; nothing is augmented. The network has nine layers, those
    of Liu et al. 2023 (FAMO). The metric is the error; papers' F1 and accuracy are others.

    attributes: names of those that are tasks; null for all 40. With more than about eight, a
    front's exact hypervolume takes very long. size: side of the pictures. width: channels of the
    first layer, 64 in FAMO. train, val, test: faces, the first ones; null for all.
    """
    if size < LEAST:
        raise ProblemError(f"size must be {LEAST} pixels or more; found {size}")
    folder, layout = required_layout("celeba")
    attributes_file, partition_file, pictures = (
        folder / name for name in BROUGHT["celeba"].layouts[layout]
    )
    names, labels = read_attributes(attributes_file)
    chosen = list(labels) if attributes is None else list(attributes)
    if not chosen or len(set(chosen)) != len(chosen) or not set(chosen) <= set(labels):
        raise ProblemError(
            f"attributes must be different ones of {', '.join(labels)}; found {chosen}"
        )
    parts = read_partition(partition_file, names)
    rows = {part: [pictures / names[n] for n in own] for part, own in parts.items()}
    recipe = {"problem": "celeba", "version": 1, "size": size}
    files = [partition_file, *(file for own in rows.values() for file in own)]
    columns = mapped(recipe, files, rows, lambda file: (picture(file, (size, size)),))
    splits = {}
    sizes = {"train": train, "val": val, "test": test}
    for name, (inputs,) in columns.items():
        own = tuple(torch.from_numpy(labels[attribute][parts[name]]).half() for attribute in chosen)
        inputs, *targets = first_rows_of((inputs, *own), sizes[name], name)
        splits[name] = Split(inputs, tuple(targets), decoded)
    return Problem(
        "celeba",
        tuple(yes_or_no(attribute) for attribute in chosen),
        splits["train"],
        splits["val"],
        splits["test"],
        model=lambda: NineLayers(width, len(chosen)),
    )


def read_attributes(file: Path) -> tuple[list[str], dict[str, NDArray[np.bool_]]]:
    """Names of pictures, and attribute -> whether each picture has it, in the file's order.

    The file has a count, a line of names of attributes, and a line a picture: its name and 1 or
    −1 for each attribute.
    """
    lines = _lines(file)
    heads = lines[1].split() if len(lines) > 2 else []
    cells = [line.split() for line in lines[2:]]
    for n, row in enumerate(cells):
        if len(row) != len(heads) + 1 or not {*row[1:]} <= {"1", "-1"}:
            raise ProblemError(
                f"{file}, line {n + 3}: a picture's name and 1 or -1 for each of {len(heads)} "
                f"attributes is needed; found {' '.join(row)[:60]!r}"
            )
    if not cells:
        raise ProblemError(
            f"{file} must hold a count, a line of attributes and a line a picture; found "
            f"{len(lines)} lines"
        )
    table = np.array([[cell == "1" for cell in row[1:]] for row in cells])
    columns = {head: np.ascontiguousarray(table[:, n]) for n, head in enumerate(heads)}
    return [row[0] for row in cells], columns


def read_partition(file: Path, names: Sequence[str]) -> dict[str, NDArray[np.int64]]:
    """Split -> numbers of its pictures. The file has a picture's name and 0, 1 or 2 a line."""
    pairs = [line.split() for line in _lines(file)]
    for n, pair in enumerate(pairs):
        if len(pair) != 2 or pair[1] not in ("0", "1", "2"):
            raise ProblemError(
                f"{file}, line {n + 1}: a picture's name and 0, 1 or 2 is needed; found "
                f"{' '.join(pair)[:60]!r}"
            )
    given = {name: int(part) for name, part in pairs}
    missing = next((name for name in names if name not in given), None)
    if missing is not None:
        raise ProblemError(f"{file} must hold every picture with attributes; {missing} is missing")
    part = np.array([given[name] for name in names])
    return {name: np.flatnonzero(part == n) for n, name in enumerate(PARTS)}


def _lines(file: Path) -> list[str]:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ProblemError(f"{file} cannot be read: {error}") from None
    return [line for line in text.splitlines() if line.strip()]


class NineLayers(nn.Module):
    """Seven 3×3 convolutions, their mean over the picture, two layers; one logit a task.

    Widths 1, 2, 2, 4, 4, 8, 8 times `width`; BatchNorm after every layer; the sides are halved
    after the first, third and fifth convolution.
    """

    def __init__(self, width: int, tasks: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        widths = [3, *(width * times for times in (1, 2, 2, 4, 4, 8, 8))]
        for n, (before, own) in enumerate(pairwise(widths)):
            layer = nn.Conv2d(before, own, 3, padding=1, bias=False)
            layers += [layer, nn.BatchNorm2d(own), nn.ReLU()]
            layers += [nn.MaxPool2d(2)] if n in (0, 2, 4) else []
        self.convolutions = nn.Sequential(*layers)
        last = widths[-1]
        self.trunk = nn.Sequential(*(_layer(last) for _ in range(2)))
        self.heads = nn.ModuleList([nn.Linear(last, 1) for _ in range(tasks)])

    def forward(self, pictures: Tensor) -> list[Tensor]:
        features = self.trunk(self.convolutions(pictures).mean((2, 3)))
        return [head(features).squeeze(-1) for head in self.heads]


def _layer(width: int) -> nn.Module:
    layer = nn.Linear(width, width, bias=False)
    return nn.Sequential(layer, nn.BatchNorm1d(width), nn.ReLU())
