"""How many baseline runs it takes to find a run as good as another arm's."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Counts = Sequence[int] | NDArray[np.int64]


COLUMNS = ("arm", "chance", "runs", "low", "high")
CHANCES = (0.5, 0.9)
RESAMPLES = 1000


def effort(margins: pd.DataFrame, arms: Sequence[str], confidence: float) -> pd.DataFrame:
    """Return how many baseline runs find a run as good as each arm's: rows arm and chance.

    margins: one row an arm and seed, see `seeds.compare_seeds`. chance: one half and nine tenths.
    runs: see `equivalent_runs`. low, high: its percentile interval over resampled seeds, from
    `RESAMPLES` of them; NaN for fewer than two seeds. inf where no number of runs is enough.
    """
    rows = []
    for arm in arms:
        own = margins[margins["arm"] == arm]
        good, drawn = own["good"].to_numpy(np.int64), own["drawn"].to_numpy(np.int64)
        draws = np.random.default_rng(zlib.crc32(arm.encode()))
        for chance in CHANCES:
            found = equivalent_runs(good, drawn, chance) if len(own) else math.nan
            low = high = math.nan
            if len(own) > 1:
                picks = draws.integers(len(own), size=(RESAMPLES, len(own)))
                each = [equivalent_runs(good[pick], drawn[pick], chance) for pick in picks]
                tail = (1 - confidence) / 2
                low, high = np.quantile(each, [tail, 1 - tail], method="inverted_cdf")
            rows.append((arm, chance, found, low, high))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def equivalent_runs(good: Counts, total: Counts, chance: float = 0.5) -> float:
    """Return the smallest k such that k baseline runs probably hold one that is good enough.

    good, total: one entry a seed, 0 <= good <= total: how many of that seed's baseline runs are at
    least as good as the arm's selected run, and how many there are (diverged ones are drawn too:
    they cost as much). k runs are drawn without replacement from each seed's; the chance that one
    is good is 1 - C(total - good, k) / C(total, k) (hypergeometric), averaged over seeds.
    "Probably" is at least `chance`. inf if no number of draws reaches it.

    Raises ValueError for no seeds or counts out of range.
    """
    if len(total) == 0 or any(not 0 <= g <= n for g, n in zip(good, total, strict=True)):
        raise ValueError(f"0 <= good <= total must hold for each seed; found {good} of {total}")
    longest = max(total)
    reached: NDArray[np.float64] = np.mean(
        [_chances(g, n, longest) for g, n in zip(good, total, strict=True)], axis=0
    )
    # Half of the seeds with certainty is a half: the tolerance keeps rounding from hiding it.
    enough = np.flatnonzero(reached >= chance - 1e-12)
    return float(enough[0] + 1) if len(enough) else math.inf


def _chances(good: int, total: int, longest: int) -> NDArray[np.float64]:
    """Chance of at least one good among the first 1, 2, ..., longest draws, (longest,)."""
    drawn = np.arange(longest)
    left = np.maximum(total - drawn, 1)
    misses = np.where(drawn < total, np.maximum(total - good - drawn, 0) / left, 1.0)
    return np.asarray(1.0 - np.cumprod(misses), dtype=np.float64)
