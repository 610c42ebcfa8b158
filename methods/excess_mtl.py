"""ExcessMTL: weights grow with how far a task still is from its own optimum, not with its loss.

The excess risk of task i is about g_iᵀ H_i⁻¹ g_i, with H_i = diag(Σ g_i²)^(1/2) over all steps so
far, coordinate by coordinate, in the Hessian's place. Relative to its first value it is e_i, and
weights follow it, w_i ← w_i · exp(η e_i) / Σ_j w_j · exp(η e_j): noise in the labels, which no
training removes, raises a loss but not its excess.
He, Zhou, Zhang, Li, Zhao, "Robust Multi-Task Learning with Excess Risks", ICML 2024, arXiv
2402.02009. As in the authors' code 1e-7 is added under the root, the first step's excess is the
scale unless `warmup` asks for whole epochs, and weights sum to T.
Differences: a task whose gradient is 0 gets its scale from its first other step.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .arithmetic import positive
from .method import Method, Number, Paper, Signals, State, Values, number

SMALLEST_SQUARE = 1e-7


def init(jacobian: Tensor) -> State:
    """Equal weights; no gradients seen."""
    zeros = torch.zeros_like(jacobian[..., 0], dtype=torch.float64)
    return {
        "size": torch.zeros_like(jacobian),
        "logits": zeros,
        "first": zeros,
        "count": zeros,
    }


def step(signals: Signals, state: State, values: Values) -> tuple[Tensor, State]:
    """Weights (..., T), positive with sum T."""
    assert signals.jacobian is not None
    excess, size = _excess(signals.jacobian, state["size"])
    waits = signals.epoch < number(values, "warmup")
    collects = (waits | (state["first"] == 0)) & (excess != 0)
    first = torch.where(collects, state["first"] + excess, state["first"])
    count = torch.where(collects, state["count"] + 1, state["count"])
    scale = first / positive(count)
    # in the first step all ratios are 1 and the weights stay equal
    logits = state["logits"] + number(values, "weight_lr") * excess / positive(scale)
    logits = torch.where(waits & torch.isfinite(excess), state["logits"], logits)
    logits = logits - logits.amax(-1, keepdim=True)
    weights = torch.softmax(logits, dim=-1) * logits.shape[-1]
    return weights, {"size": size, "logits": logits, "first": first, "count": count}


def _excess(jacobian: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    """Each task's excess (..., T) float64, and the root of its summed squares (..., T, P).

    The root is kept in place of the sum, as squares leave the range of single precision.
    """
    squares = jacobian.double().square()
    total = size.double().square() + squares
    return (squares / (total + SMALLEST_SQUARE).sqrt()).sum(-1), total.sqrt().to(size)


METHOD = Method(
    name="excess_mtl",
    summary="weights grow with a task's estimated distance from its own optimum",
    paper=Paper(
        authors="He, Zhou, Zhang, Li, Zhao",
        year=2024,
        title="Robust Multi-Task Learning with Excess Risks",
        venue="ICML",
        arxiv="2402.02009",
    ),
    needs="jacobian",
    step=step,
    init=init,
    hyper={
        "weight_lr": Number(1.0, "step size η of the weights", low=0.0),
        "warmup": Number(0, "epochs with equal weights whose mean excess is the scale", low=0.0),
    },
    deviations="weights sum to T and the first step's excess is the scale, as in the authors' code",
)
