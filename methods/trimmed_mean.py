"""Trimmed mean: in every coordinate, the mean without the largest and the smallest gradients.

d_k is the mean of what remains of (g_1,k … g_T,k) without its `trim` largest and `trim` smallest
values. `trim` 0 is the mean; as many as possible makes it the median.
Yin, Chen, Kannan, Bartlett, "Byzantine-Robust Distributed Learning: Towards Optimal Statistical
Rates", ICML 2018, arXiv 1803.01498, Definition 2.
Differences: made for workers on one loss, here rows are tasks; a count in place of the share β, at
most so large that one gradient remains.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .gramian import or_nan
from .method import Method, Number, Paper, Signals, State, Values, number


def step(signals: Signals, state: State, values: Values) -> tuple[Tensor, State]:
    """The direction (..., P)."""
    assert signals.jacobian is not None
    jacobian = signals.jacobian
    tasks = jacobian.shape[-2]
    trim = number(values, "trim").clamp_max((tasks - 1) // 2)
    place = torch.arange(tasks, device=jacobian.device)
    remains = (place >= trim) & (place < tasks - trim)
    kept = torch.where(remains.unsqueeze(-1), jacobian.sort(-2).values, 0.0)
    # sorting would hide a diverged gradient among the trimmed ones
    finite = torch.isfinite(jacobian).all(-1).all(-1).unsqueeze(-1)
    return or_nan(finite, kept.sum(-2) / (tasks - 2 * trim)), state


METHOD = Method(
    name="trimmed_mean",
    summary="the mean without the largest and smallest values of every coordinate",
    paper=Paper(
        authors="Yin, Chen, Kannan, Bartlett",
        year=2018,
        title="Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates",
        venue="ICML",
        arxiv="1803.01498",
    ),
    needs="jacobian",
    step=step,
    answers="direction",
    hyper={
        "trim": Number(
            1, "how many of the largest, and of the smallest, are left out", low=0, whole=True
        )
    },
    deviations="tasks in place of workers; a count in place of the paper's share",
)
