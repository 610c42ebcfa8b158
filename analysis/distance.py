"""How far beyond, or behind, an attained front a point lies: at its points, and between them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .front import check_points
from .mixture import mixture

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

TRADE_OFF = 0.05
"""What a loss in all other tasks together weighs against the task that is ahead; see `behind`."""

PAIRS = 256
"""Up to so many points of two tasks the chords are tried all at once; `mixture` finds the rest."""


SHORTER = 1e-6
"""Between equals the members that lie nearer together are taken."""


WIDEST = 1e4


@dataclass(frozen=True)
class Place:
    """Where a point stands against an interpolated front.

    distance: signed, see `signed_distance`. inside: whether the front surrounds the point, so that
    it lies between T or fewer of its members and beyond none of its ends. spread: how far apart
    these members are: the weighted mean of their squared distances to the point between them. Both
    hold whether or not the gap between the members is bridged.
    apart: (m,) the largest difference in a task between that point and each member. shares: (m,)
    the weight of each member, >= 0, sum 1.
    """

    distance: float
    inside: bool
    spread: float
    apart: Floats
    shares: Floats


def behind(differences: ArrayLike) -> Floats:
    """Return how much worse a point must get, evenly in all tasks, to reach another one.

    differences: (..., T), the other point's losses minus the point's. Returns (...): the largest
    difference plus `TRADE_OFF` times their sum, over 1 + T * `TRADE_OFF`, so that a difference that
    is the same in every task is returned as it is.

    The largest difference alone (the additive epsilon) calls a point level that ties in one task,
    however bad it is in the others. The sum ends that, as in the augmented Tchebycheff function of
    Steuer and Choo (1983): to be ahead in one task is worth nothing if it costs more than about
    1 / `TRADE_OFF` times as much in another.
    """
    values = np.asarray(differences, dtype=np.float64)
    tasks = values.shape[-1]
    found: Floats = (values.max(axis=-1) + TRADE_OFF * values.sum(axis=-1)) / (
        1 + tasks * TRADE_OFF
    )
    return found


def signed_distance(points: ArrayLike, attained: ArrayLike) -> Floats:
    """Return how much worse each point must get, evenly in all tasks, until the front catches up.

    points: (n, T). attained: (m, T), m >= 1, in the same units (normalised ones, so that tasks can
    be compared); dominated members change nothing.

    Returns (n,): the smallest `behind` over the members. Positive: no member is as good as the
    point, even after an allowance smaller than this. Negative: some member is better by that much.
    Zero for a member of a front. Without the sum in `behind` this is the additive epsilon indicator
    (Zitzler et al. 2003, IEEE TEC 7(2), eq. 4) of the front, seen from one point.

    Raises ValueError for NaN, inf, an empty front or different numbers of tasks.
    """
    rows = check_points(points)
    members = check_points(attained, "attained")
    if len(members) == 0:
        raise ValueError("a distance needs an attained front of at least one point; found none")
    if rows.shape[1] != members.shape[1]:
        raise ValueError(
            f"points and attained need the same tasks; found {rows.shape[1]} and "
            f"{members.shape[1]} columns"
        )
    distances: Floats = behind(members[None, :, :] - rows[:, None, :]).min(axis=1)
    return distances


def interpolated(point: Floats, members: Floats, reach: float = np.inf) -> Place:
    """Return where a point (T,) stands against members (m, T) and what lies between near ones.

    Weighted means of members count as attained if these members lie within `reach`, in every task,
    of the place where the point meets the hull of all members. On a convex front that is never more
    than what is attained: such a front lies on or below the chords between its points (Boyd and
    Vandenberghe 2004, section 4.7.5). With a reach of zero this is `signed_distance`.
    """
    away = members - point
    steps = behind(away)
    single = _place(away, np.eye(len(members))[steps.argmin()])
    wide = _best(away, np.arange(len(members)), single)
    if (wide.apart[wide.shares > 0] <= reach).all():
        return wide
    near = np.flatnonzero(wide.apart <= reach)
    return replace(_best(away, near, single), inside=wide.inside, spread=wide.spread)


def _best(away: Floats, near: Indices, single: Place) -> Place:
    """The best weighted mean of some members, or the single member that was found before."""
    if len(near) < 2:
        return single
    few = away.shape[1] == 2 and len(near) <= PAIRS
    shares = np.zeros(len(away))
    shares[near] = _on_chords(away[near]) if few else _in_hull(away[near])
    place = _place(away, shares)
    return place if place.distance < single.distance else single


def _place(away: Floats, shares: Floats) -> Place:
    between = shares @ away
    used = shares > 1e-9
    apart = away - between
    level = np.ptp(between) <= 1e-7 * max(1.0, float(np.abs(away[used]).max()))
    return Place(
        distance=float(behind(between)),
        inside=bool(level and used.sum() > 1),
        spread=float(shares[used] @ (apart[used] ** 2).sum(axis=1)),
        apart=np.abs(apart).max(axis=1),
        shares=shares,
    )


def _on_chords(away: Floats) -> Floats:
    """Shares (m,) of the best point on any chord between two of the members (m, 2)."""
    first, second = np.triu_indices(len(away), 1)
    lead = away[:, 0] - away[:, 1]
    crossing = lead[first] * lead[second] < 0  # both tasks tie somewhere on the chord
    step = np.where(crossing, lead[first] - lead[second], 1.0)
    share = np.where(crossing, lead[first] / step, 0.0)
    reached = behind(away[first] + share[:, None] * (away[second] - away[first]))
    length = np.abs(away[second] - away[first]).max(axis=1)
    best = (reached + SHORTER * length).argmin()
    shares = np.zeros(len(away))
    shares[second[best]] = share[best]
    shares[first[best]] += 1 - share[best]
    return shares


def _in_hull(away: Floats) -> Floats:
    """Shares (m,) of the weighted mean of the members (m, T) with the least `behind`, those far
    away counting as a little dearer.

    Members `WIDEST` times as far as the usual one are dropped before: their share would be
    below the solver's accuracy, and their size would cost it its digits.
    """
    nearest = float(behind(away).min())
    far = np.abs(away - nearest).max(axis=1)
    scale = max(float(np.median(far)), 1e-12)
    kept = np.flatnonzero(far <= WIDEST * scale)
    close = (away[kept] - nearest) / scale
    # Shares sum to 1, so that what is the same for every task is a part of each task's payoff.
    dearer = TRADE_OFF * close.sum(axis=1) + SHORTER * far[kept] / scale
    shares = np.zeros(len(away))
    shares[kept] = mixture(close + dearer[:, None])
    return shares
