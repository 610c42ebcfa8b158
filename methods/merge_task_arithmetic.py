"""Task arithmetic: the sum of T task vectors, scaled, is added to the network they started from.

θ = θ_0 + λ Σ τ_i with τ_i = θ_i − θ_0.
Ilharco, Ribeiro, Wortsman, Gururangan, Schmidt, Hajishirzi, Farhadi, "Editing Models with Task
Arithmetic", ICLR 2023, arXiv 2212.04089, section 4. λ = 1/T is averaging.
Differences: the common start is trained here, on all tasks together, for a share of the budget;
each task's own parameters come from its own copy.
"""

from __future__ import annotations

from torch import Tensor

from .merge_average import PRETRAIN
from .method import Method, Number, Paper, Signals, State, Values, number


def step(signals: Signals, state: State, values: Values) -> tuple[Tensor, State]:
    """The merged task vector (..., P)."""
    assert signals.jacobian is not None
    scale = number(values, "scale").to(signals.jacobian.dtype)
    return scale * signals.jacobian.sum(-2), state


METHOD = Method(
    name="merge_task_arithmetic",
    summary="trains T copies, a task each, and adds what they learned, scaled",
    paper=Paper(
        authors="Ilharco, Ribeiro, Wortsman, Gururangan, Schmidt, Hajishirzi, Farhadi",
        year=2023,
        title="Editing Models with Task Arithmetic",
        venue="ICLR",
        arxiv="2212.04089",
    ),
    needs="jacobian",
    step=step,
    answers="direction",
    scheme="merge",
    hyper={
        "pretrain_percent": PRETRAIN,
        "scale": Number(0.3, "factor on the sum of the task vectors; the paper's λ", low=0.0),
    },
    deviations="the common start is trained here, on all tasks for half of the epochs by default; "
    "a run pays for T fine-tunings",
)
