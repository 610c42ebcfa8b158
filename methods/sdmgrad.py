"""SDMGrad: the shortest vector in the gradients' hull, once the mean gradient is added to it.

w* = argmin over the simplex of ‖Σ (w_i + λ/T) g_i‖²; d = Σ (w*_i + λ/T) g_i / (1 + λ). λ = 0 is
MGDA, a large λ the mean gradient. w makes `steps` projected gradient steps with momentum and starts
where the last minibatch left it; its slope A (w + λ/T) is unbiased with A = J_a J_bᵀ between
independent halves of the minibatch.
Xiao, Ban, Ji, "Direction-oriented Multi-objective Learning: Simple and Provable Stochastic
Algorithms", NeurIPS 2023, arXiv 2305.18409. As in the authors' code A is divided by the square of
the gradients' mean length, and `weight_lr` 10 is for that.
Differences: the halves are independent, where that code's three buffers are one and the same; d is
of the two halves together, where the paper draws a third sample.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .arithmetic import positive, times
from .gramian import norms, or_nan, trusted
from .method import Count, Method, Number, Paper, Signals, State, Values, count, number
from .simplex import nearest_on_simplex


def init(losses: Tensor) -> State:
    """Equal weights."""
    return {"weights": torch.full_like(losses, 1 / losses.shape[-1])}


def step(signals: Signals, state: State, values: Values) -> tuple[Tensor, State]:
    """Weights (..., T), non-negative with sum 1."""
    assert signals.independent is not None
    products, finite = trusted(signals.independent)
    pull = number(values, "strength") / products.shape[-1]
    # lengths before their square: the products of tiny gradients would underflow
    size = positive(norms(products).mean(-1, keepdim=True)).unsqueeze(-1)
    moved = _descended(products / size / size, state["weights"], pull, values)
    answer = (moved + pull) / (1 + number(values, "strength"))
    return or_nan(finite, answer), {"weights": torch.where(finite, moved, state["weights"])}


def _descended(products: Tensor, weights: Tensor, pull: Tensor, values: Values) -> Tensor:
    """The weights (..., T) after projected gradient steps with momentum."""
    rate, momentum = number(values, "weight_lr"), number(values, "momentum")
    velocity = torch.zeros_like(weights)
    for _ in range(count(values, "steps")):
        velocity = momentum * velocity + times(products, weights + pull)
        weights = nearest_on_simplex(weights - rate * velocity)
    return weights


METHOD = Method(
    name="sdmgrad",
    summary="MGDA's direction, drawn towards the mean gradient, by unbiased steps",
    paper=Paper(
        authors="Xiao, Ban, Ji",
        year=2023,
        title="Direction-oriented Multi-objective Learning: Simple and Provable Stochastic "
        "Algorithms",
        venue="NeurIPS",
        arxiv="2305.18409",
    ),
    needs="gramian",
    step=step,
    init=init,
    hyper={
        "strength": Number(0.3, "the paper's λ: pull towards the mean gradient", low=0.0),
        "steps": Count(20, "steps of the weights a minibatch", low=1, high=1000),
        "weight_lr": Number(
            10.0, "learning rate of the weights; the authors' 10 overshoots, 1 converges", low=0.0
        ),
        "momentum": Number(0.5, "momentum of the weights", low=0.0, high=1.0),
    },
    independent=True,
    deviations="two independent halves of the minibatch, whose mean makes the update, in place of "
    "three samples",
)
