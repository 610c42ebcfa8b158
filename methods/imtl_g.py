"""IMTL-G, impartial learning by gradients: equal progress along every task's unit gradient.

w with Σ w_i = 1 and d·ĝ_i the same for all i, d = Σ w_i g_i: w_i ∝ (C⁻¹𝟙)_i / ‖g_i‖ with C the
cosines between the gradients. For two tasks d bisects their angle. Its direction is blind to the
scale of the losses.
Liu, Li, Kuang, Xue, Chen, Yang, Liao, Zhang, "Towards Impartial Multi-task Learning", ICLR 2021.
As in the paper weights may be negative, and from three tasks on the equal progress can be a loss
for all. Differences: a pseudo-inverse where the gradients are dependent; a task with a zero
gradient gets no weight; the paper pairs this with IMTL-L, which stands apart here.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .arithmetic import SINGULAR, positive, pseudo_solve
from .gramian import cosines, norms, or_nan, trusted
from .method import Method, Paper, Signals, State, Values


def step(signals: Signals, state: State, values: Values) -> tuple[Tensor, State]:
    """Weights (..., T) with sum 1, of either sign; all 0 where no direction is impartial."""
    assert signals.gramian is not None
    clean, finite = trusted(signals.gramian)
    lengths = norms(clean)
    if clean.shape[-1] == 2:
        spread = _between_two(clean, lengths)
    else:
        spread = pseudo_solve(cosines(clean, lengths), torch.ones_like(lengths))
    weights = spread / positive(lengths)
    return or_nan(finite, weights / positive(weights.sum(-1, keepdim=True))), state


def _between_two(gramian: Tensor, lengths: Tensor) -> Tensor:
    """A multiple of C⁻¹𝟙 for two tasks: both the same; 0 for opposite and for zero gradients."""
    product = lengths.prod(-1, keepdim=True)
    possible = (1 - SINGULAR) * product >= -gramian[..., :1, 1]
    return possible * lengths.sign()


METHOD = Method(
    name="imtl_g",
    summary="equal progress along every task's unit gradient",
    paper=Paper(
        authors="Liu, Li, Kuang, Xue, Chen, Yang, Liao, Zhang",
        year=2021,
        title="Towards Impartial Multi-task Learning",
        venue="ICLR",
    ),
    needs="gramian",
    step=step,
    deviations="without IMTL-L; a pseudo-inverse for dependent gradients",
)
