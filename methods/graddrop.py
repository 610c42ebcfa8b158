"""GradDrop, gradient sign dropout: every coordinate of the update keeps one sign.

P = ½ (1 + Σ_i g_i / Σ_i |g_i|) per coordinate; with u uniform in [0, 1) and common to the tasks,
the positive gradients are kept where P > u, the negative ones elsewhere. d is the sum of what is
kept, which is Σ g_i on average.
Chen, Ngiam, Huang, Luong, Kretzschmar, Chai, Anguelov, "Just Pick a Sign", NeurIPS 2020, arXiv
2010.06808, Algorithm 1 without leak.
Difference: on the gradients of the shared parameters, where the paper takes gradients of a
representation times its activations. u has 24 random bits.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .counters import GOLDEN, mixed
from .method import Method, Paper, Signals, State, Values

FRACTION = 2.0**-53
"""Distance between neighbouring numbers that 53 random bits can tell apart in [0, 1)."""


def step(signals: Signals, state: State, values: Values) -> tuple[Tensor, State]:
    """The direction (..., P)."""
    assert signals.jacobian is not None
    above = signals.jacobian.clamp_min(0).sum(-2)
    below = signals.jacobian.clamp_max(0).sum(-2)
    # ½ (1 + Σ g / Σ |g|) is the positive part's share of both, NaN where all are 0
    purity = above / (above - below)
    seed = (signals.noise / FRACTION).long()
    keep_negative = (purity <= scattered(seed, purity.shape[-1])).to(purity)
    # exact for 0 and 1, and cheaper than a choice; the parts of what diverged are not finite
    return torch.lerp(above, below, keep_negative), state


def noise(tasks: int) -> int:
    """One number, from which every coordinate's own follows."""
    return 1


def scattered(seed: Tensor, count: int) -> Tensor:
    """Uniform multiples (..., count) of 2^-24 in [0, 1), float32, that follow from a seed (..., 1).

    Both halves of each word of the generator SplitMix64 (Steele, Lea, Flood, OOPSLA 2014) at
    positions seed + 1, seed + 2, …: integer arithmetic, so the same on every device and in every
    batch. seed: int64.
    """
    position = torch.arange(1, count // 2 + count % 2 + 1, device=seed.device)
    words = mixed((mixed(seed) + position).mul_(GOLDEN))
    halves = words.view(torch.int32)[..., :count]
    # their upper 24 bits, from -2^23 on
    return (halves >> 8).float().mul_(2.0**-24).add_(0.5)


METHOD = Method(
    name="graddrop",
    summary="keeps one random sign in every coordinate of the update",
    paper=Paper(
        authors="Chen, Ngiam, Huang, Luong, Kretzschmar, Chai, Anguelov",
        year=2020,
        title="Just Pick a Sign: Optimizing Deep Multitask Models with Gradient Sign Dropout",
        venue="NeurIPS",
        arxiv="2010.06808",
    ),
    needs="jacobian",
    step=step,
    answers="direction",
    noise=noise,
    deviations="on the shared parameters' gradients, where the paper takes a representation's",
)
