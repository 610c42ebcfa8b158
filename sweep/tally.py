"""How a method weighed the tasks since the last evaluation: the mean over the steps."""

from __future__ import annotations

import torch
from torch import Tensor

from mtofront.methods import treated

from .gradients import Stepped
from .stages import Rule


class WeightTally:
    """The running mean of N runs' task weights. It is empty whenever a pack stands at rest.

    A task's weight is the factor on the gradient of its own loss, as measured, in the update of the
    shared parameters: the method's answer, times what `weights` before the method and logarithms
    of losses multiply that gradient by. For a direction, the answer is the combination of the
    gradients that is nearest to it.
    """

    def __init__(self) -> None:
        self._sum: Tensor | None = None
        self._steps = 0

    def add(self, rule: Rule, stepped: Stepped) -> None:
        """Take in a step. A method that is an optimiser of its own leaves nothing to take in."""
        if stepped.weights is None:
            return
        weights = stepped.weights * _slopes(rule, stepped.losses)
        self._sum = weights if self._sum is None else self._sum + weights
        self._steps += 1

    def taken(self) -> Tensor | None:
        """The mean (N, T) float64 over the steps since the last call; None if there were none."""
        mean = None if self._sum is None else self._sum / self._steps
        self._sum, self._steps = None, 0
        return mean


def _slopes(rule: Rule, losses: Tensor) -> Tensor:
    """How fast the losses that the method trains grow with the measured ones, (N, T)."""
    if rule.weights is None and rule.treatment.losses == "raw":
        return torch.ones_like(losses)
    with torch.enable_grad():
        measured = losses.detach().requires_grad_()
        trained = treated(measured, rule.treatment, rule.weights)
        (slopes,) = torch.autograd.grad(trained.sum(), measured)
    return slopes
