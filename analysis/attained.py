"""One seed's baseline: its front, the same without one weight, and where any run stands there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .distance import Place, behind, interpolated, signed_distance
from .front import is_nondominated
from .selection import Runs

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

LARGEST_SHARE = 0.75
"""A weight fills the gap between others if none of them is nearer to it than this share says; of
those, the ones count that have a fair part of the rest."""

DENT = 0.1
"""And if it does not lie behind the others' means by more than this part of the gap's width."""

REACH = 1.75
"""Gaps are bridged up to so many times the widest that a weight of the baseline has filled."""


@dataclass(frozen=True)
class Attained:
    """What one seed's baseline runs attain, in normalised units.

    baseline: its runs. members: (m,) indices of those that are non-dominated on the selection
    split. without: for each weight, the members among the other weights' runs. reach: how wide a
    gap in this front is taken as one between weights, see `attained`. inner: the weights that
    others surround, so that leaving one out opens a gap and does not shorten the front. surrounded:
    whether there are such; with many tasks and few weights there may be none, and inner is all.
    """

    baseline: Runs
    members: Indices
    without: dict[str, Indices]
    reach: float
    inner: frozenset[str]
    surrounded: bool


@dataclass(frozen=True)
class Standing:
    """Where one run stands against a baseline without the weight nearest to it.

    select: its signed distance on the selection split. out: the weight left out, None if none was.
    near: the inner weight that is nearest. spread: how wide the gap is there, see `distance.Place`.
    """

    select: float
    out: str | None
    near: str | None
    spread: float


def fronts_of(baselines: Mapping[int, Runs]) -> dict[int, Attained]:
    """Return the front of each seed's baseline, all with one reach: gaps are the grid's.

    It is the smallest: what a weight filled in one seed by luck is not filled by the grid.
    """
    fronts = {seed: attained(runs) for seed, runs in baselines.items()}
    reach = min(front.reach for front in fronts.values())
    return {seed: replace(front, reach=reach) for seed, front in fronts.items()}


def attained(baseline: Runs) -> Attained:
    """Return the front of one seed's baseline, from at least one finished run.

    Between the points of the front lie others that further weights would attain, unless it is
    concave there: then no weight fills the hole, however fine the grid. The two are told apart by
    leaving each weight out in turn. One that then lies well inside the gap (`LARGEST_SHARE`), and
    on or below what lies between the others (`DENT`), proves that gaps of this width are filled;
    `reach` is `REACH` times the widest one proven. At the rim of a concave part weights crowd, and
    prove only short gaps.
    """
    members = np.flatnonzero(is_nondominated(baseline.select))
    without = {name: _without(baseline, name) for name in sorted(set(baseline.group))}
    reach, inner = 0.0, set()
    for run in members:
        weight = baseline.group[run]
        rest = without[weight]
        if len(rest) < 2:
            continue
        place = interpolated(baseline.select[run], baseline.select[rest])
        if place.inside:
            inner.add(weight)
            reach = max(reach, REACH * _filled(place))
    several = {weight for weight, rest in without.items() if len(rest)}
    return Attained(baseline, members, without, reach, frozenset(inner or several), bool(inner))


def _filled(place: Place) -> float:
    """How wide a gap a held-out weight has filled, 0 for none."""
    if place.shares.max() > LARGEST_SHARE:
        return 0.0
    fair = (1 - LARGEST_SHARE) / (len(place.shares[place.shares > 0]) - 1)
    width = float(place.apart[place.shares >= fair].max())
    return width if place.distance >= -DENT * width else 0.0


def standing(run: Floats, front: Attained, weight: str | None = None) -> Standing:
    """Return where a run with losses (T,) on the selection split stands.

    weight: what to leave out; by default the weight of the front's member nearest to where the run
    meets the front. It stays in if it is no inner one, or if the others do not surround the run:
    beyond the end of a front no gap opens.
    """
    out = _nearest(run[None, :], front, front.members)[0] if weight is None else weight
    select = front.baseline.select
    if out in front.inner:
        place = interpolated(run, select[front.without[out]], front.reach)
        if place.inside or not front.surrounded:
            return Standing(place.distance, out, out, place.spread)
    place = interpolated(run, select[front.members], front.reach)
    inner = front.members[np.isin(front.baseline.group[front.members], list(front.inner))]
    near = _nearest(run[None, :], front, inner)[0] if len(inner) else None
    return Standing(place.distance, None, near, place.spread)


def reported(run: Floats, front: Attained, out: str | None) -> float:
    """Return the signed distance of losses (T,) on the reporting split, to the same front there.

    out: the weight that was left out on the selection split, None for none.
    """
    members = front.members if out is None else front.without[out]
    return interpolated(run, front.baseline.report[members], front.reach).distance


def furthest(runs: Floats, front: Attained, count: int) -> list[tuple[int, Standing]]:
    """Return the runs that stand furthest beyond the front on the selection split, best first.

    runs: (n, T). At most `count` pairs of index and standing. A run is looked at closely only if
    its distance to single members, which is never smaller, could still bring it in.
    """
    nearest = _nearest(runs, front, front.members)
    bounds = _bounds(runs, front, nearest)
    found: list[tuple[int, Standing]] = []
    for index in np.argsort(-bounds, kind="stable"):
        if len(found) >= count and found[count - 1][1].select >= bounds[index]:
            break
        found.append((int(index), standing(runs[index], front, nearest[index])))
        found.sort(key=lambda pair: -pair[1].select)
    return found[:count]


def held_out(front: Attained) -> dict[str, tuple[Standing, float]]:
    """Return the placebo: each inner weight's best run against the front of the other weights.

    Weight -> its standing on the selection split and its signed distance on the reporting split.
    """
    own = front.baseline
    placebo = {}
    for weight in sorted(front.inner):
        best = _best_held_out(front, weight)
        if best is not None:
            run, stands = best
            placebo[weight] = stands, reported(own.report[run], front, weight)
    return placebo


def _best_held_out(front: Attained, weight: str) -> tuple[int, Standing] | None:
    """The weight's run that stands furthest beyond the others' front, if others surround one."""
    own = front.baseline
    runs = np.flatnonzero(own.group == weight)
    bounds = signed_distance(own.select[runs], own.select[front.without[weight]])
    best: tuple[int, Standing] | None = None
    for index in np.argsort(-bounds, kind="stable"):
        if best is not None and best[1].select >= bounds[index]:
            break
        found = standing(own.select[runs[index]], front, weight)
        if found.out is not None and (best is None or found.select > best[1].select):
            best = int(runs[index]), found
    return best


def _bounds(runs: Floats, front: Attained, nearest: list[str]) -> Floats:
    """No less than the distance in each run's standing, (n,); nearest: each one's weight."""
    select = front.baseline.select
    bounds = signed_distance(runs, select[front.members])
    for weight in front.inner.intersection(nearest):
        mine = [name == weight for name in nearest]
        bounds[mine] = signed_distance(runs[mine], select[front.without[weight]])
    return bounds


def _nearest(runs: Floats, front: Attained, members: Indices) -> list[str]:
    """For each run (n, T) the weight of the member nearest to where the run meets the front."""
    away = front.baseline.select[members][None, :, :] - runs[:, None, :]
    met = behind(away).min(axis=1)
    nearest = np.abs(away - met[:, None, None]).max(axis=2).argmin(axis=1)
    return list(front.baseline.group[members[nearest]])


def _without(baseline: Runs, weight: str) -> Indices:
    rest = np.flatnonzero(baseline.group != weight)
    return rest[is_nondominated(baseline.select[rest])] if len(rest) else rest
