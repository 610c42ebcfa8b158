"""Pareto manifold learning (PaMaL): T networks whose mixtures are, together, a whole front.

A mixture is θ(α) = Σ_k α_k θ_k with α on the simplex. Each step draws W mixtures, α from a
symmetric Dirichlet distribution, and descends in all members along their mean Σ_i α_i L_i(θ(α)).
Where a larger α_i came with a larger loss i, λ · log mean exp(max(0, rise)) is added, over
neighbours in the order of α_i.
Dimitriadis, Frossard, Fleuret, "Pareto Manifold Learning: Tackling multiple tasks via ensembles of
single-task models", ICML 2023, arXiv 2210.09759.
Differences: all members start alike; the concentration of the distribution is whole, 1 to 8;
running statistics of normalisation layers are common to the front; without gradient balancing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .method import Count, Method, Number, Paper, Signals, State, Values, count

CONCENTRATIONS = 8


def step(signals: Signals, state: State, values: Values) -> tuple[Tensor, State]:
    """A mixture (..., T): non-negative, sum 1."""
    tasks = signals.losses.shape[-1]
    drawn = signals.noise.reshape(*signals.noise.shape[:-1], tasks, CONCENTRATIONS)
    # a sum of p exponential numbers has the gamma distribution that a Dirichlet one is made of
    shares = -torch.log1p(-drawn[..., : count(values, "p")]).sum(-1)
    smallest = torch.finfo(shares.dtype).tiny
    shares = shares.clamp_min(smallest)
    return shares / shares.sum(-1, keepdim=True), state


def noise(tasks: int) -> int:
    """Enough exponential numbers for the largest concentration."""
    return CONCENTRATIONS * tasks


METHOD = Method(
    name="pareto_manifold",
    summary="trains T networks at once whose mixtures form the front",
    paper=Paper(
        authors="Dimitriadis, Frossard, Fleuret",
        year=2023,
        title="Pareto Manifold Learning: Tackling multiple tasks via ensembles of "
        "single-task models",
        venue="ICML",
        arxiv="2210.09759",
    ),
    needs="losses",
    step=step,
    noise=noise,
    scheme="manifold",
    hyper={
        "windows": Count(4, "mixtures drawn a step; each costs a backward pass", 1, 64),
        "p": Count(1, "concentration of the mixtures; 1 is uniform", 1, CONCENTRATIONS),
        "penalty": Number(0.0, "weight of the loss for fronts out of order; the paper's λ", 0.0),
        "points": Count(11, "mixtures of the front that are measured, at most", 2, 1000),
    },
    heads="weighted",
    deviations="all members start alike; running statistics are common to the front; without the "
    "variants that balance gradients",
)
