"""Task sampling: every step trains one task, drawn with probability w_i.

d = g_k with k drawn from w, so that E[d] = Σ w_i g_i. Equal to linear scalarization for infinitely
small steps only: under SGD the noise differs, and Adam sees every task's gradient at full length.
Xin, Ghorbani, Gilmer, Garg, Firat, "Do Current Multi-Task Optimization Methods in Deep Learning
Even Help?", NeurIPS 2022, arXiv 2209.11379, whose translation models are scalarized in this way.
Difference: a whole minibatch goes to the drawn task; the paper draws a task for every example.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .arithmetic import running_sums
from .method import Method, Paper, Signals, State, TaskWeights, Values, task_weights


def step(signals: Signals, state: State, values: Values) -> tuple[Tensor, State]:
    """Weights (..., T): 1 for the drawn task, 0 for the others."""
    reached = running_sums(task_weights(values, "weights"))
    # divided by the sum itself, so that the last is exactly 1 and the noise always below it
    reached = reached / reached[..., -1:]
    drawn = (reached <= signals.noise).sum(-1, keepdim=True)
    tasks = torch.arange(reached.shape[-1], device=reached.device)
    return (tasks == drawn).to(signals.losses), state


def noise(tasks: int) -> int:
    """One uniform number, which draws the task."""
    return 1


METHOD = Method(
    name="sampling",
    summary="trains one task a step, drawn with fixed probabilities",
    paper=Paper(
        authors="Xin, Ghorbani, Gilmer, Garg, Firat",
        year=2022,
        title="Do Current Multi-Task Optimization Methods in Deep Learning Even Help?",
        venue="NeurIPS",
        arxiv="2209.11379",
    ),
    needs="losses",
    step=step,
    noise=noise,
    hyper={"weights": TaskWeights("a task's probability is its weight's share of their sum")},
    heads="weighted",
    deviations="a whole minibatch goes to one task; the paper draws a task for every example",
)
