"""Linear programs in batches, against HiGHS and values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
import torch
from jacobians import random_jacobian
from numpy.typing import NDArray
from torch import Tensor

from mtofront.methods.linear_program import minimise_linear

Array = NDArray[np.float64]


def drawn(seed: int, *shape: int) -> Tensor:
    """Uniform numbers in [0.1, 1.1)."""
    generator = torch.Generator().manual_seed(seed)
    return 0.1 + torch.rand(*shape, generator=generator, dtype=torch.float64)


def solve(cost: object, matrix: object, right: object) -> tuple[Tensor, bool]:
    """One linear program given as nested numbers."""
    parts = [torch.as_tensor(part, dtype=torch.float64) for part in (cost, matrix, right)]
    solution, solved = minimise_linear(*parts)
    return solution, bool(solved)


def highs(cost: Array, matrix: Array, right: Array) -> float:
    """The optimal value as HiGHS finds it."""
    result = scipy.optimize.linprog(cost, A_eq=matrix, b_eq=right, bounds=(0, None))
    assert result.status == 0
    return float(result.fun)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("rows_", "columns"), [(1, 3), (3, 5), (6, 20), (20, 30), (41, 81)])
def test_random_linear_programs_agree_with_highs(seed: int, rows_: int, columns: int) -> None:
    matrix = random_jacobian(seed, rows_, columns, spread=1.0)
    # a point and multipliers that fit make the program feasible and bounded
    right = matrix @ drawn(seed, columns)
    cost = matrix.T @ random_jacobian(seed + 1, rows_) + drawn(seed + 2, columns)
    solution, solved = solve(cost, matrix, right)
    assert solved
    assert (solution >= 0).all()
    torch.testing.assert_close(matrix @ solution, right, rtol=1e-7, atol=1e-8)
    value = highs(cost.numpy(), matrix.numpy(), right.numpy())
    assert (cost @ solution).item() == pytest.approx(value, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize(
    ("cost", "matrix", "right", "value"),
    [
        # Beale's example, on which the simplex method cycles
        (
            (-0.75, 150, -0.02, 6, 0, 0, 0),
            ((0.25, -60, -0.04, 9, 1, 0, 0), (0.5, -90, -0.02, 3, 0, 1, 0), (0, 0, 1, 0, 0, 0, 1)),
            (0, 0, 1),
            -0.05,
        ),
        ((1, 2), ((1, 1), (2, 2), (0, 0)), (1, 2, 0), 1),
        ((1, 1), ((1, -1),), (0,), 0),
        ((0, 0), ((1, 1),), (1,), 0),
        # the only point: no interior
        ((-1, -2, 0), ((1, 1, 0), (1, -1, -1), (-1, 1, -1)), (1, 0, 0), -1.5),
        ((1e12, 1), ((1e-12, 1e12),), (1,), 1e-12),
    ],
)
def test_degenerate_linear_programs_are_solved(
    cost: object, matrix: object, right: object, value: float
) -> None:
    solution, solved = solve(cost, matrix, right)
    assert solved
    found = torch.tensor(cost, dtype=torch.float64) @ solution
    assert found.item() == pytest.approx(value, rel=1e-6, abs=1e-10 if value == 0 else 0)


@pytest.mark.parametrize(
    ("cost", "matrix", "right"),
    [
        ((1, 1), ((1, 1),), (-1,)),
        ((1, 1, 0), ((1, 1, 0), (1, 0, 0), (0, 1, 1)), (1, 2, 5)),
        ((-1, -1), ((1, -1),), (0,)),
    ],
    ids=["infeasible", "infeasible too", "unbounded"],
)
def test_programs_without_a_minimum_are_told(cost: object, matrix: object, right: object) -> None:
    assert not solve(cost, matrix, right)[1]


@pytest.mark.parametrize("tasks", [2, 3, 6])
def test_a_linear_program_in_a_batch_gets_what_it_gets_alone(tasks: int) -> None:
    matrix = random_jacobian(1, 5, tasks, 2 * tasks, spread=1.0)
    right = (matrix * drawn(1, 5, 1, 2 * tasks)).sum(-1)
    # some are unbounded: they run on while the others stand still
    cost = random_jacobian(2, 5, 2 * tasks)
    together, solved = minimise_linear(cost, matrix, right)
    for run in range(5):
        part = slice(run, run + 1)
        alone, found = minimise_linear(cost[part], matrix[part], right[part])
        assert torch.equal(alone, together[part])
        assert torch.equal(found, solved[part])


@pytest.mark.parametrize("decades", [3, 6, 12])
def test_a_spread_of_scales_breaks_no_program(decades: int) -> None:
    size = 10.0**decades
    # max x for size·x <= 1 and x / size + y = 1: x = 1 / size
    matrix = ((size, 0, 1), (1 / size, 1, 0))
    solution, solved = solve((-1, 0, 0), matrix, (1, 1))
    assert solved
    torch.testing.assert_close(
        solution[:2], torch.tensor([1 / size, 1], dtype=torch.float64), rtol=1e-6, atol=0
    )
