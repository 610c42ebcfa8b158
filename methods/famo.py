"""FAMO: keeps all losses falling at the same rate, for the price of one backward pass.

With z = softmax(ξ), weights (z_i / L_i) / Σ_j (z_j / L_j). After the optimiser's step the same
minibatch is measured again: δ_i = log L_i − log L_i', and Adam descends along (∂z/∂ξ)ᵀδ, which
moves weight to the tasks that fell least. Weight decay γ forgets old steps.
Liu, Feng, Stone, Liu, "FAMO: Fast Adaptive Multitask Optimization", NeurIPS 2023, arXiv 2306.03792,
Algorithm 1. Losses must be positive; below 1e-8 a loss counts as 1e-8, where the authors add 1e-8.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .adam import adam_change, adam_state
from .arithmetic import dot
from .method import Method, Number, Paper, Signals, State, Values, number

SMALLEST_LOSS = 1e-8


def init(losses: Tensor) -> State:
    """Equal logits; no losses measured yet."""
    zeros = torch.zeros_like(losses)
    return {"logits": zeros, "before": zeros, **adam_state(losses)}


def step(signals: Signals, state: State, values: Values) -> tuple[Tensor, State]:
    """Weights (..., T), non-negative with sum 1."""
    losses = signals.losses.clamp_min(SMALLEST_LOSS)
    share = torch.softmax(state["logits"], dim=-1) / losses
    return share / share.sum(-1, keepdim=True), {**state, "before": torch.log(losses)}


def after(losses: Tensor, state: State, values: Values) -> State:
    """The state with logits moved by how much each log loss fell in the step."""
    fall = state["before"] - torch.log(losses.clamp_min(SMALLEST_LOSS))
    share = torch.softmax(state["logits"], dim=-1)
    # weight decay as in torch.optim.Adam: part of the gradient
    gradient = share * (fall - dot(share, fall)) + number(values, "gamma") * state["logits"]
    change, moments = adam_change(gradient, state, number(values, "weight_lr"))
    return {**state, "logits": state["logits"] + change, **moments}


METHOD = Method(
    name="famo",
    summary="one backward pass; weights learn from how much every loss fell",
    paper=Paper(
        authors="Liu, Feng, Stone, Liu",
        year=2023,
        title="FAMO: Fast Adaptive Multitask Optimization",
        venue="NeurIPS",
        arxiv="2306.03792",
    ),
    needs="losses",
    step=step,
    init=init,
    after=after,
    hyper={
        "gamma": Number(0.001, "weight decay of the logits", low=0.0),
        "weight_lr": Number(0.025, "learning rate of the logits", low=0.0),
    },
    heads="weighted",
    deviations="losses below 1e-8 count as 1e-8",
)
