"""Random loss weighting (RLW): new random weights at every step.

w = softmax(u) with u ~ N(0, I), or w ~ Dirichlet(1, …, 1); d = Σ w_i g_i. The weights sum to 1 and
average to 1/T, so it equals equal weights in expectation: the control for every adaptive method.
Lin, Ye, Zhang, Tsang, "Reasonable Effectiveness of Random Weighting", TMLR 2022, arXiv 2111.10603.
No difference from the paper; some implementations scale the weights to sum to T.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .method import Choice, Method, Paper, Signals, State, Values, choice

SMALLEST = torch.finfo(torch.float64).tiny
"""A uniform number may be 0, where both inverse distribution functions are infinite."""


def step(signals: Signals, state: State, values: Values) -> tuple[Tensor, State]:
    """Weights (..., T) in [0, 1] that sum to 1, drawn from the step's noise alone."""
    uniform = signals.noise.clamp_min(SMALLEST)
    if choice(values, "distribution") == "normal":
        return torch.softmax(torch.special.ndtri(uniform), dim=-1), state
    # independent exponentials divided by their sum are uniform on the simplex
    exponential = -torch.log(uniform)
    return exponential / exponential.sum(-1, keepdim=True), state


def noise(tasks: int) -> int:
    """One uniform number a task."""
    return tasks


METHOD = Method(
    name="random",
    summary="new random weights at every step; the control for adaptive methods",
    paper=Paper(
        authors="Lin, Ye, Zhang, Tsang",
        year=2022,
        title="Reasonable Effectiveness of Random Weighting: A Litmus Test for Multi-Task Learning",
        venue="TMLR",
        arxiv="2111.10603",
    ),
    needs="losses",
    step=step,
    noise=noise,
    hyper={
        "distribution": Choice(
            ("normal", "dirichlet"),
            "softmax of independent normals, or uniform on the simplex",
        )
    },
    heads="weighted",
)
