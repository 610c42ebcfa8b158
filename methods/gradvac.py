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
from .pcgrad import meetings, noise

LARGEST = 1 - 1e-6


def init(losses: Tensor) -> State:
    """Targets 0 for all pairs."""
    return {"target": torch.zeros_like(losses).unsqueeze(-1) * losses.unsqueeze(-2)}


def step(signals: Signals, state: State, values: Values) -> tuple[Tensor, State]:
    """Weights (..., T), each at least 1; then the targets follow the cosines just met."""
    assert signals.gramian is not None
    tasks = signals.gramian.shape[-1]
    if tasks == 2:
        weights, met = _between_two(signals.gramian, state["target"])
    else:
        orders = meetings(signals.noise, tasks)
        coefficients, met = vaccinated(signals.gramian, orders, state["target"])
        weights = coefficients.sum(-2)
    beta = number(values, "beta").unsqueeze(-1)
    return weights, {"target": torch.lerp(state["target"], met, beta)}


def vaccinated(gramian: Tensor, orders: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Coefficients (..., T, T) of the turned gradients, and the cosines met on the way.

    orders: (..., T, K) integers, row i the order in which task i meets the others; its own place is
    passed over. target: (..., T, T) cosines.
    """
    lengths = norms(gramian).unsqueeze(-2).expand_as(gramian).gather(-1, orders)
    identity = torch.eye(gramian.shape[-1], dtype=gramian.dtype, device=gramian.device)
    own_place = identity.expand_as(gramian).gather(-1, orders)
    goal = target.clamp(-LARGEST, LARGEST).gather(-1, orders)
    # neither a task itself nor a zero gradient is given more of
    closed = (own_place == 1) | (lengths == 0)
    inverse = torch.where(closed, 0.0, 1 / lengths)
    cotangents = torch.where(closed, -torch.inf, goal / (1 - goal * goal).sqrt())
    products, length, given, met = gramian, norms(gramian).unsqueeze(-1), [], []
    for turn in range(orders.shape[-1]):
        other = orders[..., turn : turn + 1]
        place = slice(turn, turn + 1)
        product = products.gather(-1, other)
        cosine = (product / positive(length) * inverse[..., place]).clamp(-1, 1)
        sine = (1 - cosine * cosine).sqrt()
        rise = (cotangents[..., place] * sine - cosine).clamp_min(0)
        added = rise * length * inverse[..., place]
        # ‖v + a g‖² = ‖v‖² + 2 a v·g + a² ‖g‖², whose last two terms are in units of ‖v‖²
        growth = rise * (2 * cosine + rise)
        length = length * (1 + growth).clamp_min(0).sqrt()
        products = torch.addcmul(products, added, gramian.gather(-2, other.expand_as(gramian)))
        given.append(added)
        met.append(cosine)
    # every other is met once, so nothing is scattered twice to a place
    empty = torch.zeros_like(gramian)
    coefficients = identity + empty.scatter(-1, orders, torch.cat(given, -1))
    return coefficients, empty.scatter(-1, orders, torch.cat(met, -1))


def _between_two(gramian: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (..., 2) for two tasks, each of which meets the other only, and the cosines met."""
    lengths = norms(gramian)
    # a zero gradient has cosine 0 with the other, and neither gives nor gets
    inverse = lengths.reciprocal().masked_fill(lengths.logical_not(), 0.0)
    cosine = gramian[..., :1, 1] * inverse[..., :1] * inverse[..., 1:]
    # row i of the targets is what task i wants; the weights are of what it is given
    goal = target.flip(-2).diagonal(dim1=-2, dim2=-1).clamp(-LARGEST, LARGEST)
    sines = (1 - cosine * cosine).clamp_min(0) / (1 - goal * goal)
    rise = (goal * sines.sqrt() - cosine).clamp_min(0)
    weights = 1 + rise * lengths.flip(-1) * inverse
    away = 1 - torch.eye(2, dtype=gramian.dtype, device=gramian.device)
    return weights, cosine.unsqueeze(-1) * away


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
