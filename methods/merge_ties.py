"""TIES merging: small changes are trimmed, signs are elected, and only those that agree are merged.

Of each task vector τ_i = θ_i − θ_0 the largest entries are kept; per coordinate the sign of their
sum is elected; the merged vector is the mean of the kept entries with that sign, and
θ = θ_0 + λ · merged.
Yadav, Tam, Choshen, Raffel, Bansal, "TIES-Merging: Resolving Interference When Merging Models",
NeurIPS 2023, arXiv 2306.01708, Algorithm 1.
Differences: the common start is trained here, on all tasks together, for a share of the budget;
each task's own parameters come from its own copy; a coordinate whose kept entries cancel exactly
stays where it was.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .arithmetic import positive
from .merge_average import PRETRAIN
from .method import Method, Number, Paper, Signals, State, Values, number


def step(signals: Signals, state: State, values: Values) -> tuple[Tensor, State]:
    """The merged task vector (..., P)."""
    assert signals.jacobian is not None
    vectors = signals.jacobian
    kept = torch.where(largest(vectors, number(values, "density")), vectors, 0.0)
    elected = torch.sign(kept.sum(-2, keepdim=True))
    agrees = torch.sign(kept) * elected > 0
    total = torch.where(agrees, kept, 0.0).sum(-2)
    mean = total / positive(agrees.sum(-2).to(total))
    broken = vectors.isnan().any(-2)
    merged = torch.where(broken, torch.nan, mean)
    return number(values, "scale").to(merged.dtype) * merged, state


def largest(vectors: Tensor, density: Tensor) -> Tensor:
    """Which entries of each vector (..., T, P) are among its largest ones, by magnitude.

    density: (..., 1) the share to keep; at least one entry is, and all that equal the last one.
    """
    size = vectors.abs()
    ordered = size.sort(dim=-1, descending=True).values
    last = (density * vectors.shape[-1]).ceil().long().clamp(1, vectors.shape[-1]) - 1
    place = last.unsqueeze(-2).expand(*vectors.shape[:-1], 1)
    return size >= ordered.gather(-1, place)


METHOD = Method(
    name="merge_ties",
    summary="trains T copies, a task each, and merges their largest changes of one sign",
    paper=Paper(
        authors="Yadav, Tam, Choshen, Raffel, Bansal",
        year=2023,
        title="TIES-Merging: Resolving Interference When Merging Models",
        venue="NeurIPS",
        arxiv="2306.01708",
    ),
    needs="jacobian",
    step=step,
    answers="direction",
    scheme="merge",
    hyper={
        "pretrain_percent": PRETRAIN,
        "density": Number(0.2, "share of each task vector that is kept", 0.0, 1.0),
        "scale": Number(1.0, "factor on the merged task vector; the paper's λ", low=0.0),
    },
    deviations="the common start is trained here, on all tasks for half of the epochs by default; "
    "a run pays for T fine-tunings",
)
