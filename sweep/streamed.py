"""A step for tasks' gradients too many to be held: a Gramian block by block, then weighted losses.

A method that reads the Gramian answers with weights, and Σ w_i g_i is what one more backward pass
of Σ w_i L_i gives. The gradients of a block of tasks are held; those of every later task pass by,
and their products with the block fill its rows of the Gramian. With m blocks that takes
T (m + 1) / 2 backward passes and the weighted one, in place of T.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mtofront.methods import Signals, State, from_losses, gramian_of, products, weighed

from .gradients import Minibatch, Stepped, scaled
from .network import Network, Outputs, Tensors
from .stages import Rule, treated_losses

HELD = 2**27
"""Numbers that the tasks' gradients of one run may have, T × P: half a GiB in float32. The digits
of a run depend on which side of it they are, so it is the same on every machine."""


def rows_held(net: Network, rule: Rule, params: Tensors) -> int:
    """How many tasks' gradients of a run are held at once: T, or fewer if the step is streamed.

    Only methods that answer a Gramian with weights for whole gradients can do with fewer.
    """
    tasks = len(net.problem.tasks)
    method, treatment = rule.method, rule.treatment
    can = method.needs == "gramian" and not from_losses(method) and not method.independent
    if not can or treatment.level != "parameters" or treatment.granularity != "whole":
        return tasks
    numbers = sum(params[name][0].numel() for name in net.sharing.shared)
    # one more passes by
    return tasks if tasks * numbers <= HELD else min(tasks, max(2, HELD // numbers))


def streamed_step(
    net: Network, rule: Rule, params: Tensors, buffers: Tensors, state: State, batch: Minibatch
) -> Stepped:
    """What `step_gradients` answers, to rounding."""
    raw = net.losses(params, buffers, batch.split, batch.seeds)
    losses, measured = treated_losses(rule, raw)
    sharing = net.sharing
    shared = [params[name] for name in sharing.shared]
    own = [[params[name] for name in names] for names in sharing.heads]
    found = in_blocks(losses, shared, own, rows_held(net, rule, params) - 1)
    stacked = torch.stack(losses, dim=1)
    signals = Signals(stacked.detach().double(), batch.noise, found.gramian, epoch=batch.epoch)
    update = weighed(rule.method, rule.treatment, rule.values, state, signals)
    total = (update.weights.to(stacked.dtype) * stacked).sum()
    gradients = dict(zip(sharing.shared, torch.autograd.grad(total, shared), strict=True))
    for task, names in enumerate(sharing.heads):
        for name, gradient in zip(names, found.heads[task], strict=True):
            gradients[name] = scaled(gradient, update.heads, task)
    return Stepped(gradients, measured, update.state, update.weights)


@dataclass(frozen=True)
class Found:
    """gramian: (N, T, T) float64. heads: for each task, the gradients of its own parameters."""

    gramian: Tensor
    heads: list[tuple[Tensor, ...]]


def in_blocks(
    losses: Outputs, shared: Sequence[Tensor], own: Sequence[Sequence[Tensor]], block: int
) -> Found:
    """The Gramian from so many tasks' gradients at a time and one more."""
    tasks, runs = len(losses), len(losses[0])
    gramian = losses[0].new_empty(runs, tasks, tasks, dtype=torch.float64)
    heads: list[tuple[Tensor, ...]] = []
    for start in range(0, tasks, block):
        end = min(start + block, tasks)
        held = losses[0].new_empty(runs, end - start, sum(p[0].numel() for p in shared))
        for task in range(start, end):
            if len(heads) <= task:
                heads.append(_own(losses[task], own[task]))
            _write(losses[task], shared, held[:, task - start])
        gramian[:, start:end, start:end] = gramian_of(held)
        passing = torch.empty_like(held[:, :1])
        for task in range(end, tasks):
            _write(losses[task], shared, passing[:, 0])
            column = products(held, passing)
            gramian[:, start:end, task : task + 1] = column
            gramian[:, task : task + 1, start:end] = column.mT
        del held, passing
    return Found(gramian, heads)


def _own(loss: Tensor, params: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The gradients of a task's own parameters."""
    return torch.autograd.grad(loss.sum(), params, retain_graph=True) if params else ()


def _write(loss: Tensor, shared: Sequence[Tensor], row: Tensor) -> None:
    """One task's gradients of the shared parameters into a row (N, P)."""
    grads = torch.autograd.grad(
        loss.sum(), shared, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    sizes = [grad[0].numel() for grad in grads]
    for grad, place in zip(grads, torch.split(row, sizes, dim=1), strict=True):
        place.view(grad.shape).copy_(grad)
