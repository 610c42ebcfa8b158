"""What an arm of the baseline's own quality would seem to gain: gaps in the grid, and luck."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .attained import Standing

Floats = NDArray[np.float64]
Placebo = Mapping[str, tuple[Standing, float]]
"""One seed's: weight -> standing on the selection split, signed distance on the reporting split."""

DRAWS = 500
"""How often a placebo arm is drawn; its mean then is off by a twentieth of its spread at most."""


WIDER = 4.0
"""A gap is taken for no more than so many times as wide as a held-out weight's."""


@dataclass(frozen=True)
class Gaps:
    """What leaving one weight out opens up, apart from chance: weight -> over all seeds.

    select, report: signed distances. spread: how wide the gap is.
    """

    select: Mapping[str, float]
    report: Mapping[str, float]
    spread: Mapping[str, float]


def gaps(seeds: Sequence[Placebo]) -> Gaps:
    """Return each weight's systematic part of the held-out distances.

    A front's gaps are the same in every seed, luck is not. The mean over seeds of each weight is
    drawn towards the mean of all weights as far as chance explains how they differ (the James-Stein
    estimator in the form of Efron and Morris 1975, JASA 70, section 2); with one seed, or weights
    that no two seeds share, all the way.
    """
    weights = sorted({weight for seed in seeds for weight in seed})
    per = {weight: [seed[weight] for seed in seeds if weight in seed] for weight in weights}
    return Gaps(
        select=_shrunk({weight: [s.select for s, _ in found] for weight, found in per.items()}),
        report=_shrunk({weight: [far for _, far in found] for weight, found in per.items()}),
        spread={w: float(np.mean([s.spread for s, _ in found])) for w, found in per.items()},
    )


def expected(
    arm: Sequence[Standing], placebo: Placebo, known: Gaps, generator: np.random.Generator
) -> tuple[float, float]:
    """Return what the placebo explains of one seed's arm: the gap and the luck.

    arm: the standings of its runs that compete, best first; one a try. Placebo runs are put in the
    same places: each has the gap that is open there and the luck (the distance beyond its own gap)
    of one of the seed's held-out weights, drawn without replacement. The one that stands furthest
    beyond the front on the selection split is taken, as the arm's was, and its distance on the
    reporting split counts; means over `DRAWS` draws.
    """
    if not placebo:
        return 0.0, 0.0
    there = np.array([_open(one, known) for one in arm])
    luck = np.array(
        [(s.select - known.select[w], far - known.report[w]) for w, (s, far) in placebo.items()]
    )
    tries = len(arm)
    order = generator.random((DRAWS, max(tries, len(luck)))).argsort(axis=1)
    drawn = luck[order[:, :tries] % len(luck)]
    chosen = (there[None, :, 0] + drawn[:, :, 0]).argmax(axis=1)
    picked = drawn[np.arange(DRAWS), chosen, 1]
    return float(there[chosen, 1].mean()), float(picked.mean())


def _open(one: Standing, known: Gaps) -> tuple[float, float]:
    """The gap at a place, on both splits: the nearest inner weight's, in proportion to the spread.

    How deep a smooth front lies below the points around it grows with their spread (Taylor's second
    order). What is negative is no gap but what weights without luck fall short by.
    """
    if one.near is None or one.near not in known.spread:
        return 0.0, 0.0
    whole = known.spread[one.near]
    share = min(WIDER, one.spread / whole) if whole > 0 else 0.0
    select, report = known.select[one.near], known.report[one.near]
    return (share * select if select > 0 else select), (share * report if report > 0 else report)


def _shrunk(values: Mapping[str, Sequence[float]]) -> dict[str, float]:
    if not values:
        return {}
    counts = np.array([len(found) for found in values.values()])
    means = np.array([np.mean(found) for found in values.values()])
    deviations = sum(float(np.sum((np.array(v) - np.mean(v)) ** 2)) for v in values.values())
    free = int((counts - 1).sum())
    grand = means.mean()
    if free == 0 or len(means) < 2:
        return dict.fromkeys(values, float(grand))
    chance = deviations / free / counts
    real = max(0.0, float(means.var(ddof=1) - chance.mean()))
    kept = real / (real + chance) if real > 0 else np.zeros(len(means))
    return {w: float(x) for w, x in zip(values, grand + kept * (means - grand), strict=True)}
