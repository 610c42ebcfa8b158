"""ConFIG: a direction at the same angle to every task's gradient.

u = Ĵ⁺𝟙 / ‖Ĵ⁺𝟙‖ with Ĵ the gradients at unit length: equal cosines with all of them. Its length is
what the gradients have along it: d = (Σ g_i·u) u.
Liu, Chu, Thuerey, "ConFIG: Towards Conflict-free Training of Physics Informed Neural Networks",
ICLR 2025, arXiv 2408.11104, algorithm without momentum.
Differences: none where the gradients are independent. Where the pseudo-inverse finds no direction
(opposite gradients), d = 0; a task with a zero gradient is left out.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .arithmetic import dot, positive, pseudo_solve, times
from .gramian import cosines, norms, or_nan, trusted
from .method import Method, Paper, Signals, State, Values


def step(signals: Signals, state: State, values: Values) -> tuple[Tensor, State]:
    """Weights (..., T), of either sign."""
    assert signals.gramian is not None
    clean, finite = trusted(signals.gramian)
    lengths = norms(clean)
    cosine = cosines(clean, lengths)
    spread = pseudo_solve(cosine, torch.ones_like(lengths))
    along = times(cosine, spread)
    length = dot(lengths, along) / positive(dot(spread, along).clamp_min(0))
    return or_nan(finite, spread * length / positive(lengths)), state


METHOD = Method(
    name="config",
    summary="a direction at the same angle to every gradient",
    paper=Paper(
        authors="Liu, Chu, Thuerey",
        year=2025,
        title="ConFIG: Towards Conflict-free Training of Physics Informed Neural Networks",
        venue="ICLR",
        arxiv="2408.11104",
    ),
    needs="gramian",
    step=step,
    deviations="the version without momentum; a task with a zero gradient is left out",
)
