"""Missing labels: which are there, and losses that are means over the rows that have one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .problem import Measure, Pooled, Task

IGNORED = -100
"""A missing label among whole numbers, as in torch.nn.functional.cross_entropy."""
ELEMENTWISE: tuple[Callable[..., Tensor], ...] = (
    F.mse_loss,
    F.l1_loss,
    F.smooth_l1_loss,
    F.huber_loss,
    F.binary_cross_entropy,
    F.binary_cross_entropy_with_logits,
)
"""Losses that torch computes number by number before it takes their mean."""


def known(target: Tensor) -> Tensor:
    """Where a target holds a label, a mask of its shape: no NaN, or no -100 in whole numbers."""
    return ~target.isnan() if target.is_floating_point() else target != IGNORED


def partly_labelled(task: Task, fill: float = 0) -> Task:
    """The task for a target in which labels may be missing: NaN, or -100 in whole numbers.

    Its loss and metrics are means over the labels of a minibatch that are there, and 0 with a zero
    gradient where none is. fill: a label that the task's measures can be computed with; it stands
    in for missing ones, and what it gives is left out. A task that says so of itself already is
    left as it is.
    """
    if task.missing:
        return task
    metrics = {name: _metric(measure, fill) for name, measure in task.metrics.items()}
    return replace(task, loss=over_labelled(task.loss, fill), metrics=metrics, missing=True)


def _metric(measure: Measure | Pooled, fill: float) -> Measure | Pooled:
    if isinstance(measure, Pooled):
        return replace(measure, parts=over_labelled(measure.parts, fill))
    return over_labelled(measure, fill)


def over_labelled(measure: Measure, fill: float = 0) -> Measure:
    """The measure as a mean over the labels that are there, and 0 where none is.

    Torch's cross-entropy and elementwise losses, bare or as a `partial`, count every label; of any
    other measure, which must be a mean over rows, the rows count whose target is all there.
    """
    if isinstance(measure, _OverLabelled):
        return measure
    if _is_cross_entropy(measure):
        return _OverLabelled(measure, fill, _cross_entropy)
    if _is_elementwise(measure):
        return _OverLabelled(measure, fill, _elementwise)
    return _OverLabelled(measure, fill, _by_rows)


@dataclass(frozen=True)
class _OverLabelled:
    """A measure (output (B, ...), target (B, ...)) -> scalar that leaves missing labels out."""

    measure: Measure
    fill: float
    way: Callable[[Measure, float, Tensor, Tensor], Tensor]

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        return self.way(self.measure, self.fill, output, target)


def labelled_share(task: Task, part: Tensor, whole: Tensor) -> float | Tensor:
    """The weight of some rows' mean in the mean of all of them: by labels if any may be missing."""
    if not task.missing:
        return len(part) / len(whole)
    return known(part).sum() / known(whole).sum().clamp(min=1)


def _cross_entropy(measure: Measure, fill: float, logits: Tensor, labels: Tensor) -> Tensor:
    """torch leaves -100 out itself, but gives NaN where nothing else is there."""
    some = known(labels).any()
    entropy = measure(logits, labels.masked_fill(~some, int(fill)))
    return torch.where(some, entropy, 0)


def _elementwise(measure: Measure, fill: float, output: Tensor, target: Tensor) -> Tensor:
    counted = known(target)
    of_numbers = cast("Callable[..., Tensor]", measure)
    each = of_numbers(output, target.masked_fill(~counted, fill), reduction="none")
    return _mean(each, counted)


def _by_rows(measure: Measure, fill: float, output: Tensor, target: Tensor) -> Tensor:
    counted = known(target)
    filled = target.masked_fill(~counted, fill)

    def of_row(output: Tensor, target: Tensor) -> Tensor:
        return measure(output.unsqueeze(0), target.unsqueeze(0))

    # layers that are batched by hand for a pack know nothing of rows that are batched too
    with torch._C.DisableTorchFunction():
        each = torch.vmap(of_row)(output, filled)
    return _mean(each, counted.flatten(1).all(1) if counted.ndim > 1 else counted)


def _mean(each: Tensor, counted: Tensor) -> Tensor:
    """Of those that are counted; 0 if none is, with a zero gradient for the others.

    each: like counted, or with more dimensions behind, which the mean keeps.
    """
    wide = counted.reshape(*counted.shape, *[1] * (each.ndim - counted.ndim))
    total = torch.where(wide, each, 0).sum(dim=tuple(range(counted.ndim)))
    return total / counted.sum().clamp(min=1)


def _is_cross_entropy(measure: Measure) -> bool:
    if isinstance(measure, nn.CrossEntropyLoss):
        return measure.ignore_index == IGNORED and measure.reduction == "mean"
    function, given = _taken_apart(measure)
    return function is F.cross_entropy and not {"ignore_index", "reduction"} & given


def _is_elementwise(measure: Measure) -> bool:
    function, given = _taken_apart(measure)
    return any(function is one for one in ELEMENTWISE) and "reduction" not in given


def _taken_apart(measure: Measure) -> tuple[Callable[..., Tensor], set[str]]:
    """The function of a measure and the names of the keywords that a `partial` gives it."""
    if isinstance(measure, partial):
        return measure.func, set(measure.keywords)
    return measure, set()
