"""GradNorm: trains the loss weights until gradient norms are what the tasks' progress asks for.

With n_i = ‖∇_W L_i‖ on the last shared layer W, inverse training rate r_i = (L_i / L_i(0)) / mean
and target_i = mean_j(w_j n_j) · r_i^α, held constant, w minimises Σ |w_i n_i − target_i|.
Its gradient in w_i is sign(w_i n_i − target_i) · n_i: no second backward pass is needed.
Chen, Badrinarayanan, Lee, Rabinovich, "GradNorm", ICML 2018, arXiv 1711.02257, equations 1, 2 and
Algorithm 1. L_i(0) is the first minibatch's loss; the weights are rescaled to sum to T.
Differences: weights are kept above 1e-4, where the paper would let a large step make them negative.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .adam import adam_change, adam_state
from .arithmetic import positive, power
from .gramian import norms
from .method import Choice, Method, Number, Paper, Signals, State, Values, choice, number

SMALLEST_WEIGHT = 1e-4


def init(losses: Tensor) -> State:
    """Weights 1; no first losses yet."""
    return {
        "weights": torch.ones_like(losses),
        "first": torch.zeros_like(losses),
        "started": torch.zeros_like(losses[..., :1]),
        **adam_state(losses),
    }


def step(signals: Signals, state: State, values: Values) -> tuple[Tensor, State]:
    """The present weights (..., T), positive with sum T; then one step of the balancing loss."""
    assert signals.gramian is not None
    weights, rate = state["weights"], number(values, "weight_lr")
    first = torch.where(state["started"] > 0, state["first"], signals.losses)
    gradient = _balancing_gradient(signals, weights, first, number(values, "alpha"))
    change, moments = adam_change(gradient, state, rate)
    if choice(values, "optimizer") == "sgd":
        change = -rate * gradient
    moved = (weights + change).clamp_min(SMALLEST_WEIGHT)
    moved = moved * moved.shape[-1] / moved.sum(-1, keepdim=True)
    started = torch.ones_like(state["started"])
    return weights, {"weights": moved, "first": first, "started": started, **moments}


def _balancing_gradient(signals: Signals, weights: Tensor, first: Tensor, alpha: Tensor) -> Tensor:
    """Gradient (..., T) of Σ |w_i n_i − target_i| in the weights."""
    assert signals.gramian is not None
    lengths = norms(signals.gramian)
    # a loss that falls below 0 has no training rate: its task counts as fully trained
    progress = (signals.losses / positive(first)).clamp_min(0)
    rate = progress / positive(progress.mean(-1, keepdim=True))
    weighted = weights * lengths
    target = weighted.mean(-1, keepdim=True) * power(rate, alpha)
    return torch.sign(weighted - target) * lengths


METHOD = Method(
    name="gradnorm",
    summary="trains loss weights so that gradient norms follow the tasks' training rates",
    paper=Paper(
        authors="Chen, Badrinarayanan, Lee, Rabinovich",
        year=2018,
        title="GradNorm: Gradient Normalization for Adaptive Loss Balancing "
        "in Deep Multitask Networks",
        venue="ICML",
        arxiv="1711.02257",
    ),
    needs="gramian",
    step=step,
    init=init,
    hyper={
        "alpha": Number(1.5, "how strongly slow tasks are favoured; 0 equalises norms", low=0.0),
        "weight_lr": Number(0.025, "learning rate of the loss weights", low=0.0),
        "optimizer": Choice(("adam", "sgd"), "what takes the weights' step"),
    },
    layer="last",
    heads="weighted",
    deviations="weights are kept above 1e-4; the first minibatch's loss serves as L(0)",
)
