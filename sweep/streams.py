"""Randomness: every random number of a run follows from its seed, a stream's name and a counter."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from .spec import RunSpec


def stream(spec: RunSpec, name: str, counter: int = 0) -> torch.Generator:
    """A generator for one purpose of one run at one moment.

    It depends on the run's seed and restart only: runs of different arms with the same seed start
    from the same network and see the same minibatches, so they can be compared in pairs.
    """
    text = f"{spec.seed}/{spec.restart}/{name}/{counter}"
    digest = hashlib.sha256(text.encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def minibatches(specs: Sequence[RunSpec], rows: int, batch: int, epoch: int) -> Tensor:
    """Row numbers (steps, N, batch) of one epoch: each run's own permutation, the rest dropped."""
    steps = rows // batch
    orders = [torch.randperm(rows, generator=stream(s, "order", epoch)) for s in specs]
    return torch.stack(orders)[:, : steps * batch].view(len(specs), steps, batch).transpose(0, 1)


def method_noise(specs: Sequence[RunSpec], steps: int, width: int, epoch: int) -> Tensor:
    """Uniform numbers (steps, N, width) for the methods of one epoch, each run's own."""
    draws = [
        torch.rand(steps, width, generator=stream(s, "method", epoch), dtype=torch.float64)
        for s in specs
    ]
    return torch.stack(draws, dim=1)
