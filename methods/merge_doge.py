"""DOGE merging: one common change, learned without data, makes the merged task vectors fit better.

With scales λ_i = η / ‖τ_i‖, the change Δ of a weight matrix descends along
Σ_j Σ_rows (Σ_columns τ_j ⊙ (τ_j − Σ_i λ_i (τ_i + Δ)))², its gradient kept out of the subspace that
the tasks share: (I − P) ∇, P on the leading left singular vectors of the leading ones of every τ_i.
Then θ = θ_0 + Σ λ_i (τ_i + Δ) ⊙ M_i, where M_i keeps the largest entries of τ_i.
Wei, Tang, Shen, Hu, Yuan, Cao, "Modeling Multi-Task Model Merging as Adaptive Projective Gradient
Descent", ICML 2025, arXiv 2501.01230; the constants are those of the code in FusionBench.
This is a reconstruction from a description of that code. Differences: the common start is trained
here, on all tasks together, for a share of the budget; each task's own parameters come from its own
copy; tensors with one dimension get no Δ.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .adam import adam_change, adam_state
from .arithmetic import positive
from .merge_average import PRETRAIN
from .merge_ties import largest
from .method import Count, Method, Number, Paper, Signals, State, Values, count, number

DELTA_RATE = 1e-4
"""Adam's learning rate for Δ."""
SUBSPACE_SHARE = 6
"""The shared subspace has 1/6 of the dimensions that a matrix of full rank has."""


def step(signals: Signals, state: State, values: Values) -> tuple[Tensor, State]:
    """The merged task vector (..., P)."""
    assert signals.jacobian is not None
    vectors = signals.jacobian
    finite = torch.isfinite(vectors).all(-1).all(-1)[..., None, None]
    clean = torch.where(finite, vectors, 0.0)
    shapes = signals.shapes or ((vectors.shape[-1],),)
    blocks = torch.split(clean, [math.prod(shape) for shape in shapes], dim=-1)
    merged = torch.cat(
        [_merged(block, shape, values) for block, shape in zip(blocks, shapes, strict=True)], dim=-1
    )
    return torch.where(finite.squeeze(-1), merged, torch.nan), state


def _merged(vectors: Tensor, shape: tuple[int, ...], values: Values) -> Tensor:
    """One tensor's merged task vector (..., size)."""
    length = vectors.norm(dim=-1, keepdim=True)
    scales = number(values, "eta").unsqueeze(-1).to(vectors.dtype) / positive(length)
    delta = torch.zeros_like(vectors[..., 0, :])
    if len(shape) > 1:
        matrices = vectors.unflatten(-1, (shape[0], -1))  # type: ignore[no-untyped-call]
        change = _learned(matrices, scales.unsqueeze(-1), count(values, "steps"))
        delta = change.flatten(-2)
    mask = largest(vectors, number(values, "density"))
    moved = scales * (vectors + delta.unsqueeze(-2))
    return torch.where(mask, moved, 0.0).sum(-2)


def _learned(matrices: Tensor, scales: Tensor, steps: int) -> Tensor:
    """Δ (..., R, C) after so many Adam steps; matrices (..., T, R, C), scales (..., T, 1, 1)."""
    shared = _shared_subspace(matrices)
    total = scales.sum(-3)
    missed = matrices - (scales * matrices).sum(-3, keepdim=True)
    delta = torch.zeros_like(missed[..., 0, :, :])
    state = adam_state(delta)
    for _ in range(steps):
        residual = matrices * (missed - (total * delta).unsqueeze(-3))
        slope = -2 * total * (residual.sum(-1, keepdim=True) * matrices).sum(-3)
        free = slope - shared @ (shared.mT @ slope)
        change, state = adam_change(free, state, torch.full_like(total, DELTA_RATE))
        delta = delta + change
    return delta


def _shared_subspace(matrices: Tensor) -> Tensor:
    """Orthonormal columns (..., R, k) that span the directions which the tasks' changes share."""
    tasks, rows, columns = matrices.shape[-3:]
    rank = min(rows, columns)
    left = torch.linalg.svd(matrices, full_matrices=False).U[..., : rank // tasks]
    if rank // SUBSPACE_SHARE == 0 or left.shape[-1] == 0:
        return matrices.new_zeros(*matrices.shape[:-3], rows, 0)
    together = left.transpose(-3, -2).flatten(-2)
    basis: Tensor = torch.linalg.svd(together, full_matrices=False).U[..., : rank // SUBSPACE_SHARE]
    return basis


METHOD = Method(
    name="merge_doge",
    summary="trains T copies, a task each, merged with a learned change; a reconstruction",
    paper=Paper(
        authors="Wei, Tang, Shen, Hu, Yuan, Cao",
        year=2025,
        title="Modeling Multi-Task Model Merging as Adaptive Projective Gradient Descent",
        venue="ICML",
        arxiv="2501.01230",
    ),
    needs="jacobian",
    step=step,
    answers="direction",
    scheme="merge",
    hyper={
        "pretrain_percent": PRETRAIN,
        "eta": Number(0.07, "length to which every tensor's task vector is scaled", low=0.0),
        "density": Number(0.3, "share of each task vector that is kept", 0.0, 1.0),
        "steps": Count(400, "Adam steps for the common change", 0, 10000),
    },
    deviations="a reconstruction from a description of the authors' code; the common start is "
    "trained here, on all tasks for half of the epochs by default; a run pays for T fine-tunings",
)
