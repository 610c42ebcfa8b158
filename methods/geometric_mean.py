"""Geometric mean of the losses (GLS): minimise (Π L_i)^(1/T).

Weights are GM / (T L_i): the direction of Σ log L_i, with a length that shrinks with the losses.
Chennupati, Sistu, Yogamani, Rawashdeh, "MultiNet++: Multi-Stream Feature Aggregation and Geometric
Loss Strategy for Multi-Task Learning", CVPR Workshops 2019, arXiv 1904.08492.
Losses must be positive; below 1e-8 a loss counts as 1e-8.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .method import Method, Paper, Signals, State, Values

SMALLEST_LOSS = 1e-8


def step(signals: Signals, state: State, values: Values) -> tuple[Tensor, State]:
    """Weights (..., T), positive: the geometric mean's derivatives in the losses."""
    logarithms = torch.log(signals.losses.clamp_min(SMALLEST_LOSS))
    mean = logarithms.mean(-1, keepdim=True)
    return torch.exp(mean - logarithms) / logarithms.shape[-1], state


METHOD = Method(
    name="geometric_mean",
    summary="minimises the geometric mean of the losses",
    paper=Paper(
        authors="Chennupati, Sistu, Yogamani, Rawashdeh",
        year=2019,
        title="MultiNet++: Multi-Stream Feature Aggregation and Geometric Loss Strategy "
        "for Multi-Task Learning",
        venue="CVPR Workshops",
        arxiv="1904.08492",
    ),
    needs="losses",
    step=step,
    heads="weighted",
    deviations="losses below 1e-8 count as 1e-8",
)
