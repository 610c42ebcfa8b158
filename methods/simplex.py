"""How to project onto the simplex."""

from __future__ import annotations

import torch
from torch import Tensor


def onto_simplex(point: Tensor) -> Tensor:
    """The nearest vector with non-negative entries that sum to 1, (..., T); NaN where one is NaN.

    By sorting: Held, Wolfe, Crowder, "Validation of subgradient optimization", 1974.
    """
    # a common shift changes nothing, and here it keeps the digits of the largest entries
    shifted = point - point.amax(-1, keepdim=True)
    ordered = shifted.sort(dim=-1, descending=True).values
    sizes = torch.arange(1, point.shape[-1] + 1, device=point.device)
    surplus = (ordered.cumsum(-1) - 1) / sizes
    size = (ordered > surplus).sum(-1, keepdim=True).clamp_min(1)
    return (shifted - surplus.gather(-1, size - 1)).clamp_min(0)
