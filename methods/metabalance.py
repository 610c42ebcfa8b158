"""MetaBalance: brings the auxiliary gradients' norms near the main gradient's.

m_i is a running mean of ‖g_i‖. The main gradient stays; an auxiliary one is multiplied by
r · m_main / m_i + 1 − r: fully matched for r = 1, untouched for r = 0. d is the sum.
He, Feng, Cheng, Ji, Guo, Caverlee, "MetaBalance: Improving Multi-Task Recommendations via Adapting
Gradient Magnitudes of Auxiliary Tasks", WWW 2022, arXiv 2203.06801, Algorithm 1.
Differences: over all shared parameters together, where the paper balances every tensor apart; norms
are matched upwards and downwards; a gradient whose running norm is 0 is left as it is.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .gramian import norms
from .method import Method, Number, Paper, Signals, State, Values, is_main, number


def init(losses: Tensor) -> State:
    """Running norms 0; their common bias drops out of the ratio."""
    return {"norm": torch.zeros_like(losses)}


def step(signals: Signals, state: State, values: Values) -> tuple[Tensor, State]:
    """Weights (..., T), positive: 1 for the main task."""
    assert signals.gramian is not None
    beta, relax = number(values, "beta"), number(values, "r")
    running = beta * state["norm"] + (1 - beta) * norms(signals.gramian)
    chosen = is_main(values, running)
    main = torch.where(chosen, running, 0.0).sum(-1, keepdim=True)
    ratio = torch.where(running == 0, 1.0, main / running)
    weights = torch.where(chosen, torch.ones_like(ratio), relax * ratio + 1 - relax)
    return weights, {"norm": running}


METHOD = Method(
    name="metabalance",
    summary="brings auxiliary gradients near the length of the main task's",
    paper=Paper(
        authors="He, Feng, Cheng, Ji, Guo, Caverlee",
        year=2022,
        title="MetaBalance: Improving Multi-Task Recommendations via Adapting Gradient Magnitudes "
        "of Auxiliary Tasks",
        venue="WWW",
        arxiv="2203.06801",
    ),
    needs="gramian",
    step=step,
    init=init,
    hyper={
        "main": Number(0, "number of the main task, counted from 0", low=0, task=True),
        "r": Number(0.7, "how far norms are matched: 0 not at all, 1 fully", 0.0, 1.0),
        "beta": Number(0.9, "share of the past in the running norms", 0.0, 0.999),
    },
    deviations="balances all shared parameters together, where the paper takes every tensor apart",
)
