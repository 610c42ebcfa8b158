"""EMTL, equitable multi-task learning: evens out relative contributions; a reconstruction.

c_i = L_i / ‖g_i‖ is a task's relative contribution, its norm held constant. Minimised is
deviation     mean(c) + λ std(c)    weights [1 + λ (c_i − c̄) / std]_+ / (T ‖g_i‖)
variance      mean(c) + λ Var(c)    weights [1 + 2λ (c_i − c̄)]_+ / (T ‖g_i‖)
unnormalized  Σ L_i + λ Var(c)      weights [1 + (2λ/T) (c_i − c̄) / ‖g_i‖]_+
Yuan and Zhang, "Equitable Multi-task Learning", 2023, arXiv 2306.09373.
Reconstruction: the abstract names the relative contribution and a variance regularisation of it;
the update itself could not be obtained. The first two forms are blind to the losses' scales.
"""

from __future__ import annotations

from torch import Tensor

from .arithmetic import positive
from .gramian import norms
from .method import Choice, Method, Number, Paper, Signals, State, Values, choice, number

SMALLEST_DEVIATION = 1e-8


def step(signals: Signals, state: State, values: Values) -> tuple[Tensor, State]:
    """Weights (..., T), non-negative."""
    assert signals.gramian is not None
    lengths = positive(norms(signals.gramian))
    contribution = signals.losses / lengths
    above = contribution - contribution.mean(-1, keepdim=True)
    strength, tasks = number(values, "strength"), lengths.shape[-1]
    form = choice(values, "form")
    if form == "unnormalized":
        return (1 + 2 * strength / tasks * above / lengths).clamp_min(0), state
    if form == "variance":
        return (1 + 2 * strength * above).clamp_min(0) / (tasks * lengths), state
    deviation = (above * above).mean(-1, keepdim=True).sqrt() + SMALLEST_DEVIATION
    return (1 + strength * above / deviation).clamp_min(0) / (tasks * lengths), state


METHOD = Method(
    name="emtl",
    summary="evens out the tasks' ratios of loss to gradient norm (reconstruction)",
    paper=Paper(
        authors="Yuan, Zhang",
        year=2023,
        title="Equitable Multi-task Learning",
        venue="arXiv",
        arxiv="2306.09373",
    ),
    needs="gramian",
    step=step,
    hyper={
        "strength": Number(0.1, "the regularization's λ", low=0.0),
        "form": Choice(
            ("deviation", "variance", "unnormalized"), "which spread of c is regularized"
        ),
    },
    deviations="reconstruction: the paper's update could not be obtained",
)
