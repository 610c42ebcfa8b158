"""How many baseline runs it takes to find a run as good as another arm's."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def equivalent_runs(good: Sequence[int], total: Sequence[int]) -> float:
    """Return the smallest k such that k baseline runs probably hold one that is good enough.

    good, total: one entry a seed, 0 <= good <= total: how many of that seed's baseline runs are at
    least as good as the arm's selected run, and how many there are (diverged ones are drawn too:
    they cost as much). k runs are drawn without replacement from each seed's; the chance that one
    is good is 1 - C(total - good, k) / C(total, k) (hypergeometric), averaged over seeds.
    "Probably" is at least one half. inf if no number of draws reaches it.

    Raises ValueError for no seeds or counts out of range.
    """
    if not total or any(not 0 <= g <= n for g, n in zip(good, total, strict=True)):
        raise ValueError(f"0 <= good <= total must hold for each seed; found {good} of {total}")
    longest = max(total)
    chance: NDArray[np.float64] = np.mean(
        [_chances(g, n, longest) for g, n in zip(good, total, strict=True)], axis=0
    )
    # Half of the seeds with certainty is a half: the tolerance keeps rounding from hiding it.
    enough = np.flatnonzero(chance >= 0.5 - 1e-12)
    return float(enough[0] + 1) if len(enough) else math.inf


def _chances(good: int, total: int, longest: int) -> NDArray[np.float64]:
    """Chance of at least one good among the first 1, 2, ..., longest draws, (longest,)."""
    drawn = np.arange(longest)
    left = np.maximum(total - drawn, 1)
    misses = np.where(drawn < total, np.maximum(total - good - drawn, 0) / left, 1.0)
    return np.asarray(1.0 - np.cumprod(misses), dtype=np.float64)
