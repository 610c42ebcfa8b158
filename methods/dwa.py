"""Dynamic weight average (DWA): tasks whose loss falls slowly get more weight.

With the mean losses of the last two epochs, r_i = L̄_i(e−1) / L̄_i(e−2) and w = T · softmax(r / τ).
The weights are 1 in the first two epochs and always sum to T.
Liu, Johns, Davison, "End-to-End Multi-Task Learning with Attention", CVPR 2019, arXiv 1803.10704,
equation 7. No difference from the paper.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .arithmetic import positive
from .method import Method, Number, Paper, Signals, State, Values, number


def init(losses: Tensor) -> State:
    """No losses seen; `last` and `before` are the mean losses of the two finished epochs."""
    none = torch.zeros_like(losses[..., :1])
    zeros = torch.zeros_like(losses)
    return {
        "sum": zeros,
        "count": none,
        "last": zeros,
        "before": zeros,
        "epoch": none,
        "done": none,
    }


def step(signals: Signals, state: State, values: Values) -> tuple[Tensor, State]:
    """Weights (..., T), positive with sum T."""
    state = _turned(state, signals.epoch)
    ratio = state["last"] / positive(state["before"])
    share = torch.softmax(ratio / number(values, "temperature"), dim=-1)
    weights = torch.where(state["done"] >= 2, share * share.shape[-1], 1.0)
    seen = {"sum": state["sum"] + signals.losses, "count": state["count"] + 1}
    return weights, {**state, **seen}


def _turned(state: State, epoch: int) -> State:
    """The state with its running mean filed away, if an epoch has ended since the last step."""
    turned = (state["count"] > 0) & (state["epoch"] != epoch)
    return {
        "sum": torch.where(turned, 0.0, state["sum"]),
        "count": torch.where(turned, 0.0, state["count"]),
        "last": torch.where(turned, state["sum"] / positive(state["count"]), state["last"]),
        "before": torch.where(turned, state["last"], state["before"]),
        "epoch": torch.full_like(state["epoch"], epoch),
        "done": state["done"] + turned,
    }


METHOD = Method(
    name="dwa",
    summary="more weight for tasks whose loss fell little over the last two epochs",
    paper=Paper(
        authors="Liu, Johns, Davison",
        year=2019,
        title="End-to-End Multi-Task Learning with Attention",
        venue="CVPR",
        arxiv="1803.10704",
    ),
    needs="losses",
    step=step,
    init=init,
    hyper={"temperature": Number(2.0, "the paper's T: large values even the weights", low=1e-3)},
    heads="weighted",
)
