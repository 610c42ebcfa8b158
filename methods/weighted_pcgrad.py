"""Weighted PCGrad: priorities decide which of two conflicting gradients yields; a reconstruction.

PCGrad, but of every pair (i, j) only one is projected off the other: i with probability
p_j / (p_i + p_j) for priorities p. Pairs come in random order; d = Σ v_i.
Bohn, Freeman, Tercan, Meisen, "Task Weighting through Gradient Projection for Multitask Learning",
2024, arXiv 2409.01793.
Reconstruction from the abstract, which says that a distribution over the tasks replaces PCGrad's
random choice; the sampling rule itself could not be checked against the paper.
"""

from __future__ import annotations

from torch import Tensor

from .arithmetic import positive
from .method import Method, Paper, Signals, State, TaskWeights, Values, task_weights
from .pcgrad import surgery


def step(signals: Signals, state: State, values: Values) -> tuple[Tensor, State]:
    """Weights (..., T), each at least 1."""
    assert signals.gramian is not None
    tasks = signals.gramian.shape[-1]
    uniform = signals.noise.view(*signals.noise.shape[:-1], tasks, tasks)
    # above the diagonal: when a pair meets; below: which of the two yields
    upper, lower = uniform.triu(1), uniform.tril(-1)
    orders = (upper + upper.mT).argsort(-1)
    priority = task_weights(values, "weights")
    mine, others = priority.unsqueeze(-1), priority.unsqueeze(-2)
    first_yields = lower.mT < others / positive(mine + others)
    second_yields = ~first_yields.mT
    yields = first_yields.triu(1) | second_yields.tril(-1)
    return surgery(signals.gramian, orders, yields).sum(-2), state


def noise(tasks: int) -> int:
    """Two numbers for every pair: when it meets, and which of the two yields."""
    return tasks * tasks


METHOD = Method(
    name="weighted_pcgrad",
    summary="PCGrad where priorities decide which of two gradients yields (reconstruction)",
    paper=Paper(
        authors="Bohn, Freeman, Tercan, Meisen",
        year=2024,
        title="Task Weighting through Gradient Projection for Multitask Learning",
        venue="arXiv",
        arxiv="2409.01793",
    ),
    needs="gramian",
    step=step,
    noise=noise,
    hyper={"weights": TaskWeights("one priority a task; a larger one yields less often")},
    deviations="reconstruction: the rule that draws the yielding task could not be checked "
    "against the paper",
)
