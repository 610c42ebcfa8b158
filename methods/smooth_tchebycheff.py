"""Smooth Tchebycheff scalarization (STCH): a smooth stand-in for the largest weighted loss.

min over θ of μ log Σ exp(λ_i L_i / μ), ideal point 0; weights λ_i · softmax(λ L / μ)_i. It is never
below the Tchebycheff value and at most μ log T above; a large μ makes it linear scalarization.
Lin, Zhang, Yang, Liu, Wang, Zhang, "Smooth Tchebycheff Scalarization for Multi-Objective
Optimization", ICML 2024, arXiv 2402.19078.
`recipe` plain is the definition itself, with ideal point 0. `recipe` mtl is what the authors' code
does for networks, where μ is 1: for `warmup` epochs minimise Σ log L_i, take each task's mean loss
in the last of them as nadir_i, then minimise T μ log Σ exp(λ_i log(L_i / nadir_i) / μ).
Differences: in recipe mtl λ is scaled to mean 1, so that equal λ are the authors' code, which has
none; that code warms up one epoch longer than its setting says. Losses below 1e-8 count as 1e-8.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .arithmetic import positive
from .gramian import or_nan
from .method import (
    Choice,
    Method,
    Number,
    Paper,
    Signals,
    State,
    TaskWeights,
    Values,
    choice,
    number,
    task_weights,
)

SMALLEST_LOSS = 1e-8


def init(losses: Tensor) -> State:
    """No losses of the last warm-up epoch seen."""
    return {"sum": torch.zeros_like(losses), "count": torch.zeros_like(losses[..., :1])}


def step(signals: Signals, state: State, values: Values) -> tuple[Tensor, State]:
    """Weights (..., T): between 0 and λ_i, or those of the authors' recipe for networks."""
    weights = task_weights(values, "weights")
    if choice(values, "recipe") == "plain":
        share = torch.softmax(weights * signals.losses / number(values, "mu"), dim=-1)
        return weights * share, state
    losses, warmup = signals.losses.clamp_min(SMALLEST_LOSS), number(values, "warmup")
    smooth = _smooth_ratios(losses, _nadir(state), weights, number(values, "mu"))
    counted = ((warmup - 1 <= signals.epoch) & (signals.epoch < warmup)).to(losses)
    finite = torch.isfinite(losses).all(-1, keepdim=True)
    seen = {"sum": state["sum"] + counted * losses, "count": state["count"] + counted}
    answer = torch.where(signals.epoch < warmup, 1 / losses, smooth)
    return or_nan(finite, answer), {
        key: torch.where(finite, value, state[key]) for key, value in seen.items()
    }


def _nadir(state: State) -> Tensor:
    """Mean losses (..., T) of the last warm-up epoch; 1 where there was none."""
    return torch.where(state["count"] > 0, state["sum"] / positive(state["count"]), 1.0)


def _smooth_ratios(losses: Tensor, nadir: Tensor, weights: Tensor, mu: Tensor) -> Tensor:
    """Gradient (..., T) of T μ log Σ exp(λ_i log(L_i / nadir_i) / μ) in the losses."""
    preference = weights / positive(weights.mean(-1, keepdim=True))
    share = torch.softmax(preference * torch.log(losses / nadir) / mu, dim=-1)
    return losses.shape[-1] * preference * share / losses


METHOD = Method(
    name="smooth_tchebycheff",
    summary="minimises a smooth maximum of the weighted losses",
    paper=Paper(
        authors="Lin, Zhang, Yang, Liu, Wang, Zhang",
        year=2024,
        title="Smooth Tchebycheff Scalarization for Multi-Objective Optimization",
        venue="ICML",
        arxiv="2402.19078",
    ),
    needs="losses",
    step=step,
    init=init,
    hyper={
        "weights": TaskWeights("one preference a task; the paper's λ"),
        "mu": Number(
            0.1, "smoothness; 0 would be the maximum itself; 1 in the authors' mtl recipe", low=1e-6
        ),
        "recipe": Choice(
            ("plain", "mtl"), "the losses as they are, or log losses after a warm-up as the authors"
        ),
        "warmup": Number(4, "epochs on the sum of log losses, for recipe mtl", low=0, whole=True),
    },
    heads="weighted",
    deviations="the ideal point is 0; recipe mtl scales λ to mean 1 and needs the epoch told",
)
