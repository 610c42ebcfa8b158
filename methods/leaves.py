"""Which parameters a loss reaches, and how gradients are taken, averaged and added to them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.distributed
from torch import Tensor

Group = Any
"""A torch.distributed process group; its type exists only where distributed was built in."""


def leaves_of(loss: Tensor, until: Tensor | None = None) -> list[Tensor]:
    """The leaf tensors that `loss.backward()` would add a gradient to, each once.

    until: a tensor whose own graph is not searched.
    """
    found: list[Tensor] = []
    seen: set[object] = set() if until is None else {until.grad_fn}
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
    """Gradients of every loss in its own list of tensors; None where a loss does not reach one.

    keep: whether the graph is needed again after the last loss.
    """
    rows: list[list[Tensor | None]] = []
    for task, (loss, places) in enumerate(zip(losses, wanted, strict=True)):
        retain = keep or task < len(losses) - 1
        rows.append(list(torch.autograd.grad(loss, places, retain_graph=retain, allow_unused=True)))
    return rows


def stacked(rows: Sequence[Sequence[Tensor | None]], places: Sequence[Tensor]) -> Tensor:
    """The tasks' gradients as one matrix (T, P), zeros where a loss does not reach a tensor."""
    columns = zip(*rows, strict=True)
    blocks = [
        torch.stack([(torch.zeros_like(p) if g is None else g).flatten() for g in column])
        for p, column in zip(places, columns, strict=True)
    ]
    return torch.cat(blocks, dim=1)


def averaged(values: Tensor, group: Group | None) -> Tensor:
    """The mean over the processes of a group; the values themselves without a group."""
    if group is None:
        return values
    total = values.clone()
    torch.distributed.all_reduce(total, group=group)
    return total / torch.distributed.get_world_size(group)


def accumulate(parameter: Tensor, gradient: Tensor) -> None:
    """Add to `.grad` as `backward()` does."""
    gradient = gradient.detach().to(parameter.dtype).view_as(parameter)
    if parameter.grad is None:
        parameter.grad = gradient.clone()
    else:
        parameter.grad.add_(gradient)


def accumulate_all(
    parameters: Iterable[Tensor], gradients: Iterable[Tensor | None], group: Group | None
) -> None:
    """Add gradients, averaged over a group, to the parameters that have one."""
    pairs = [(p, g) for p, g in zip(parameters, gradients, strict=True) if g is not None]
    if group is not None and pairs:
        # one message for all of them
        mean = averaged(torch.cat([gradient.flatten() for _, gradient in pairs]), group)
        parts = torch.split(mean, [gradient.numel() for _, gradient in pairs])
        pairs = [(parameter, part) for (parameter, _), part in zip(pairs, parts, strict=True)]
    for parameter, gradient in pairs:
        accumulate(parameter, gradient)
