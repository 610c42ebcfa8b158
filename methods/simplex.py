"""How to project onto the probability simplex, many small vectors at once."""

from __future__ import annotations

import torch
from torch import Tensor

from .arithmetic import running_sums


def nearest_on_simplex(vector: Tensor) -> Tensor:
    """The nearest non-negative vector with sum 1, (..., T) float64; NaN if one entry is not finite.

    It is (v − τ)₊. With the entries sorted downwards and S_k the sum of the first k, (S_k − 1) / k
    grows in k while entries are above it and falls afterwards: its maximum over k is τ (Duchi,
    Shalev-Shwartz, Singer, Chandra, ICML 2008, Figure 1).
    """
    # a common shift moves no projection; large entries would swallow the 1
    shifted = vector - vector.amax(-1, keepdim=True)
    sums = running_sums(shifted.sort(-1, descending=True).values)
    counts = torch.arange(1, vector.shape[-1] + 1, device=vector.device)
    threshold = ((sums - 1) / counts).amax(-1, keepdim=True)
    return (shifted - threshold).clamp_min(0)
