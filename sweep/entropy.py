"""Cross-entropy of a whole pack: a few operations over classes, where vmap's form takes twenty."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .packed import InDims, first

IGNORED = -100
"""A label that costs and teaches nothing, as in torch.nn.functional.cross_entropy."""


class EntropyOfRuns(torch.autograd.Function):
    """Mean cross-entropy of each run: logits (N, C, R), labels (N, R) -> (N,).

    Classes come before rows, so that rows fill a processor's vectors however few classes there are.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor) -> Tensor:
        """NaN where no label of a run counts, as torch has it."""
        known = labels != IGNORED
        places = labels.where(known, 0).unsqueeze(1)
        shares = known.to(logits.dtype) / known.sum(1, keepdim=True)
        logs = torch.log_softmax(logits, 1)
        ctx.save_for_backward(logs, places, shares)
        return -(logs.gather(1, places).squeeze(1) * shares).sum(1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """(softmax − one at the label), each row with its share."""
        logs, places, shares = ctx.saved_tensors
        shares = (shares * gradient.unsqueeze(1)).unsqueeze(1)
        towards = logs.exp() * shares
        return towards.scatter_add(1, places, -shares), None


def is_mean_over_labels(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = IGNORED,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> bool:
    """Whether a call of cross_entropy takes the mean over labels (B, ...), and nothing else."""
    return (
        (weight, size_average, ignore_index, reduce) == (None, None, IGNORED, None)
        and (reduction, label_smoothing) == ("mean", 0.0)
        and input.ndim == target.ndim + 1 >= 2
        and target.dtype == torch.int64
    )


def packed_entropy(runs: int, in_dims: InDims, logits: Tensor, labels: Tensor) -> Tensor:
    """torch.nn.functional.cross_entropy of all runs: (N,), from logits (N, B, C, ...).

    in_dims: where each argument has the runs, None where it is the same for all.
    """
    classes_first = first(logits, in_dims[0], runs).movedim(2, 1).flatten(2).contiguous()
    rows = first(labels, in_dims[1], runs).flatten(1)
    return EntropyOfRuns.apply(classes_first, rows)  # type: ignore[no-untyped-call, no-any-return]
