"""GradVac, gradient vaccine: turns gradients towards the angle they usually have with each other.

ρ̂_ij is a running mean of the cosine between tasks i and j, 0 at first. For every i, v = g_i; for
the other j in random order: where cos(v, g_j) < ρ̂_ij, v gets so much of g_j that the cosine becomes
ρ̂_ij. d = Σ v_i. With ρ̂ = 0 it is PCGrad.
Wang, Tsvetkov, Firat, Cao, "Gradient Vaccine", ICLR 2021, arXiv 2010.05874, equations 3 and 4.
Differences: over all shared parameters together, where the paper has one ρ̂ a layer; |ρ̂| is kept
below 1 − 1e-6. The default of β is remembered, not checked against the paper.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .arithmetic import positive
from .gramian import norms
from .method import Method, Number, Paper, Signals, State, Values, number

LARGEST = 1 - 1e-6


def init(losses: Tensor) -> State:
    """Targets 0 for all pairs."""
    return {"target": torch.zeros_like(losses).unsqueeze(-1) * losses.unsqueeze(-2)}


def step(signals: Signals, state: State, values: Values) -> tuple[Tensor, State]:
    """Weights (..., T), each at least 1; then the targets follow the cosines just met."""
    assert signals.gramian is not None
    tasks = signals.gramian.shape[-1]
    orders = signals.noise.view(*signals.noise.shape[:-1], tasks, tasks).argsort(-1)
    coefficients, met = vaccinated(signals.gramian, orders, state["target"])
    beta = number(values, "beta").unsqueeze(-1)
    return coefficients.sum(-2), {"target": (1 - beta) * state["target"] + beta * met}


def noise(tasks: int) -> int:
    """One number for every pair, whose ranks give each task its own order."""
    return tasks * tasks


def vaccinated(gramian: Tensor, orders: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Coefficients (..., T, T) of the turned gradients, and the cosines met on the way.

    orders: (..., T, T) integers, row i the order in which task i meets the others; its own place is
    passed over. target: (..., T, T) cosines.
    """
    tasks = gramian.shape[-1]
    lengths = norms(gramian).unsqueeze(-2).expand_as(gramian)
    identity = torch.eye(tasks, dtype=gramian.dtype, device=gramian.device).expand_as(gramian)
    goal = target.clamp(-LARGEST, LARGEST)
    coefficients, products, met = identity, gramian, torch.zeros_like(gramian)
    for turn in range(tasks):
        other = orders[..., turn : turn + 1]
        length = lengths.gather(-1, other)
        own = (coefficients * products).sum(-1, keepdim=True).clamp_min(0).sqrt()
        cosine = products.gather(-1, other) / positive(own) / positive(length)
        cosine = cosine.clamp(-1, 1)
        wanted = goal.gather(-1, other)
        rise = _rise(cosine, wanted) * own / positive(length)
        open_to = identity.gather(-1, other) == 0
        added = torch.where(open_to & (cosine < wanted) & (length > 0), rise, 0.0)
        met = met.scatter(-1, other, torch.where(open_to, cosine, 0.0))
        coefficients = coefficients.scatter_add(-1, other, added)
        products = products + added * gramian.gather(-2, other.expand_as(gramian))
    return coefficients, met


def _rise(cosine: Tensor, wanted: Tensor) -> Tensor:
    """How much of ĝ_j turns a unit vector from one cosine with it to a larger one."""
    sine, sine_wanted = (1 - cosine * cosine).sqrt(), (1 - wanted * wanted).sqrt()
    return (wanted * sine - cosine * sine_wanted) / sine_wanted


METHOD = Method(
    name="gradvac",
    summary="turns gradients towards the angle they usually have with each other",
    paper=Paper(
        authors="Wang, Tsvetkov, Firat, Cao",
        year=2021,
        title="Gradient Vaccine: Investigating and Improving Multi-task Optimization "
        "in Massively Multilingual Models",
        venue="ICLR",
        arxiv="2010.05874",
    ),
    needs="gramian",
    step=step,
    init=init,
    noise=noise,
    hyper={"beta": Number(0.01, "share of the newest cosine in its running mean", 0.0, 1.0)},
    deviations="one target a pair of tasks over all shared parameters, where the paper has one "
    "a layer",
)
