"""Where a pack's trained numbers lie: one row a run, the parameters being views of the rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from torch import Tensor

ALIGNED = 16
"""Rows are padded to a multiple of so many numbers, so that every run's row is aligned alike."""


@dataclass(frozen=True)
class Storage:
    """rows: (N, P) with padding at the end. views: name -> (N, ...), leaves that share its memory.

    places: name -> where in a row the parameter lies.
    """

    rows: Tensor
    views: Mapping[str, Tensor]
    places: Mapping[str, slice]


def stored(tensors: Mapping[str, Tensor], names: Sequence[str]) -> Storage:
    """Copies of the named tensors (N, ...), one after the other in every run's row."""
    sizes = [tensors[name][0].numel() for name in names]
    ends = [0, *accumulate(sizes)]
    width = -(-ends[-1] // ALIGNED) * ALIGNED
    first = tensors[names[0]]
    rows = first.new_zeros(len(first), width, requires_grad=False)
    views, places = {}, {}
    for name, (start, end) in zip(names, pairwise(ends), strict=True):
        part = rows[:, start:end].view(tensors[name].shape)
        part.copy_(tensors[name].detach())
        views[name], places[name] = part.detach().requires_grad_(), slice(start, end)
    return Storage(rows, views, places)


def in_rows(storage: Storage, gradients: Mapping[str, Tensor], out: Tensor) -> Tensor:
    """The gradients (N, ...) written into rows like the storage's; what is missing stays 0."""
    for name, gradient in gradients.items():
        out[:, storage.places[name]] = gradient.reshape(len(out), -1)
    return out


def selected(storage: Storage, runs: Tensor) -> Storage:
    """The storage of some of the runs (K,), in this order."""
    views = {name: view.detach().index_select(0, runs) for name, view in storage.views.items()}
    return stored(views, list(storage.views))


def empty_like(storage: Storage) -> Tensor:
    """Zeros (N, P) for gradients or moments."""
    return torch.zeros_like(storage.rows)
