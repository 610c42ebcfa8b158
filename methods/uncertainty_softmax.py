"""Soft optimal uncertainty weighting (UW-SO): a softmax over the inverse losses.

w = softmax((1 / L_i) / τ) with the losses' values held constant: the closed-form optimum of
uncertainty weighting, 1 / L_i, passed through a softmax that bounds it. Weights sum to 1.
Kirchdorfer, Elich, Kutsche, Stuckenschmidt, Schott, Köhler, "Analytical Uncertainty-Based Loss
Weighting in Multi-Task Learning", GCPR 2024, arXiv 2408.07985.
Losses must be positive; below 1e-8 a loss counts as 1e-8. τ has to be tuned.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .method import Method, Number, Paper, Signals, State, Values, number

SMALLEST_LOSS = 1e-8


def step(signals: Signals, state: State, values: Values) -> tuple[Tensor, State]:
    """Weights (..., T) in [0, 1] with sum 1."""
    inverse = 1 / signals.losses.clamp_min(SMALLEST_LOSS)
    return torch.softmax(inverse / number(values, "temperature"), dim=-1), state


METHOD = Method(
    name="uncertainty_softmax",
    summary="a tempered softmax over the inverse losses",
    paper=Paper(
        authors="Kirchdorfer, Elich, Kutsche, Stuckenschmidt, Schott, Köhler",
        year=2024,
        title="Analytical Uncertainty-Based Loss Weighting in Multi-Task Learning",
        venue="GCPR",
        arxiv="2408.07985",
    ),
    needs="losses",
    step=step,
    hyper={"temperature": Number(1.0, "the paper's T; large values even the weights", low=1e-3)},
    heads="weighted",
    deviations="losses below 1e-8 count as 1e-8",
)
