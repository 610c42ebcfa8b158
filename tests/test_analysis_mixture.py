"""The mixture whose largest entry is least: by hand, by duality, and where the pivots give up."""

from __future__ import annotations

from typing import Any
from unittest import mock

import numpy as np
import pytest
from scipy import optimize
from scipy.optimize import linprog

from mtofront.analysis import mixture as module
from mtofront.analysis.distance import behind, interpolated
from mtofront.analysis.mixture import by_pivots, by_program, mixture


def drawn(seed: int, rows: int, columns: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, columns))


def value_by_columns(payoff: np.ndarray) -> float:
    """The value of the game as the columns see it: the most that they can be sure of."""
    rows, columns = payoff.shape
    found = linprog(
        np.append(np.zeros(columns), -1.0),
        A_ub=np.column_stack([-payoff, np.ones(rows)]),
        b_ub=np.zeros(rows),
        A_eq=[[1.0] * columns + [0.0]],
        b_eq=[1.0],
        bounds=[(0, None)] * columns + [(None, None)],
    )
    return float(-found.fun)


@pytest.mark.parametrize("columns", [2, 3, 5, 11])
@pytest.mark.parametrize("rows", [1, 2, 8, 60])
def test_rows_and_columns_agree_on_the_value(rows: int, columns: int) -> None:
    for seed in range(5):
        payoff = drawn(seed, rows, columns)
        shares = by_pivots(payoff)
        assert shares is not None
        assert (shares >= 0).all() and shares.sum() == pytest.approx(1, abs=1e-12)
        assert (shares @ payoff).max() == pytest.approx(value_by_columns(payoff), abs=1e-7)


def test_independent_rows_are_shared_in_inverse_proportion() -> None:
    assert mixture(np.diag([1.0, 2.0, 4.0])) == pytest.approx([4 / 7, 2 / 7, 1 / 7], abs=1e-12)
    # The first row is best in every column.
    assert mixture(np.array([[1.0, 1.0], [2.0, 3.0], [3.0, 2.0]])).tolist() == [1, 0, 0]


def test_many_equal_rows_and_columns_do_not_go_round_in_circles() -> None:
    payoff = np.repeat(np.repeat([[1.0, 0.0, -2.0], [0.0, 1.0, -2.0]], 20, axis=0), 3, axis=1)
    assert (mixture(payoff) @ payoff).tolist() == pytest.approx([0.5] * 6 + [-2.0] * 3)


def test_where_the_pivots_are_unsure_the_general_solver_answers() -> None:
    unsure = 0
    with mock.patch.object(module, "PIVOTS", 1):
        for seed in range(20):
            payoff = drawn(seed, 60, 3)
            unsure += by_pivots(payoff) is None
            assert (mixture(payoff) @ payoff).max() == pytest.approx(
                value_by_columns(payoff), abs=1e-7
            )
    assert unsure > 0


def test_shares_that_do_not_sum_to_one_are_not_taken() -> None:
    def careless(*given: Any, method: str, **more: Any) -> Any:
        found = linprog(*given, method=method, **more)
        if method == "highs-ds":
            found.x[0] = 0.4
        return found

    payoff = drawn(0, 30, 3)
    with mock.patch.object(optimize, "linprog", careless):
        assert by_program(payoff) == pytest.approx(by_pivots(payoff), abs=1e-7)


def test_no_mean_of_members_lies_less_behind() -> None:
    random = np.random.default_rng(1)
    for tasks in (3, 4):
        members, point = random.uniform(size=(20, tasks)), random.uniform(size=tasks)
        least = interpolated(point, members).distance
        shares = random.dirichlet(np.full(20, 0.1), 20_000)
        others = behind(shares @ members - point)
        assert others.min() >= least - 1e-5
        assert others.min() <= least + 0.1
