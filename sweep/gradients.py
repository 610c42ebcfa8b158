"""From the tasks' losses to one gradient a parameter, by the cheapest route a need allows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from mtofront.methods import Method

from .network import Outputs, Sharing, Tensors

Decide = Callable[[Tensor | None, Tensor | None], Tensor]
"""(Gramian (N, T, T) float64 or None, Jacobian (N, T, P) or None) -> the method's answer."""


def passes_per_step(method: Method, tasks: int) -> int:
    """Backward passes through the shared parameters that one step costs.

    Gradients of the last shared layer alone are not counted: they pass through the heads only.
    """
    return 1 if method.needs == "losses" or method.layer == "last" else tasks


def gradients(
    method: Method, sharing: Sharing, params: Tensors, losses: Outputs, decide: Decide
) -> Tensors:
    """Gradients (N, ...) for every trained parameter, as the method combines the tasks.

    losses: T tensors (N,), still attached to the graph.
    """
    if method.needs == "losses":
        return _weighted(sharing.trained, params, losses, decide(None, None))
    if method.layer == "last":
        jacobian, _ = _jacobian(sharing.last, [() for _ in losses], params, losses, keep_graph=True)
        return _weighted(sharing.trained, params, losses, decide(_gramian(jacobian), None))
    return _combined(method, sharing, params, losses, decide)


def _weighted(names: Sequence[str], params: Tensors, losses: Outputs, weights: Tensor) -> Tensors:
    """One backward pass of Σ w_i L_i, summed over the runs, which do not depend on each other."""
    stacked = torch.stack(losses, dim=1)
    total = (weights.to(stacked.dtype) * stacked).sum()
    grads = torch.autograd.grad(total, [params[name] for name in names])
    return dict(zip(names, grads, strict=True))


def _combined(
    method: Method, sharing: Sharing, params: Tensors, losses: Outputs, decide: Decide
) -> Tensors:
    """T backward passes; the shared parameters get the method's combination, heads their own."""
    jacobian, heads = _jacobian(sharing.shared, sharing.heads, params, losses, keep_graph=False)
    answer = decide(_gramian(jacobian), jacobian if method.needs == "jacobian" else None)
    if method.answers != "weights":
        direction = answer.to(jacobian.dtype)
    else:
        weights = answer.to(jacobian.dtype)
        direction = torch.bmm(weights.unsqueeze(1), jacobian).squeeze(1)
    sizes = [params[name][0].numel() for name in sharing.shared]
    parts = torch.split(direction, sizes, dim=1)
    shared = {n: p.view_as(params[n]) for n, p in zip(sharing.shared, parts, strict=True)}
    return shared | heads


def _jacobian(
    shared: Sequence[str],
    heads: Sequence[Sequence[str]],
    params: Tensors,
    losses: Outputs,
    keep_graph: bool,
) -> tuple[Tensor, Tensors]:
    """The tasks' gradients of the shared parameters, (N, T, P), and each head's own gradient."""
    ends = [0, *accumulate(params[name][0].numel() for name in shared)]
    jacobian = losses[0].new_empty(len(losses[0]), len(losses), ends[-1])
    own: Tensors = {}
    for task, loss in enumerate(losses):
        names = (*shared, *heads[task])
        grads = torch.autograd.grad(
            loss.sum(),
            [params[name] for name in names],
            retain_graph=keep_graph or task < len(losses) - 1,
            allow_unused=True,
            materialize_grads=True,
        )
        for (start, end), grad in zip(pairwise(ends), grads[: len(shared)], strict=True):
            jacobian[:, task, start:end] = grad.reshape(len(loss), -1)
        own.update(zip(heads[task], grads[len(shared) :], strict=True))
    return jacobian, own


def _gramian(jacobian: Tensor) -> Tensor:
    wide = jacobian.double()  # in single precision nearly opposed gradients lose their digits
    return torch.bmm(wide, wide.transpose(1, 2))
