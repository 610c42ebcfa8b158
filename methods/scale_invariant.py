"""Scale-invariant scalarization (SI): minimise the sum of the logarithms of the losses.

min over θ of Σ log L_i; weights 1 / L_i. Multiplying a loss by a constant changes no gradient.
Uncertainty weighting comes to rest in the same direction.
Used as a baseline by Navon et al., "Multi-Task Learning as a Bargaining Game", ICML 2022, arXiv
2202.01017. Losses must be positive; below 1e-8 a loss counts as 1e-8.
"""

from __future__ import annotations

from torch import Tensor

from .method import Method, Paper, Signals, State, Values

SMALLEST_LOSS = 1e-8


def step(signals: Signals, state: State, values: Values) -> tuple[Tensor, State]:
    """Weights (..., T) = 1 / L_i, at most 1e8."""
    return 1 / signals.losses.clamp_min(SMALLEST_LOSS), state


METHOD = Method(
    name="scale_invariant",
    summary="minimises the sum of log losses; blind to the losses' scales",
    paper=Paper(
        authors="Navon, Shamsian, Achituve, Maron, Kawaguchi, Chechik, Fetaya",
        year=2022,
        title="Multi-Task Learning as a Bargaining Game (its SI baseline)",
        venue="ICML",
        arxiv="2202.01017",
    ),
    needs="losses",
    step=step,
    heads="weighted",
    deviations="losses below 1e-8 count as 1e-8",
)
