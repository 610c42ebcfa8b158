"""A pack in training as plain named tensors on the processor, and back: nothing of how it lies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .network import Tensors
from .pack import PackState
from .storage import Storage, in_rows

Snapshot = dict[str, Any]
"""Tensors, numbers, text, None, and tuples, lists and dictionaries of these."""


class SnapshotError(ValueError):
    """A snapshot that is not one of this training."""


def pack_snapshot(pack: PackState) -> Snapshot:
    """Everything that changes while a pack trains: trained parameters and moments by name."""
    optimizer = pack.optimizer
    return {
        "params": _copied(pack.storage.views),
        "first": _copied(_by_name(pack.storage, optimizer.first)),
        "second": _copied(_by_name(pack.storage, optimizer.second)),
        "updates": optimizer.steps,
        "buffers": _copied(pack.buffers),
        "method": _copied(pack.method),
        "diverged_at": pack.diverged_at.cpu(),
        "step": pack.step,
    }


def put_back(pack: PackState, snapshot: Snapshot) -> None:
    """Bring a pack before its first step to where `pack_snapshot` was taken of it.

    Raises SnapshotError where names, shapes or types are not the pack's own.
    """
    storage, optimizer = pack.storage, pack.optimizer
    with torch.no_grad():
        for name, value in _fitting(storage.views, snapshot["params"]).items():
            storage.views[name].copy_(value)
        for part, rows in (("first", optimizer.first), ("second", optimizer.second)):
            in_rows(storage, _fitting(_by_name(storage, rows), snapshot[part]), rows)
    pack.buffers = _fitting(pack.buffers, snapshot["buffers"])
    pack.method = _fitting(pack.method, snapshot["method"])
    pack.diverged_at = _fitting({"": pack.diverged_at}, {"": snapshot["diverged_at"]})[""]
    optimizer.steps, pack.step = int(snapshot["updates"]), int(snapshot["step"])


def _by_name(storage: Storage, rows: Tensor) -> Tensors:
    """Moments (N, P) as (N, ...) by parameter; nothing where the optimiser keeps none."""
    if rows.shape[1] == 0:
        return {}
    return {
        name: rows[:, storage.places[name]].view(view.shape) for name, view in storage.views.items()
    }


def _copied(tensors: Mapping[str, Tensor]) -> Tensors:
    """Copies that share no memory with the pack, so that nothing else of it is written."""
    return {
        name: value.detach().clone(memory_format=torch.contiguous_format).cpu()
        for name, value in tensors.items()
    }


def _fitting(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> Tensors:
    """The given tensors on the device of the pack's own, which they must be like."""
    if set(own) != set(given):
        raise SnapshotError(f"expected the tensors {sorted(own)}; found {sorted(given)}")
    for name, value in own.items():
        if (value.shape, value.dtype) != (given[name].shape, given[name].dtype):
            raise SnapshotError(
                f"{name} must be {value.dtype} of shape {tuple(value.shape)}; found "
                f"{given[name].dtype} of shape {tuple(given[name].shape)}"
            )
    return {name: given[name].to(value.device) for name, value in own.items()}
