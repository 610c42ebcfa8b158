"""COSMOS: a weighted sum of the losses, less a reward for losses in the ratio of the weights.

min over θ of w·L − λ cos(w, L), with cos(w, L) = w·L / (‖w‖ ‖L‖); weights
w − λ (ŵ − cos(w, L) L̂) / ‖L‖, where the hats mean unit length. λ = 0 is linear scalarization.
Ruchte and Grabocka, "Scalable Pareto Front Approximation for Deep Multi-Objective Learning", ICDM
2021, arXiv 2103.13392.
Differences: one run a preference, where the paper trains one network that takes the preference,
drawn anew for every minibatch, as an input; below 1e-8 ‖L‖ has no direction and earns no reward.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .arithmetic import dot, length, positive
from .method import (
    Method,
    Number,
    Paper,
    Signals,
    State,
    TaskWeights,
    Values,
    number,
    task_weights,
)

SMALLEST_LENGTH = 1e-8


def step(signals: Signals, state: State, values: Values) -> tuple[Tensor, State]:
    """Weights (..., T), of either sign."""
    weights, losses = task_weights(values, "weights"), signals.losses
    size = length(losses)
    preference, present = weights / positive(length(weights)), losses / positive(size)
    tilt = (preference - dot(preference, present) * present) / positive(size)
    tilt = torch.where(size < SMALLEST_LENGTH, 0.0, tilt)
    return weights - number(values, "strength") * tilt, state


METHOD = Method(
    name="cosmos",
    summary="a weighted sum, with a reward for losses in the ratio of the weights",
    paper=Paper(
        authors="Ruchte, Grabocka",
        year=2021,
        title="Scalable Pareto Front Approximation for Deep Multi-Objective Learning",
        venue="ICDM",
        arxiv="2103.13392",
    ),
    needs="losses",
    step=step,
    hyper={
        "weights": TaskWeights("one preference a task; the paper's r"),
        "strength": Number(
            2.0, "the paper's λ, from 0.01 to 8 there: what the cosine is worth", low=0.0
        ),
    },
    heads="weighted",
    deviations="one run a preference, where the paper trains one network for all of them",
)
