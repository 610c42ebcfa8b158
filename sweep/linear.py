"""Linear layers of a whole pack: one batched product each way, gradients laid out as parameters."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .packed import InDims, first


class LinearOfRuns(torch.autograd.Function):
    """x Wᵀ + b for every run: x (N, R, in), W (N, out, in), b (N, out) or None -> (N, R, out).

    Autograd's own backward pass makes a weight's gradient transposed, which costs a copy of every
    gradient at every step; here it is contiguous, like the weight.
    """

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The layer's outputs."""
        ctx.save_for_backward(inputs, weight)
        if bias is None:
            return torch.bmm(inputs, weight.mT)
        return torch.baddbmm(bias.unsqueeze(1), inputs, weight.mT)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of what was given, None for what needs none."""
        inputs, weight = ctx.saved_tensors
        towards_inputs, towards_weight, towards_bias = ctx.needs_input_grad
        return (
            torch.bmm(gradient, weight) if towards_inputs else None,
            torch.bmm(gradient.mT, inputs) if towards_weight else None,
            gradient.sum(1) if towards_bias else None,
        )


def packed_linear(
    runs: int,
    in_dims: InDims,
    inputs: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
) -> Tensor:
    """torch.nn.functional.linear of all runs: (N, ..., out), each run with weights of its own.

    in_dims: where each argument has the runs, None where it is the same for all.
    """
    given = first(inputs, in_dims[0], runs)
    weights = first(weight, in_dims[1], runs)
    biases = None if bias is None else first(bias, in_dims[2], runs)
    rows = given.unsqueeze(1) if given.ndim == 2 else given.flatten(1, -2)
    outputs = LinearOfRuns.apply(rows, weights, biases)  # type: ignore[no-untyped-call]
    return outputs.view(*given.shape[:-1], -1)  # type: ignore[no-any-return]
