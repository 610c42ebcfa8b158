"""Krum: follow the gradients that have the nearest neighbours.

The score of task i is the sum of squared distances ‖g_i − g_j‖² to its T − f − 2 nearest others;
d is the mean of the m gradients with the smallest scores. f outliers cannot draw it away.
Blanchard, El Mhamdi, Guerraoui, Stainer, "Machine Learning with Adversaries: Byzantine Tolerant
Gradient Descent", NeurIPS 2017, arXiv 1703.02757; m > 1 is their Multi-Krum.
Differences: made for workers on one loss, here rows are tasks; at least one neighbour counts and at
most T gradients are taken, where the paper asks for T > 2f + 2; equal scores share their places.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .gramian import or_nan, trusted
from .method import Method, Number, Paper, Signals, State, Values, number

ROUNDING = 1e-12
"""Share of the summed squared norms that rounding may leave in a sum of squared distances."""


def step(signals: Signals, state: State, values: Values) -> tuple[Tensor, State]:
    """Weights (..., T) from 0 to 1/m, with sum 1."""
    assert signals.gramian is not None
    clean, finite = trusted(signals.gramian)
    neighbours = clean.shape[-1] - number(values, "byzantine") - 2
    score, error = _scores(clean, neighbours.clamp_min(1))
    selected = number(values, "selected").clamp_max(clean.shape[-1])
    return or_nan(finite, _smallest(score, error, selected) / selected), state


def _scores(gramian: Tensor, neighbours: Tensor) -> tuple[Tensor, Tensor]:
    """Sums (..., T) of squared distances to the nearest others, and their rounding errors."""
    squares = gramian.diagonal(dim1=-2, dim2=-1)
    sizes = squares.unsqueeze(-1) + squares.unsqueeze(-2)
    distances = (sizes - gramian - gramian.mT).clamp_min(0)
    # every task is its own nearest neighbour, at distance exactly 0
    itself = torch.eye(gramian.shape[-1], dtype=torch.bool, device=gramian.device)
    near, order = torch.where(itself, 0.0, distances).sort(-1)
    place = torch.arange(gramian.shape[-1], device=gramian.device)
    counted = place <= neighbours.unsqueeze(-1)
    error = torch.where(counted, sizes.gather(-1, order), 0.0).sum(-1)
    return torch.where(counted, near, 0.0).sum(-1), ROUNDING * error


def _smallest(score: Tensor, error: Tensor, places: Tensor) -> Tensor:
    """1 for every task whose score has a place, 0 without; equal to the last place share the rest.

    places: (..., 1), from 1 to T.
    """
    # gather does not spread one number over a batch, as comparisons do
    place = (places.long() - 1).expand_as(score[..., :1])
    last = score.sort(-1).values.gather(-1, place)
    equal = (score - last).abs() <= error
    inside = (score < last) & ~equal
    left = places - inside.sum(-1, keepdim=True)
    return inside + equal * left / equal.sum(-1, keepdim=True)


METHOD = Method(
    name="krum",
    summary="the mean of the gradients with the nearest neighbours",
    paper=Paper(
        authors="Blanchard, El Mhamdi, Guerraoui, Stainer",
        year=2017,
        title="Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent",
        venue="NeurIPS",
        arxiv="1703.02757",
    ),
    needs="gramian",
    step=step,
    hyper={
        "byzantine": Number(1, "how many outliers are expected; the paper's f", low=0, whole=True),
        "selected": Number(1, "how many gradients are averaged; the paper's m", low=1, whole=True),
    },
    deviations="tasks in place of workers; at least one neighbour counts; equal scores share their "
    "places",
)
