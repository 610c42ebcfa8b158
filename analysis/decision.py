"""From an arm's margins over seeds to its interval, its p-values and its word."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from .interval import interval, p_values
from .settings import Settings

Floats = NDArray[np.float64]

COLUMNS = (
    "arm", "seeds", "distance", "gap", "luck", "margin", "low", "high", "p_different", "p_holm",
    "p_equivalent", "further_seeds",
)  # fmt: skip
CORRECTION_ERROR = 0.2
"""The standard error of gap and luck, as a share of each: the same in all seeds."""
MOST_SEEDS = 1000
"""Where the search for a number of seeds ends."""


@dataclass(frozen=True)
class Evidence:
    """What is known of one arm's margin.

    low, high: the interval. different: the two-sided p-value for no difference from the baseline.
    equivalent: the larger p-value of the two one-sided tests (Schuirmann 1987) for a margin beyond
    the equivalence. further_seeds: how many more would probably decide, 0 if it is decided, inf if
    none would. All NaN for fewer than two seeds.
    """

    low: float
    high: float
    different: float
    equivalent: float
    further_seeds: float


def statistics(margins: pd.DataFrame, arms: list[str], settings: Settings) -> pd.DataFrame:
    """Return one row an arm with COLUMNS: what its verdict rests on.

    margins: one row an arm and seed, see `seeds.compare_seeds`. distance, gap, luck, margin: means
    over seeds. p_holm: `p_different` after Holm's step-down (1979) over the arms that are no
    controls, and over the controls; see `Evidence`.
    """
    rows = []
    for arm in arms:
        own = margins[margins["arm"] == arm]
        found = evidence(arm, own, settings)
        means = {name: float(own[name].mean()) for name in ("distance", "gap", "luck", "margin")}
        tests = {
            "p_different": found.different,
            "p_equivalent": found.equivalent,
            "further_seeds": found.further_seeds,
        }
        ends = {"low": found.low, "high": found.high}
        rows.append({"arm": arm, "seeds": len(own), **means, **ends, **tests})
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    table["p_holm"] = math.nan
    is_control = table["arm"].isin(settings.controls)
    for family in (is_control, ~is_control):
        table.loc[family, "p_holm"] = holm(table.loc[family, "p_different"].to_numpy(np.float64))
    return table


def evidence(arm: str, own: pd.DataFrame, settings: Settings) -> Evidence:
    """Return the evidence in one arm's rows, one a seed.

    The corrections for gap and luck are estimates. Their errors (`CORRECTION_ERROR`) do not average
    out over seeds and are added to the interval as a systematic one.
    """
    values = own["margin"].to_numpy(np.float64)
    if len(values) < 2:
        return Evidence(*([math.nan] * 5))
    gap, luck = float(own["gap"].mean()), float(own["luck"].mean())
    systematic = CORRECTION_ERROR * math.hypot(gap, luck)
    # The arm's name is part of the seed: an interval does not depend on which other arms exist.
    entropy = [settings.seed, zlib.crc32(arm.encode())]
    random = np.random.default_rng(entropy)
    low, high = interval(values, settings.confidence, random, systematic)
    edge, random = settings.equivalence, np.random.default_rng(entropy)
    different, *edges = p_values(values, (0.0, -edge, edge), random, systematic)
    inside = -edge < values.mean() < edge
    equivalent = max(edges) / 2 if inside else 1 - min(edges) / 2
    further = further_seeds(values, systematic, settings)
    return Evidence(low, high, different, equivalent, further)


def further_seeds(values: Floats, systematic: float, settings: Settings) -> float:
    """Return how many seeds more would decide, if they came out as these did on average.

    By Student's interval around the same mean with the same spread. 0 if it decides already, inf if
    `MOST_SEEDS` would not.
    """
    centre, spread = float(values.mean()), float(values.std(ddof=1))
    tail = (1 - settings.confidence) / 2
    fixed = float(stats.norm.isf(tail)) * systematic
    for count in range(len(values), MOST_SEEDS + 1):
        reach = float(stats.t.isf(tail, count - 1)) * spread / math.sqrt(count)
        wide = math.hypot(reach, fixed)
        if abs(centre) > wide or abs(centre) + wide < settings.equivalence:
            return float(count - len(values))
    return math.inf


def holm(p: Floats) -> Floats:
    """Return p-values (m,) after Holm's step-down correction; NaN stays and counts for nothing."""
    known = np.flatnonzero(np.isfinite(p))
    order = known[np.argsort(p[known], kind="stable")]
    steps = np.minimum(1.0, p[order] * np.arange(len(order), 0, -1))
    adjusted = np.full(len(p), math.nan)
    adjusted[order] = np.maximum.accumulate(steps)
    return adjusted


def verdict(low: float, high: float, equivalence: float, p: float, level: float) -> str:
    """Return the word: matches, beats, worse or inconclusive, in this order.

    matches: the whole interval lies within the equivalence, which is the two one-sided tests at
    half of `level` each. beats, worse: the interval excludes 0, and so do all arms' together: p,
    after Holm's correction, is below `level`, which is 1 - confidence.
    """
    if -equivalence < low and high < equivalence:
        return "matches"
    if p < level and low > 0:
        return "beats"
    return "worse" if p < level and high < 0 else "inconclusive"
