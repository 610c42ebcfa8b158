"""The mixture of rows whose largest entry is least: a small linear program, many times over."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

Floats = NDArray[np.float64]

PIVOTS = 20
"""So many for each column are tried; about one is needed."""

UNSURE = 1e-9
"""By how much the value may be off, in units of the usual payoff."""


def mixture(payoff: Floats) -> Floats:
    """Return the shares (m,), >= 0 and sum 1, of the rows' mean whose largest entry is least.

    payoff: (m, T), m >= 1, finite, entries of the order of one. By pivots, and where these are
    unsure by HiGHS, which is some twenty times slower on problems as small as this one.
    """
    shares = by_pivots(payoff)
    return by_program(payoff) if shares is None else shares


def by_pivots(payoff: Floats) -> Floats | None:
    """Return the same by the simplex method, None if it is unsure.

    It is a matrix game of the rows against the columns. With all payoffs positive, y = shares /
    value maximises sum(y) under payoff' y <= 1, y >= 0, and the simplex method can start at y = 0
    (Dantzig 1951, A proof of the equivalence of the programming problem and the game problem). The
    columns' own mixture, which it finds too, bounds the value from the other side: the answer is
    sure if the two agree to within `UNSURE`.
    """
    rows, columns = payoff.shape
    positive = payoff - (payoff.min() - 1.0)
    # A line for each column of the game, with its slack and right side; last the price of entering.
    table = np.zeros((columns + 1, rows + columns + 1))
    table[:-1, :rows], table[:-1, rows:-1], table[:-1, -1] = positive.T, np.eye(columns), 1.0
    table[-1, :rows] = -1.0
    basis = np.arange(rows, rows + columns)
    for _ in range(PIVOTS * columns):
        entering = table[-1, :-1].argmin()
        if table[-1, entering] >= -1e-12:
            break
        _pivot(table, basis, entering)
    mine, theirs = np.zeros(rows + columns), table[-1, rows:-1].clip(0.0)
    mine[basis] = table[:-1, -1].clip(0.0)
    shares: Floats = mine[:rows] / mine[:rows].sum()
    gap = (shares @ positive).max() - (positive @ (theirs / theirs.sum())).min()
    return shares if gap <= UNSURE else None


def _pivot(table: Floats, basis: NDArray[np.int64], entering: np.intp) -> None:
    """Bring one variable into the basis, for the one that reaches zero first."""
    column = table[:-1, entering]
    steps = np.full(len(column), np.inf)
    np.divide(table[:-1, -1], column, out=steps, where=column > 1e-12)
    leaving = steps.argmin()
    basis[leaving] = entering
    table[leaving] /= table[leaving, entering]
    factors = table[:, entering].copy()
    factors[leaving] = 0.0
    table -= factors[:, None] * table[leaving]


def by_program(payoff: Floats) -> Floats:
    """Return the same by a general solver for linear programs."""
    count, columns = payoff.shape
    cost = np.append(np.zeros(count), 1.0)
    below: Any = np.hstack([payoff.T, -np.ones((columns, 1))])
    whole = np.append(np.ones(count), 0.0)[None, :]
    bounds = [(0.0, None)] * count + [(None, None)]
    equations = {"A_ub": below, "b_ub": np.zeros(columns), "A_eq": whole, "b_eq": [1.0]}
    for method in ("highs-ds", "highs-ipm"):
        found = optimize.linprog(cost, **equations, bounds=bounds, method=method)
        # The dual simplex was seen to call shares optimal that sum to 0.4 (HiGHS 1.12, SciPy 1.17).
        if found.x is not None and abs(found.x[:-1].sum() - 1.0) < UNSURE:
            shares: Floats = np.clip(found.x[:-1], 0.0, None)
            shares /= shares.sum()
            return shares
    raise ArithmeticError(f"the place of a point on a front was not found: {found.message}")
