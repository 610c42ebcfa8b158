"""Gradient similarity: auxiliary tasks help the main task only where their gradients agree.

weighted    d = g_m + Σ_a max(0, cos(g_m, g_a)) g_a
unweighted  d = g_m + Σ_a [cos(g_m, g_a) >= 0] g_a
with m the main task. It promises convergence to a critical point of the main loss, not transfer.
Du, Czarnecki, Jayakumar, Farajtabar, Pascanu, Lakshminarayanan, "Adapting Auxiliary Losses Using
Gradient Similarity", 2018, arXiv 1812.02224, Algorithms 1 and 2. No difference from the paper.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .gramian import cosines
from .method import Choice, Method, Number, Paper, Signals, State, Values, choice, is_main


def step(signals: Signals, state: State, values: Values) -> tuple[Tensor, State]:
    """Weights (..., T) in [0, 1]: 1 for the main task."""
    assert signals.gramian is not None
    chosen = is_main(values, signals.gramian)
    # row of the main task: a sum over the one-hot rows, as an index would differ from run to run
    cosine = torch.where(chosen.unsqueeze(-1), cosines(signals.gramian), 0.0).sum(-2)
    if choice(values, "form") == "weighted":
        agreement = cosine.clamp_min(0)
    else:
        agreement = torch.where(cosine.isnan(), cosine, (cosine >= 0).to(cosine))
    return torch.where(chosen, torch.ones_like(agreement), agreement), state


METHOD = Method(
    name="grad_similarity",
    summary="auxiliary tasks count only where their gradients agree with the main task's",
    paper=Paper(
        authors="Du, Czarnecki, Jayakumar, Farajtabar, Pascanu, Lakshminarayanan",
        year=2018,
        title="Adapting Auxiliary Losses Using Gradient Similarity",
        venue="arXiv",
        arxiv="1812.02224",
    ),
    needs="gramian",
    step=step,
    hyper={
        "main": Number(0, "number of the main task, counted from 0", low=0, task=True),
        "form": Choice(("weighted", "unweighted"), "by the cosine, or all where it is positive"),
    },
)
