"""IMTL-L, impartial learning by losses: every task's scaled loss is brought to 1.

minimise Σ e^{s_i} L_i − s_i with s trained beside the network; weights e^{s_i}.
At its optimum s_i = −log L_i it weights as Σ log L_i does.
Liu, Li, Kuang, Xue, Chen, Yang, Liao, Zhang, "Towards Impartial Multi-task Learning", ICLR 2021.
Differences: s has its own Adam (learning rate `weight_lr`, start 0, no weight decay), so that the
network's learning rate can be tuned alone, and is kept within ±10.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .adam import adam_change, adam_state
from .method import Method, Number, Paper, Signals, State, Values, number

BOUND = 10.0
"""As a loss goes to 0, its optimal scale goes to infinity."""


def init(losses: Tensor) -> State:
    """Scales 1, kept as logarithms."""
    return {"log_scale": torch.zeros_like(losses), **adam_state(losses)}


def step(signals: Signals, state: State, values: Values) -> tuple[Tensor, State]:
    """Weights (..., T) of the present scales, which then make one Adam step."""
    weights = torch.exp(state["log_scale"])
    gradient = weights * signals.losses - 1
    change, moments = adam_change(gradient, state, number(values, "weight_lr"))
    moved = (state["log_scale"] + change).clamp(-BOUND, BOUND)
    return weights, {"log_scale": moved, **moments}


METHOD = Method(
    name="imtl_l",
    summary="learned scales that bring every loss to 1",
    paper=Paper(
        authors="Liu, Li, Kuang, Xue, Chen, Yang, Liao, Zhang",
        year=2021,
        title="Towards Impartial Multi-task Learning",
        venue="ICLR",
    ),
    needs="losses",
    step=step,
    init=init,
    hyper={"weight_lr": Number(0.025, "learning rate of the log scales", low=0.0)},
    heads="weighted",
    deviations="the scales have their own Adam and stay between e^-10 and e^10",
)
