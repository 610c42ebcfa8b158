"""Linear scalarization: minimise Σ w_i L_i with weights fixed for the whole run.

d = Σ w_i g_i with w_i >= 0. One backward pass, nothing to remember. With positive weights a global
minimum is Pareto optimal; with convex losses every Pareto optimum is one for some weights. It is
the baseline that every other method here has to beat.
Boyd and Vandenberghe, "Convex Optimization", 2004, section 4.7. No difference from the source.
`normalization` initial_loss applies w to L_i / L_i(0), with L_i(0) the first minibatch's loss or
1e-8 if that is more: still fixed weights, w_i / L_i(0) scaled to the sum of the w_i.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .gramian import or_nan
from .method import Choice, Method, Paper, Signals, State, TaskWeights, Values, choice, task_weights

SMALLEST_LOSS = 1e-8


def init(losses: Tensor) -> State:
    """No first losses yet, which 0 stands for."""
    return {"first": torch.zeros_like(losses)}


def step(signals: Signals, state: State, values: Values) -> tuple[Tensor, State]:
    """The fixed weights (..., T), whatever the signals but the first losses."""
    weights = task_weights(values, "weights").expand_as(signals.losses).clone()
    if choice(values, "normalization") == "none":
        return weights, state
    finite = torch.isfinite(signals.losses).all(-1, keepdim=True)
    seen = signals.losses.clamp_min(SMALLEST_LOSS)
    first = torch.where(state["first"] > 0, state["first"], seen)
    scaled = weights / first
    scaled = scaled * weights.sum(-1, keepdim=True) / scaled.sum(-1, keepdim=True)
    return or_nan(finite, scaled), {"first": torch.where(finite, first, state["first"])}


METHOD = Method(
    name="linear",
    summary="fixed weights: minimise the weighted sum of the losses",
    paper=Paper(
        authors="Boyd, Vandenberghe",
        year=2004,
        title="Convex Optimization, section 4.7",
        venue="Cambridge University Press",
    ),
    needs="losses",
    step=step,
    init=init,
    hyper={
        "weights": TaskWeights("one fixed weight a task; the paper's w"),
        "normalization": Choice(
            ("none", "initial_loss"),
            "what the losses are divided by: nothing, or the first minibatch's losses",
        ),
    },
    heads="weighted",
)
