"""Points of a plane as a picture in characters, one letter a group."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SHARED = "*"
"""Stands where points of several groups fall on one character."""
GUTTER = 10
"""Columns left of the picture, for the numbers of the vertical axis and the axis itself."""
WIDE = 5.0
"""An axis whose ends differ by more than this factor is logarithmic."""

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Scale:
    """From numbers between low and high to places 0 … count - 1."""

    low: float
    high: float
    count: int

    @property
    def is_log(self) -> bool:
        """Whether the numbers differ so much that their logarithms show more."""
        return self.low > 0 and self.high > WIDE * self.low

    def place(self, value: float) -> int:
        """Where a number stands; in the middle if all are the same."""
        if self.high == self.low:
            return self.count // 2
        share = (value - self.low) / (self.high - self.low)
        if self.is_log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        return min(max(int(share * self.count), 0), self.count - 1)

    def name(self, name: str) -> str:
        """The axis's name, with its kind if that is not the usual one."""
        return f"{name} (log)" if self.is_log else name


def scatter(
    groups: Mapping[str, Points], names: tuple[str, str], width: int, height: int
) -> list[str]:
    """Lines of at most `width` characters, `height` of them, with both axes' ends as numbers.

    groups: letter -> points (x, y). names: of the axes. No points, or too little room: no lines.
    """
    points = [point for group in groups.values() for point in group]
    columns, rows = width - GUTTER, height - 3
    if not points or columns < 20 or rows < 2:
        return []
    xs, ys = zip(*points, strict=True)
    across = Scale(min(xs), max(xs), columns)
    upward = Scale(min(ys), max(ys), rows)
    cells = [[" "] * columns for _ in range(rows)]
    for letter, group in groups.items():
        for x, y in group:
            row, column = rows - 1 - upward.place(y), across.place(x)
            taken = cells[row][column]
            cells[row][column] = letter if taken in (" ", letter) else SHARED
    labels = [""] * rows
    labels[0], labels[-1] = f"{upward.high:.3g}", f"{upward.low:.3g}"
    body = [
        f"{label:>{GUTTER - 2}} │{''.join(row)}".rstrip()
        for label, row in zip(labels, cells, strict=True)
    ]
    ends = f"{across.low:.3g}", f"{across.high:.3g}"
    room = columns - len(ends[0]) - len(ends[1]) - 4
    middle = f"{across.name(names[0])[:room]:^{columns - len(ends[0]) - len(ends[1])}}"
    pad = " " * GUTTER
    return [
        f"↑ {upward.name(names[1])}"[:width],
        *body,
        f"{' ' * (GUTTER - 1)}└{'─' * columns}",
        f"{pad}{ends[0]}{middle}{ends[1]}",
    ]
