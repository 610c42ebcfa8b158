"""The backward passes of one step in anyone's training loop, from losses to `.grad`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .application import Evidence, Update, evidence_of
from .leaves import (
    Group,
    accumulate,
    accumulate_all,
    averaged,
    last_layer,
    leaves_of,
    stacked,
    task_gradients,
)
from .treatment import Treatment, treated


@dataclass(frozen=True)
class Sample:
    """What one minibatch gave: T scalar losses as treated, and their representation or None."""

    losses: Sequence[Tensor]
    features: Tensor | None = None


@dataclass(frozen=True)
class Surroundings:
    """Where the passes happen.

    shared: the parameters that all tasks train. group: the processes that share a step, or None.
    scale: what the losses are multiplied by before, and `.grad` will be divided by after.
    """

    shared: Sequence[Tensor]
    group: Group | None
    scale: float


@dataclass(frozen=True)
class _Rows:
    """Per-task gradients: of the shared place (T, P), and of each task's own parameters."""

    jacobian: Tensor
    reached: Sequence[bool]
    owners: Sequence[Sequence[Tensor]]
    own: Sequence[Sequence[Tensor | None]]


def all_finite(values: Sequence[Tensor]) -> Tensor:
    """Whether no value anywhere is NaN or infinite, a scalar; no device waits for it."""
    return torch.stack([torch.isfinite(value).all() for value in values]).all()


def values_of(losses: Sequence[Tensor], around: Surroundings) -> Tensor:
    """The losses (T,) float64, as all processes together see them."""
    return averaged(torch.stack([loss.detach().double() for loss in losses]), around.group)


def treated_together(
    loss: Tensor, treatment: Treatment, weight: Tensor | None, group: Group | None
) -> Tensor:
    """A loss as a method trains it: see `treated`.

    Over a group it is the logarithm of the processes' mean, not the mean of their logarithms: its
    value is that of all of them, its gradient this process' share, for averaging.
    """
    if group is None or treatment.losses == "raw":
        return treated(loss, treatment, weight)
    with torch.enable_grad():
        mean = averaged(loss.detach().double(), group).requires_grad_()
        whole = treated(mean, treatment, weight)
        (slope,) = torch.autograd.grad(whole, mean)
    return whole.detach() + slope * (loss - loss.detach())


def last_layer_rows(losses: Sequence[Tensor], around: Surroundings) -> Tensor:
    """The tasks' gradients of the last shared layer, (T, P) float64; the graph is kept."""
    layer = last_layer(around.shared)
    scaled = [loss * around.scale for loss in losses]
    rows = task_gradients(scaled, [layer] * len(losses), keep=True)
    return averaged(stacked(rows, layer), around.group).double() / around.scale


def weighted_pass(losses: Sequence[Tensor], weights: Tensor, around: Surroundings) -> None:
    """One backward pass of Σ w_i L_i through everything."""
    scaled = [w.to(loss) * loss for w, loss in zip(weights, losses, strict=True)]
    total = torch.stack(scaled).sum() * around.scale
    if around.group is None:
        torch.autograd.backward(total)
        return
    leaves = leaves_of(total)
    accumulate_all(leaves, torch.autograd.grad(total, leaves), around.group)


def combined_passes(
    samples: Sequence[Sample],
    around: Surroundings,
    decide: Callable[[Evidence], Update],
    noise: Tensor,
    epoch: int,
) -> Update:
    """One backward pass a task; shared parameters get the combination, heads their own."""
    found = [_rows(sample, around) for sample in samples]
    update = decide(
        evidence_of(
            [values_of(sample.losses, around) for sample in samples],
            [rows.jacobian for rows in found],
            noise,
            [value.numel() for value in _place(samples[0], around)],
            epoch,
        )
    )
    _add_to_shared(samples[0], found, update, around)
    for rows in found:
        for task, (owners, own) in enumerate(zip(rows.owners, rows.own, strict=True)):
            share = 1 / len(found)
            factor = share if update.heads is None else update.heads[task] * share
            scaled = [None if grad is None else _times(grad, factor) for grad in own]
            accumulate_all(owners, scaled, around.group)
    return update


def _times(gradient: Tensor, factor: Tensor | float) -> Tensor:
    return gradient * (factor.to(gradient) if isinstance(factor, Tensor) else factor)


def _place(sample: Sample, around: Surroundings) -> Sequence[Tensor]:
    """The tensors in which the tasks' shared gradients are taken."""
    return around.shared if sample.features is None else [sample.features]


def _rows(sample: Sample, around: Surroundings) -> _Rows:
    known = {id(parameter) for parameter in around.shared}
    place = _place(sample, around)
    scaled = [loss * around.scale for loss in sample.losses]
    owners = [[leaf for leaf in leaves_of(loss) if id(leaf) not in known] for loss in scaled]
    if sample.features is not None:
        _check_detours(sample.losses, sample.features, known)
    wanted = [[*place, *own] for own in owners]
    rows = task_gradients(scaled, wanted, keep=sample.features is not None)
    count = len(place)
    jacobian = stacked([row[:count] for row in rows], place)
    if sample.features is None:
        jacobian = averaged(jacobian, around.group)
    return _Rows(
        jacobian.double() / around.scale,
        [any(row[k] is not None for row in rows) for k in range(count)],
        owners,
        [row[count:] for row in rows],
    )


def _check_detours(losses: Sequence[Tensor], features: Tensor, shared: set[int]) -> None:
    """Refuse shared parameters that a loss reaches past the representation."""
    for task, loss in enumerate(losses):
        for leaf in leaves_of(loss, until=features):
            if id(leaf) in shared:
                raise ValueError(
                    f"loss {task} reaches a shared parameter of shape {tuple(leaf.shape)} past the "
                    "features, which would lose that gradient; leave it out of `shared`, or give "
                    "features that come after it"
                )


def _add_to_shared(
    sample: Sample, found: Sequence[_Rows], update: Update, around: Surroundings
) -> None:
    direction = update.direction * around.scale
    if sample.features is not None:
        towards = direction.to(sample.features.dtype).view_as(sample.features)
        grads = torch.autograd.grad(sample.features, around.shared, towards, allow_unused=True)
        accumulate_all(around.shared, grads, around.group)
        return
    parts = torch.split(direction, [parameter.numel() for parameter in around.shared])
    for place, (parameter, part) in enumerate(zip(around.shared, parts, strict=True)):
        if any(rows.reached[place] for rows in found):
            accumulate(parameter, part)
