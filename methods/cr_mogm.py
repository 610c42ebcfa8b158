"""CR-MOGM: the weights of another method, averaged exponentially over the steps.

w_t = α w_{t−1} + (1 − α) ŵ_t, with ŵ_t what MGDA or CAGrad answers for this minibatch; d = Σ w_t,i
g_i. One minibatch's weights correlate with its gradients, which keeps the method from converging.
Zhou, Zhang, Jiang, Zhong, Gu, Zhu, "On the Convergence of Stochastic Multi-Objective Gradient
Manipulation and Beyond", NeurIPS 2022.
Only the abstract could be read: the start, which is the first step's own weights as in TorchJD, and
the default α are a reconstruction, and so is an α that stays the same over the run.
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import cagrad, mgda
from .method import Choice, Method, Number, Paper, Signals, State, Values, choice, number

BASES = {"mgda": mgda.METHOD, "cagrad": cagrad.METHOD}


def init(losses: Tensor) -> State:
    """No weights yet, and whatever the base methods start with."""
    own = {"weights": torch.zeros_like(losses), "started": torch.zeros_like(losses[..., :1])}
    return {**mgda.METHOD.init(losses), **cagrad.METHOD.init(losses), **own}


def step(signals: Signals, state: State, values: Values) -> tuple[Tensor, State]:
    """The averaged weights (..., T)."""
    base, alpha = BASES[choice(values, "base")], number(values, "alpha")
    settings = {**values, "normalization": "none", "rescale": torch.zeros_like(alpha[..., 0])}
    fresh, moved = base.step(signals, state, settings)
    before = torch.where(state["started"] > 0, state["weights"], fresh)
    averaged = alpha * before + (1 - alpha) * fresh
    finite = torch.isfinite(averaged).all(-1, keepdim=True)
    kept = {
        "weights": torch.where(finite, averaged, state["weights"]),
        "started": torch.where(finite, 1.0, state["started"]),
    }
    return averaged, {**moved, **kept}


METHOD = Method(
    name="cr_mogm",
    summary="weights of MGDA or CAGrad, averaged over the steps (a reconstruction)",
    paper=Paper(
        authors="Zhou, Zhang, Jiang, Zhong, Gu, Zhu",
        year=2022,
        title="On the Convergence of Stochastic Multi-Objective Gradient Manipulation and Beyond",
        venue="NeurIPS",
    ),
    needs="gramian",
    step=step,
    init=init,
    hyper={
        "base": Choice(("mgda", "cagrad"), "the method whose weights are averaged"),
        "alpha": Number(0.9, "share of the past weights; 0 is the base method", 0.0, 1.0),
        "c": Number(0.4, "CAGrad's radius, for base cagrad", low=0.0, high=1.0),
    },
    deviations="a reconstruction: starts from the first step's weights; α stays the same",
)
