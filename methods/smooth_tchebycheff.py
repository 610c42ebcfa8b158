"""Smooth Tchebycheff scalarization (STCH): a smooth stand-in for the largest weighted loss.

min over θ of μ log Σ exp(λ_i L_i / μ), ideal point 0; weights λ_i · softmax(λ L / μ)_i. It is never
below the Tchebycheff value and at most μ log T above; a large μ makes it linear scalarization.
Lin, Zhang, Yang, Liu, Wang, Zhang, "Smooth Tchebycheff Scalarization for Multi-Objective
Optimization", ICML 2024, arXiv 2402.19078.
Difference: the definition itself, with ideal point 0. The authors' multi-task code first trains
four epochs on Σ log L_i and then smooths log(L_i / nadir_i).
"""

from __future__ import annotations

import torch
from torch import Tensor

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


def step(signals: Signals, state: State, values: Values) -> tuple[Tensor, State]:
    """Weights (..., T) between 0 and λ_i."""
    weights = task_weights(values, "weights")
    share = torch.softmax(weights * signals.losses / number(values, "mu"), dim=-1)
    return weights * share, state


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
    hyper={
        "weights": TaskWeights("one preference a task; the paper's λ"),
        "mu": Number(0.1, "smoothness; 0 would be the maximum itself", low=1e-6),
    },
    heads="weighted",
    deviations="the ideal point is 0; without the authors' warm-up on log losses",
)
