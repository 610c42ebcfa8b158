"""What a hand-batched layer is: one run's form, and the form for all runs of a pack at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

InDims = tuple[int | None, ...]
"""Where each argument of a layer has the runs; None where it is the same for all."""


@dataclass(frozen=True)
class Layer:
    """A function of torch, and its form for all runs of a pack, whose answer is (N, ...).

    packed takes the number of runs, where each argument has them, and the arguments.
    """

    single: Callable[..., Tensor]
    packed: Callable[..., Tensor]


class Packed(torch.autograd.Function):
    """A layer of all runs at once. Its first argument is the layer.

    Within a pack, autograd sees the operations of the batched form, so there is no backward pass of
    its own to write.
    """

    generate_vmap_rule = False

    @staticmethod
    def forward(layer: Layer, *arguments: Any) -> Tensor:
        """One run's layer."""
        return layer.single(*arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Nothing is kept, as there is no backward pass."""

    @staticmethod
    def vmap(info: Any, in_dims: Any, layer: Layer, *arguments: Any) -> tuple[Tensor, int]:
        """Outputs (N, ...)."""
        return layer.packed(info.batch_size, in_dims[1:], *arguments), 0


def first(value: Tensor, dim: int | None, runs: int) -> Tensor:
    """The value with the runs as its first dimension."""
    return value.expand(runs, *value.shape) if dim is None else value.movedim(dim, 0)
