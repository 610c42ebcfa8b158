"""Which parameters a loss reaches, and how gradients are added to them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def leaves_of(loss: Tensor) -> list[Tensor]:
    """The leaf tensors that `loss.backward()` would add a gradient to, each once."""
    found: list[Tensor] = []
    seen: set[object] = set()
    waiting: list[object] = [loss.grad_fn]
    if loss.grad_fn is None and loss.requires_grad:
        return [loss]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        # only the nodes that accumulate into a leaf carry a `variable`
        leaf = getattr(node, "variable", None)
        if isinstance(leaf, Tensor):
            found.append(leaf)
        waiting.extend(following for following, _ in getattr(node, "next_functions", ()))
    return found


def last_layer(shared: Sequence[Tensor]) -> list[Tensor]:
    """The last parameters of `shared` that form one layer: the last matrix and what follows it."""
    matrices = [place for place, parameter in enumerate(shared) if parameter.ndim >= 2]
    return list(shared[matrices[-1] if matrices else -1 :])


def task_gradients(
    losses: Sequence[Tensor], wanted: Sequence[Sequence[Tensor]], keep: bool
) -> list[list[Tensor | None]]:
    """Gradients of every loss in its own list of parameters; None where a loss does not reach one.

    keep: whether the graph is needed again after the last loss.
    """
    rows: list[list[Tensor | None]] = []
    for task, (loss, parameters) in enumerate(zip(losses, wanted, strict=True)):
        retain = keep or task < len(losses) - 1
        rows.append(
            list(torch.autograd.grad(loss, parameters, retain_graph=retain, allow_unused=True))
        )
    return rows


def stacked(rows: Sequence[Sequence[Tensor | None]], parameters: Sequence[Tensor]) -> list[Tensor]:
    """One (T, size) float64 matrix a parameter, zeros where a loss does not reach it."""
    columns = zip(*rows, strict=True)
    return [
        torch.stack([(torch.zeros_like(p) if g is None else g).flatten() for g in column]).double()
        for p, column in zip(parameters, columns, strict=True)
    ]


def accumulate(parameter: Tensor, gradient: Tensor) -> None:
    """Add to `.grad` as `backward()` does."""
    gradient = gradient.detach().to(parameter.dtype).view_as(parameter)
    if parameter.grad is None:
        parameter.grad = gradient.clone()
    else:
        parameter.grad.add_(gradient)
