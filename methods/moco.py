"""MoCo: multi-gradient descent on tracked gradients, so that a minibatch's noise does not bias it.

y_i ← y_i − β_t (y_i − g_i) follows each gradient; λ ← Π(λ − γ_t (Y Yᵀ + ρ I) λ), with Π onto the
simplex, takes one step towards the shortest vector in the hull of the y_i; d = Σ λ_i y_i. In step t
β_t = β t^(−σ_β) and γ_t = γ t^(−σ_γ).
Fernando, Shen, Liu, Chaudhury, Murugesan, Chen, "Mitigating Gradient Bias in Multi-objective
Learning: A Provably Convergent Approach", ICLR 2023, arXiv 2210.12624. `projection` softmax and
`normalization` loss, which gives g_i the length L_i, are what LibMTL has from the authors' code.
Differences: y starts at 0 and λ at 1/T; defaults of β, γ and their decay are LibMTL's.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .arithmetic import positive, power, times
from .method import Choice, Method, Number, Paper, Signals, State, Values, choice, number
from .simplex import nearest_on_simplex


def init(jacobian: Tensor) -> State:
    """Nothing tracked, equal weights."""
    zeros = torch.zeros_like(jacobian[..., 0], dtype=torch.float64)
    return {
        "tracked": torch.zeros_like(jacobian),
        "weights": zeros + 1 / jacobian.shape[-2],
        "count": zeros[..., :1],
    }


def step(signals: Signals, state: State, values: Values) -> tuple[Tensor, State]:
    """The direction (..., P)."""
    assert signals.jacobian is not None
    gradients, weights = signals.jacobian, state["weights"]
    if choice(values, "normalization") == "loss":
        lengths = gradients.double().square().sum(-1).sqrt()
        # two divisions: the quotient of a loss and a tiny norm would overflow
        gradients = gradients / positive(lengths).unsqueeze(-1).to(gradients)
        gradients = gradients * signals.losses.unsqueeze(-1).to(gradients)
    count = state["count"] + 1
    share = _decayed(values, "beta", count).unsqueeze(-1)
    tracked = state["tracked"].double()
    tracked = tracked - share * (tracked - gradients)
    slope = times(_products(tracked), weights) + number(values, "rho") * weights
    moved = weights - _decayed(values, "gamma", count) * slope
    softened = choice(values, "projection") == "softmax"
    weights = torch.softmax(moved, dim=-1) if softened else nearest_on_simplex(moved)
    direction = (weights.unsqueeze(-1) * tracked).sum(-2)
    return direction, {"tracked": tracked.to(gradients), "weights": weights, "count": count}


def _decayed(values: Values, name: str, count: Tensor) -> Tensor:
    """A step size after `count` steps, (..., 1)."""
    return number(values, name) * power(count, -number(values, f"{name}_sigma"))


def _products(rows: Tensor) -> Tensor:
    """Dot products of the rows (..., T, P), (..., T, T); the same digits in every batch."""
    products = [times(rows, rows[..., task, :]) for task in range(rows.shape[-2])]
    return torch.stack(products, dim=-1)


METHOD = Method(
    name="moco",
    summary="multi-gradient descent on running means of the gradients",
    paper=Paper(
        authors="Fernando, Shen, Liu, Chaudhury, Murugesan, Chen",
        year=2023,
        title="Mitigating Gradient Bias in Multi-objective Learning: A Provably Convergent "
        "Approach",
        venue="ICLR",
        arxiv="2210.12624",
    ),
    needs="jacobian",
    step=step,
    answers="direction",
    init=init,
    hyper={
        "beta": Number(0.5, "step size of the tracked gradients", low=0.0, high=1.0),
        "beta_sigma": Number(0.5, "power of the step's number that `beta` decays with", low=0.0),
        "gamma": Number(0.1, "step size of the weights", low=0.0),
        "gamma_sigma": Number(0.5, "power of the step's number that `gamma` decays with", low=0.0),
        "rho": Number(0.0, "pull of the weights towards equal ones", low=0.0),
        "projection": Choice(("simplex", "softmax"), "how the weights come back to the simplex"),
        "normalization": Choice(
            ("none", "loss"), "gradients as they are, or given their loss as length"
        ),
    },
    deviations="gradients are tracked from 0 on; the defaults of the step sizes are LibMTL's",
)
