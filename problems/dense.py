"""Dense: tasks whose target is a map of the picture, with pixels that have none."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from .problem import Measure, Pooled, Task

Errors = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(output, target) -> each pixel's error, and whether the pixel has a target: both (B, ...)."""


def segmentation(classes: int) -> Task:
    """Name every pixel's class. Output (B, C, H, W), target (B, H, W) int64, −1: none.

    Metrics: the share of pixels that are wrong, and 1 − mIoU, from one table of counts over all
    pixels of a split; classes that are neither there nor guessed are left out of the mean.
    """

    def nats(output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        places = target.clamp_min(0).unsqueeze(1)
        logs = functional.log_softmax(output, dim=1).gather(1, places).squeeze(1)
        return -logs, target >= 0

    def wrong(output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        return (output.argmax(1) != target).to(output.dtype), target >= 0

    miou = Pooled(_confusion(classes), _miou_error)
    return Task("segmentation", mean_known(nats), {"error": pooled(wrong), "miou_error": miou})


def depth() -> Task:
    """Depth or disparity, |error| as loss (L1). Output and target (B, 1, H, W), 0: none.

    Metrics: mean absolute error, and mean absolute error as a share of the target.
    """

    def relative(output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        known = target > 0
        return (output - target).abs() / torch.where(known, target, 1), known

    def off(output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        return (output - target).abs(), target > 0

    metrics = {"error": pooled(off), "relative_error": pooled(relative)}
    return Task("depth", mean_known(off), metrics)


def normal() -> Task:
    """Surface normals, 1 − cos of the angle as loss. Output and target (B, 3, H, W), 0 0 0: none.

    Metric: the mean angle in degrees.
    """

    def off(output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        return 1 - _cosine(output, target), (target != 0).any(dim=1)

    def degrees(output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        angle = torch.rad2deg(_cosine(output, target).clamp(-1, 1).acos())
        return angle, (target != 0).any(dim=1)

    return Task("normal", mean_known(off), {"error": pooled(degrees)})


def instance() -> Task:
    """The way in pixels to the middle of the object that a pixel belongs to (L1; Kendall 2018).

    Output (B, 2, H, W): down and right. Target (B, 3, H, W): the same, and 1 where there is one.
    Metric: the mean absolute error of the two.
    """

    def off(output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        known = (target[:, 2:] > 0).expand_as(output)
        return (output - target[:, :2]).abs(), known

    return Task("instance", mean_known(off), {"error": pooled(off)})


def mean_known(errors: Errors) -> Measure:
    """The mean over the pixels of a minibatch that have a target; 0 if none has."""

    def measure(output: Tensor, target: Tensor) -> Tensor:
        values, known = errors(output, target)
        return torch.where(known, values, 0).sum() / known.sum().clamp_min(1)

    return measure


def pooled(errors: Errors) -> Pooled:
    """The mean over all pixels of a split that have a target; NaN if none has."""

    def parts(output: Tensor, target: Tensor) -> Tensor:
        values, known = errors(output, target)
        total = torch.where(known, values, 0).sum()
        return torch.stack([total.double(), known.sum().double()]) / len(output)

    return Pooled(parts, lambda sums: sums[0] / sums[1])


def _cosine(output: Tensor, target: Tensor) -> Tensor:
    return (functional.normalize(output, dim=1) * functional.normalize(target, dim=1)).sum(dim=1)


def _confusion(classes: int) -> Measure:
    """Pixels by class (rows) and guess (columns), a row of data."""

    def counts(output: Tensor, target: Tensor) -> Tensor:
        places = torch.where(target >= 0, target * classes + output.argmax(1), classes**2).flatten()
        zeros = torch.zeros(classes**2 + 1, dtype=torch.int64, device=output.device)
        found = zeros.scatter_add(0, places, torch.ones_like(places))[:-1]
        return found.view(classes, classes).double() / len(output)

    return counts


def _miou_error(counts: Tensor) -> Tensor:
    both = counts.diagonal()
    either = counts.sum(0) + counts.sum(1) - both
    seen = either > 0
    shares = torch.where(seen, both / torch.where(seen, either, 1), 0)
    return 1 - shares.sum() / seen.sum()
