"""What can be wrong with data, whatever the network: NaN, infinity, rows that splits share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from .missing import known
from .problem import Problem, ProblemError, Split

BLOCK = 2**24
"""So many numbers are looked at together: data may be much larger than memory."""
GLANCE = 64
"""So many numbers of a row are compared first; only rows that agree in them are compared whole."""


@dataclass(frozen=True)
class Overlap:
    """Rows that two splits share, inputs and targets alike.

    count: rows of `later` that `earlier` holds too, of so many `rows`; the first is number `row`
    there and number `twin` in `earlier`. same: both splits are one object, so it was meant.
    """

    earlier: str
    later: str
    count: int
    rows: int
    row: int
    twin: int
    same: bool = False

    def sentence(self) -> str:
        """For the user, one line."""
        if self.same:
            return f"splits {self.earlier!r} and {self.later!r} are the same {self.rows} rows"
        return (
            f"{self.count} of the {self.rows} rows of split {self.later!r} are in split "
            f"{self.earlier!r} too, inputs and targets alike (row {self.row} is row {self.twin} "
            "there)"
        )


def refuse_bad_data(problem: Problem) -> tuple[Overlap, ...]:
    """The rows that splits share. Raises ProblemError for NaN, inf or a split within another.

    Real data holds honest duplicates, so some shared rows are told of and not refused. All rows of
    a split in another are, unless both are one and the same Split: that stands in the problem's
    own code for all to read, while equal rows in two tensors go unseen. Where the true front is
    known nothing is learned from rows, and splits may share them.
    """
    for name, split in problem.splits().items():
        _refuse_infinite(problem, name, split)
        _refuse_unlabelled(problem, name, split)
    if problem.truth is not None:
        return ()
    found = tuple(overlaps(problem))
    for overlap in found:
        if overlap.count == overlap.rows and not overlap.same:
            raise ProblemError(
                f"problem {problem.name!r}: {overlap.sentence()}, so nothing there is new to a "
                "network. Divide the data into splits first, or pass one Split twice if it is meant"
            )
    return found


def _refuse_infinite(problem: Problem, name: str, split: Split) -> None:
    """Inputs only: a loss may take a NaN in a target for a missing label, which its value shows."""
    bad = unfinite_rows(split.inputs)
    if len(bad):
        raise ProblemError(
            f"problem {problem.name!r}, split {name!r}, inputs: all numbers must be finite; "
            f"found NaN or infinity in {len(bad)} rows, the first is row {int(bad[0])}"
        )


def _refuse_unlabelled(problem: Problem, name: str, split: Split) -> None:
    for task, target in zip(problem.tasks, split.targets, strict=True):
        if task.missing and not known(target).any():
            raise ProblemError(
                f"problem {problem.name!r}, task {task.name!r}, split {name!r}: labels may be "
                f"missing, but at least one is needed; found none in {len(target)} rows"
            )


def unfinite_rows(values: Tensor) -> Tensor:
    """Numbers of the rows that hold NaN or infinity."""
    if not values.is_floating_point():
        return torch.zeros(0, dtype=torch.int64)
    rows = max(1, BLOCK * len(values) // max(1, values.numel()))
    parts = enumerate(torch.split(values, rows))
    return torch.cat([n * rows + _unfinite(part) for n, part in parts])


def _unfinite(values: Tensor) -> Tensor:
    if torch.isfinite(values.sum()):
        return torch.zeros(0, dtype=torch.int64)  # a sum is finite only if all are
    return (~torch.isfinite(values.reshape(len(values), -1)).all(dim=1)).nonzero()[:, 0].cpu()


def overlaps(problem: Problem) -> Iterator[Overlap]:
    """Rows that two splits share, for each pair of splits that shares any."""
    splits = problem.splits()
    glances = {name: _glances(split) for name, split in splits.items()}
    places = {name: _places(keys) for name, keys in glances.items()}
    for earlier, later in combinations(splits, 2):
        if splits[earlier] is splits[later]:
            count = len(splits[later])
            yield Overlap(earlier, later, count, count, 0, 0, same=True)
            continue
        held = places[earlier]
        pairs = [
            (row, twin)
            for row, key in enumerate(glances[later])
            if key in held
            and (twin := _twin(splits[later], row, splits[earlier], held[key])) is not None
        ]
        if pairs:
            yield Overlap(earlier, later, len(pairs), len(splits[later]), *pairs[0])


def _glances(split: Split) -> list[bytes]:
    """Some of each row's numbers, spread over inputs and targets, as bytes."""
    parts = []
    for values in (split.inputs, *split.targets):
        flat = values.detach().reshape(len(values), -1)
        some = flat[:, :: max(1, flat.shape[1] // GLANCE)].contiguous()
        parts.append(some.view(torch.uint8) if some.numel() else some.to(torch.uint8))
    rows = torch.cat(parts, dim=1).cpu().numpy()
    return [row.tobytes() for row in rows]


def _places(keys: list[bytes]) -> dict[bytes, list[int]]:
    places: dict[bytes, list[int]] = {}
    for row, key in enumerate(keys):
        places.setdefault(key, []).append(row)
    return places


def _twin(split: Split, row: int, other: Split, candidates: list[int]) -> int | None:
    """The first row of the other split that equals a row; None if none does."""
    own = [split.inputs[row], *(target[row] for target in split.targets)]
    for candidate in candidates:
        theirs = [other.inputs[candidate], *(target[candidate] for target in other.targets)]
        if all(map(_same, own, theirs)):
            return candidate
    return None


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether all numbers are equal, labels that are missing in both among them."""
    return torch.equal(one, other) or (
        one.is_floating_point()
        and torch.equal(one.isnan(), other.isnan())
        and torch.equal(one.nan_to_num(), other.nan_to_num())
    )
