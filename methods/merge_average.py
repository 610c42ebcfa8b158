"""Averaging of networks: T fine-tuned copies of one network are replaced by their mean.

θ = θ_0 + (1/T) Σ τ_i with the task vectors τ_i = θ_i − θ_0: how far fine-tuning on task i alone
went from the common start.
Wortsman et al., "Model soups: averaging weights of multiple fine-tuned models improves accuracy
without increasing inference time", ICML 2022, arXiv 2203.05482; across tasks it is the baseline of
the merging literature.
Differences: the common start is trained here, on all tasks together, for a share of the budget;
each task's own parameters come from its own copy.
"""

from __future__ import annotations

from torch import Tensor

from .method import Count, Method, Paper, Signals, State, Values

PRETRAIN = Count(
    50, "per cent of the epochs in which the common start is trained on all tasks", 0, 90
)
"""Every merging method's first hyper-parameter."""


def step(signals: Signals, state: State, values: Values) -> tuple[Tensor, State]:
    """The merged task vector (..., P)."""
    assert signals.jacobian is not None
    return signals.jacobian.mean(-2), state


METHOD = Method(
    name="merge_average",
    summary="trains T copies, a task each, and averages them",
    paper=Paper(
        authors="Wortsman, Ilharco, Gadre, Roelofs, Gontijo-Lopes, Morcos, Namkoong, Farhadi, "
        "Carmon, Kornblith, Schmidt",
        year=2022,
        title="Model soups: averaging weights of multiple fine-tuned models improves accuracy "
        "without increasing inference time",
        venue="ICML",
        arxiv="2203.05482",
    ),
    needs="jacobian",
    step=step,
    answers="direction",
    scheme="merge",
    hyper={"pretrain_percent": PRETRAIN},
    deviations="the common start is trained here, on all tasks for half of the epochs by default; "
    "a run pays for T fine-tunings",
)
