"""Uncertainty weighting (UW): each task's log variance s_i is trained beside the network.

regression      minimise Σ ½ e^{−s_i} L_i + ½ s_i     weights ½ e^{−s_i}, optimum s_i = log L_i
classification  minimise Σ   e^{−s_i} L_i + ½ s_i     weights   e^{−s_i}, optimum s_i = log 2 L_i
At its optimum either gives weights ½ / L_i: the direction that minimises Σ log L_i.
Kendall, Gal, Cipolla, "Multi-Task Learning Using Uncertainty to Weigh Losses", CVPR 2018,
arXiv 1705.07115, section 3.
Differences: s has its own Adam (learning rate `weight_lr`, start 0, no weight decay), so that the
network's learning rate can be tuned alone; s is kept within ±10; one form serves all tasks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .adam import adam_change, adam_state
from .method import Choice, Method, Number, Paper, Signals, State, Values, choice, number

BOUND = 10.0
"""A loss that goes to 0 would take its log variance to -inf and its weight to infinity."""


def init(losses: Tensor) -> State:
    """Log variances 0."""
    return {"log_variance": torch.zeros_like(losses), **adam_state(losses)}


def step(signals: Signals, state: State, values: Values) -> tuple[Tensor, State]:
    """Weights (..., T) of the present log variances, which then make one Adam step."""
    half = 0.5 if choice(values, "form") == "regression" else 1.0
    log_variance = state["log_variance"]
    weights = half * torch.exp(-log_variance)
    gradient = 0.5 - weights * signals.losses
    change, moments = adam_change(gradient, state, number(values, "weight_lr"))
    moved = (log_variance + change).clamp(-BOUND, BOUND)
    return weights, {"log_variance": moved, **moments}


METHOD = Method(
    name="uncertainty",
    summary="loss weights from learned task variances, trained beside the network",
    paper=Paper(
        authors="Kendall, Gal, Cipolla",
        year=2018,
        title="Multi-Task Learning Using Uncertainty to Weigh Losses for Scene Geometry "
        "and Semantics",
        venue="CVPR",
        arxiv="1705.07115",
    ),
    needs="losses",
    step=step,
    init=init,
    hyper={
        "form": Choice(
            ("regression", "classification"),
            "weights ½ / variance (Gaussian likelihood) or 1 / variance (softmax)",
        ),
        "weight_lr": Number(0.025, "learning rate of the log variances", low=0.0),
    },
    heads="weighted",
    deviations="the log variances have their own Adam, start at 0 and stay within ±10; "
    "one likelihood form serves all tasks",
)
