"""IMTL: IMTL-G on the gradients of losses that IMTL-L scales.

With scales e^{s_i} trained as in IMTL-L and Σ w_i = 1, d = Σ w_i e^{s_i} g_i makes equal progress
along every unit gradient. The scales leave d's direction as IMTL-G's and change its length.
Liu, Li, Kuang, Xue, Chen, Yang, Liao, Zhang, "Towards Impartial Multi-task Learning", ICLR 2021.
Differences: heads are updated by their own gradient with weight 1, where the paper gives them the
scaled loss's; those of `imtl_g` and `imtl_l` hold too.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from . import imtl_g, imtl_l
from .method import Method, Number, Paper, Signals, State, Values


def step(signals: Signals, state: State, values: Values) -> tuple[Tensor, State]:
    """Weights (..., T), of either sign: IMTL-G's times the present scales."""
    assert signals.gramian is not None
    scales, state = imtl_l.step(signals, state, values)
    scaled = signals.gramian * scales.unsqueeze(-1) * scales.unsqueeze(-2)
    impartial, _ = imtl_g.step(replace(signals, gramian=scaled), {}, {})
    return impartial * scales, state


METHOD = Method(
    name="imtl",
    summary="equal progress along every task's unit gradient, of losses scaled to 1",
    paper=Paper(
        authors="Liu, Li, Kuang, Xue, Chen, Yang, Liao, Zhang",
        year=2021,
        title="Towards Impartial Multi-task Learning",
        venue="ICLR",
    ),
    needs="gramian",
    step=step,
    init=imtl_l.init,
    hyper={"weight_lr": Number(0.025, "learning rate of the log scales", low=0.0)},
    deviations="heads get their own gradient, not the scaled loss's; the scales have their own "
    "Adam and stay between e^-10 and e^10; a pseudo-inverse for dependent gradients",
)
