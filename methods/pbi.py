"""Penalty boundary intersection (PBI): go down along a preference, and pay for leaving it.

min over θ of d₁ + θ d₂, with ideal point 0, unit preference ŵ, d₁ = ŵ·L and d₂ = ‖L − d₁ ŵ‖;
weights ŵ_i + θ (L − d₁ ŵ)_i / d₂. A large penalty holds the ratio of the losses at that of w, also
on concave fronts; a weight may be negative, where a task is far ahead of its preference.
Zhang and Li, "MOEA/D", IEEE Trans. Evolutionary Computation 2007, section II.C.
Differences: the ideal point is 0 for every task, as fits losses that cannot be negative; where d₂
is 0 its subgradient 0 is taken.
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

ROUNDING = 1e-12
"""Share of ‖L‖ below which d₂ counts as 0: its direction would be that of rounding errors."""


def step(signals: Signals, state: State, values: Values) -> tuple[Tensor, State]:
    """Weights (..., T), of either sign."""
    preference, losses = task_weights(values, "weights"), signals.losses
    preference = preference / positive(length(preference))
    offset = losses - dot(preference, losses) * preference
    distance = length(offset)
    away = torch.where(distance > ROUNDING * length(losses), offset / positive(distance), 0.0)
    finite = torch.isfinite(losses).all(-1, keepdim=True)
    return torch.where(finite, preference + number(values, "theta") * away, torch.nan), state


METHOD = Method(
    name="pbi",
    summary="descends along a preference and pays for the distance to it",
    paper=Paper(
        authors="Zhang, Li",
        year=2007,
        title="MOEA/D: A Multiobjective Evolutionary Algorithm Based on Decomposition",
        venue="IEEE Transactions on Evolutionary Computation",
    ),
    needs="losses",
    step=step,
    hyper={
        "weights": TaskWeights("the ratio at which losses are wanted; the paper's λ"),
        "theta": Number(5.0, "price of the distance to the preference", low=0.0),
    },
    heads="weighted",
    deviations="the ideal point is 0 for every task",
)
