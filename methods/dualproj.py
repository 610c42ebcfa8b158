"""DualProj: the mean gradient, projected to where it conflicts with no task.

w = argmin over v >= 1/T of vᵀGv; d = Jᵀw is nearest to the mean gradient among all g_i·d >= 0.
It is GEM's projection for continual learning, with tasks in the place of memories.
Lopez-Paz and Ranzato, "Gradient Episodic Memory for Continual Learning", NeurIPS 2017, arXiv
1706.08840, equation 11. Difference: the tasks' mean is projected instead of the newest task.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .gramian import or_nan, trusted
from .method import Method, Paper, Signals, State, Values
from .quadratic import shortest_above
from .unsolved import count_from_zero, counted


def step(signals: Signals, state: State, values: Values) -> tuple[Tensor, State]:
    """Weights (..., T), each at least 1/T."""
    assert signals.gramian is not None
    clean, finite = trusted(signals.gramian)
    mean = torch.full_like(signals.losses, 1 / clean.shape[-1])
    projected, solved = shortest_above(clean, mean.unsqueeze(-2))
    return or_nan(finite, projected.squeeze(-2)), counted(state, solved.squeeze(-2) | ~finite)


METHOD = Method(
    name="dualproj",
    summary="the mean gradient projected to where it conflicts with no task",
    paper=Paper(
        authors="Lopez-Paz, Ranzato",
        year=2017,
        title="Gradient Episodic Memory for Continual Learning",
        venue="NeurIPS",
        arxiv="1706.08840",
    ),
    needs="gramian",
    step=step,
    init=count_from_zero,
    deviations="projects the mean of all tasks, where the paper projects the newest task",
)
