"""MTAdam: an Adam a task on gradients of equal length, all divided by the largest second moment.

A running mean n_i of ‖g_i‖ brings every gradient to the main task's length: ĝ_i = r_i g_i n_m / n_i
with ranks r_i. From ĝ_i follow Adam's moments m_i and v_i, free of bias, and coordinate by
coordinate d = Σ_i m_i / (max_i √v_i + ε). It is the optimiser itself.
Malkiel, Wolf, "MTAdam: Automatic Balancing of Multiple Training Loss Terms", EMNLP 2021, arXiv
2006.14683, Algorithm 1.
Differences: gradients have equal length over all that the method is shown at once; the paper's way
is tensor by tensor (`granularity: tensor`). Ranks are `weights` divided by their mean. Where the
main task's running norm is 0, the largest one serves; a norm's mean starts at its first value
above 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .arithmetic import positive, power
from .method import (
    Method,
    Number,
    Paper,
    Signals,
    State,
    TaskWeights,
    Values,
    is_main,
    number,
    task_weights,
)

EPSILON = 1e-8


def init(jacobian: Tensor) -> State:
    """Moments 0; no norms yet."""
    zeros = torch.zeros_like(jacobian[..., 0], dtype=torch.float64)
    return {
        "norm": zeros,
        "mean": torch.zeros_like(jacobian),
        "square": torch.zeros_like(jacobian),
        "count": zeros[..., :1],
    }


def step(signals: Signals, state: State, values: Values) -> tuple[Tensor, State]:
    """The step (..., P), to be taken times the learning rate."""
    assert signals.jacobian is not None
    count = state["count"] + 1
    beta1, beta2 = number(values, "beta1"), number(values, "beta2")
    gradients, norm = _of_equal_length(signals.jacobian.double(), state["norm"], values)
    first, second = beta1.unsqueeze(-1), beta2.unsqueeze(-1)
    mean = first * state["mean"].double() + (1 - first) * gradients
    square = second * state["square"].double() + (1 - second) * gradients * gradients
    unbiased = mean.sum(-2) / (1 - power(beta1, count))
    largest = (square.amax(-2) / (1 - power(beta2, count))).sqrt()
    moments = {"mean": mean.to(state["mean"]), "square": square.to(state["square"])}
    return unbiased / (largest + EPSILON), {"norm": norm, "count": count, **moments}


def _of_equal_length(gradients: Tensor, past: Tensor, values: Values) -> tuple[Tensor, Tensor]:
    """The gradients ĝ (..., T, P) and the next running norms (..., T)."""
    lengths = gradients.square().sum(-1).sqrt()
    beta = number(values, "beta3")
    norm = torch.where(past == 0, lengths, beta * past + (1 - beta) * lengths)
    main = torch.where(is_main(values, norm), norm, 0.0).sum(-1, keepdim=True)
    goal = torch.where(main == 0, norm.amax(-1, keepdim=True), main)
    weights = task_weights(values, "weights")
    factor = goal * weights / weights.mean(-1, keepdim=True)
    # two factors: the quotient of two norms may leave the range of the gradients
    return gradients / positive(norm).unsqueeze(-1) * factor.unsqueeze(-1), norm


METHOD = Method(
    name="mtadam",
    summary="an Adam with moments of its own for every task, on gradients of equal length",
    paper=Paper(
        authors="Malkiel, Wolf",
        year=2021,
        title="MTAdam: Automatic Balancing of Multiple Training Loss Terms",
        venue="EMNLP",
        arxiv="2006.14683",
    ),
    needs="jacobian",
    step=step,
    answers="step",
    init=init,
    hyper={
        "weights": TaskWeights("the ranks: how long each task's gradient is made, in proportion"),
        "main": Number(0, "number of the task whose length all take, from 0", low=0, task=True),
        "beta1": Number(0.9, "share of the past in the first moments", 0.0, 0.999),
        "beta2": Number(0.999, "share of the past in the second moments", 0.0, 0.999999),
        "beta3": Number(0.9, "share of the past in the running norms", 0.0, 0.999),
    },
    deviations="balances all shared parameters together; with granularity: tensor it takes every "
    "tensor apart, as the paper does",
)
