"""How far beyond, or behind, an attained front a point lies."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .front import check_points


def signed_distance(points: ArrayLike, attained: ArrayLike) -> NDArray[np.float64]:
    """Return for each point how much worse it must get in every task until the front catches up.

    points: (n, T). attained: (m, T), m >= 1, in the same units (normalised ones, so that tasks can
    be compared); dominated members change nothing.

    Returns (n,): min over q in attained of max over tasks of (q_i - p_i). Positive: no member of
    the front is as good as the point in every task, even after an allowance smaller than this.
    Negative: some member is better in every task by that much. Zero: on the front.

    This is the additive epsilon indicator (Zitzler et al. 2003, IEEE TEC 7(2), eq. 4) of the front,
    seen from one point. Raises ValueError for NaN, inf, an empty front or different numbers of
    tasks.
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
    distances: NDArray[np.float64] = (
        (members[None, :, :] - rows[:, None, :]).max(axis=2).min(axis=1)
    )
    return distances
