"""Solvers at the limit: exact arithmetic as the oracle, and honesty where a tolerance is missed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import pytest
import torch
from jacobians import CONFLICT, NASTY, STATIONARY, graded, random_jacobian
from numpy.typing import NDArray
from torch import Tensor

import mtofront.methods.bargaining
import mtofront.methods.cone
import mtofront.methods.quadratic
import mtofront.methods.worst_case
from mtofront.methods import METHODS, UNSOLVED, Signals, State, make, values_for
from mtofront.methods.quadratic import shortest_above

Array = NDArray[np.float64]
Exact = list[Decimal]

SOLVERS = ("mgda", "upgrad", "dualproj", "cagrad", "nash_mtl", "fairgrad")
DIGITS = 120
"""Of the exact oracle: norms over 24 decades square to 48, and elimination takes its share."""


def weights_and_state(
    name: str, jacobian: Tensor, state: State | None = None, **hyper: Any
) -> tuple[Tensor, State]:
    """What a method's step answers to Jacobians (..., T, P), and its state after it."""
    method, batch, tasks = METHODS[name], tuple(jacobian.shape[:-2]), jacobian.shape[-2]
    zeros = torch.zeros(*batch, tasks, dtype=torch.float64)
    signals = Signals(zeros + 1, zeros[..., :0], jacobian @ jacobian.mT)
    before = method.init(zeros) if state is None else state
    return method.step(signals, before, values_for(make(name, **hyper), tasks, batch))


def unsolved(name: str, jacobian: Tensor, **hyper: Any) -> Tensor:
    """How many runs of a batch missed the tolerance in one step, each 0 or 1."""
    return weights_and_state(name, jacobian, **hyper)[1][UNSOLVED].squeeze(-1)


def exact_gramian(jacobian: Array) -> list[Exact]:
    rows = [[Decimal(float(value)) for value in row] for row in jacobian]
    return [
        [sum((a * b for a, b in zip(x, y, strict=True)), Decimal()) for y in rows] for x in rows
    ]


def solve_exactly(matrix: Sequence[Exact], right: Exact) -> Exact | None:
    """Gaussian elimination with row pivoting; None for a singular matrix."""
    table = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    size = len(table)
    for k in range(size):
        best = max(range(k, size), key=lambda i: abs(table[i][k]))
        table[k], table[best] = table[best], table[k]
        if abs(table[k][k]) < Decimal(10) ** -90:
            return None
        for i in range(k + 1, size):
            share = table[i][k] / table[k][k]
            if share:
                table[i] = [a - share * b for a, b in zip(table[i], table[k], strict=True)]
    answer = [Decimal()] * size
    for k in reversed(range(size)):
        known = sum((table[k][j] * answer[j] for j in range(k + 1, size)), Decimal())
        answer[k] = (table[k][size] - known) / table[k][k]
    return answer


def product(gramian: Sequence[Exact], left: Exact, right: Exact) -> Decimal:
    return sum(
        (a * gramian[i][j] * b for i, a in enumerate(left) if a for j, b in enumerate(right) if b),
        Decimal(),
    )


def on_face(gramian: Sequence[Exact], face: Sequence[int]) -> Exact | None:
    """Weights over all tasks of the shortest vector in the face's affine hull."""
    solution = solve_exactly(
        [[gramian[i][j] for j in face] for i in face], [Decimal(1)] * len(face)
    )
    if solution is None or sum(solution) == 0:
        return None
    weights = [Decimal()] * len(gramian)
    for task, value in zip(face, solution, strict=True):
        weights[task] = value / sum(solution)
    return weights


def length_of(gramian: Sequence[Exact], weights: Tensor) -> Decimal:
    """Length of the convex combination with these weights, whose sum is made exactly 1."""
    exact = [Decimal(float(w)) for w in weights]
    return product(gramian, exact, exact).sqrt() / sum(exact)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("tasks", "size", "decades"), [(3, 4, 0.0), (4, 4, 6.0), (5, 9, 6.0), (6, 8, 2.0), (6, 7, 9.0)]
)
def test_mgda_is_within_a_millionth_of_the_shortest_vector_of_all_faces(
    seed: int, tasks: int, size: int, decades: float
) -> None:
    sizes = torch.logspace(-decades, decades, tasks, dtype=torch.float64)
    jacobian = random_jacobian(seed, tasks, size) * sizes.unsqueeze(-1)
    weights, _ = weights_and_state("mgda", jacobian)
    with localcontext() as context:
        context.prec = DIGITS
        gramian = exact_gramian(jacobian.numpy())
        found = length_of(gramian, weights)
        best = found
        for count in range(1, tasks + 1):
            for face in itertools.combinations(range(tasks), count):
                candidate = on_face(gramian, face)
                if candidate is not None and min(candidate) >= 0:
                    best = min(best, product(gramian, candidate, candidate).sqrt())
        assert found / best < 1 + Decimal("1e-6")


@pytest.mark.parametrize(
    ("tasks", "size", "decades"), [(12, 20, 3.0), (20, 25, 6.0), (40, 60, 6.0), (40, 45, 8.0)]
)
def test_mgda_is_within_a_millionth_of_a_certified_bound_for_many_tasks(
    tasks: int, size: int, decades: float
) -> None:
    sizes = torch.logspace(-decades, decades, tasks, dtype=torch.float64)
    jacobian = random_jacobian(3, tasks, size) * sizes.unsqueeze(-1)
    weights, _ = weights_and_state("mgda", jacobian)
    with localcontext() as context:
        context.prec = DIGITS
        gramian = exact_gramian(jacobian.numpy())
        found = length_of(gramian, weights)
        # weak duality: no vector of the hull is shorter than min g_i·d / ‖d‖, for any d
        exact = on_face(gramian, [task for task in range(tasks) if weights[task] > 0])
        assert exact is not None
        reached = [
            sum((a * b for a, b in zip(row, exact, strict=True)), Decimal()) for row in gramian
        ]
        bound = min(reached) / product(gramian, exact, exact).sqrt()
        assert bound > 0
        assert found / bound < 1 + Decimal("1e-6")


def projection_miss(jacobian: Array, floor: Array, above: Array) -> float:
    """How far v is from the conditions of the nearest vector without conflict, all in shares.

    v >= floor, ĝ_i·d >= 0 and (v_i − floor_i) ‖g_i‖ · ĝ_i·d = 0, in units of ‖Σ floor_i g_i‖.
    """
    lengths = np.linalg.norm(jacobian, axis=1)
    unit = jacobian / np.where(lengths == 0, 1, lengths)[:, None]
    size = np.linalg.norm(floor @ jacobian)
    extra = (above - floor) * lengths / size
    # the direction from unit gradients, so that no size swamps another
    slack = unit @ ((above * lengths / size) @ unit)
    return float(max(-extra.min(), -slack.min(), np.abs(extra * slack).max()))


@pytest.mark.parametrize(
    ("tasks", "size", "spread"),
    [(3, 2, 0.0), (5, 4, 1.0), (8, 50, 2.0), (12, 6, 0.5), (40, 60, 0.0), (40, 45, 3.0)],
)
def test_projections_meet_their_optimality_conditions(tasks: int, size: int, spread: float) -> None:
    jacobians = random_jacobian(11, 6, tasks, size, spread=spread)
    gramian = jacobians @ jacobians.mT
    identity = torch.eye(tasks, dtype=torch.float64) / tasks
    each, _ = shortest_above(gramian, identity.expand_as(gramian))
    mean, _ = weights_and_state("dualproj", jacobians)
    torch.testing.assert_close(weights_and_state("upgrad", jacobians)[0], each.sum(-2))
    for matrix, rows, row in zip(jacobians.numpy(), each.numpy(), mean.numpy(), strict=True):
        assert projection_miss(matrix, np.full(tasks, 1 / tasks), row) < 1e-8
        for task in range(tasks):
            assert projection_miss(matrix, identity[task].numpy(), rows[task]) < 1e-8


@pytest.mark.parametrize("decades", [6.0, 12.0])
def test_projections_meet_their_conditions_with_norms_over_many_decades(decades: float) -> None:
    jacobian = graded(40, 60, decades)
    gramian = jacobian @ jacobian.mT
    identity = torch.eye(40, dtype=torch.float64) / 40
    each, solved = shortest_above(gramian, identity)
    assert solved.all()
    for task in range(40):
        miss = projection_miss(jacobian.numpy(), identity[task].numpy(), each[task].numpy())
        assert miss < 1e-8


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0, 10.0])
@pytest.mark.parametrize(
    ("tasks", "size", "spread"), [(3, 4, 1.0), (8, 50, 2.0), (40, 60, 0.0), (40, 60, 2.0)]
)
def test_bargaining_weights_satisfy_their_equations(
    alpha: float, tasks: int, size: int, spread: float
) -> None:
    jacobians = random_jacobian(5, 100, tasks, size, spread=spread)
    answers = [weights_and_state("fairgrad", jacobians, alpha=alpha)[0]]
    if alpha == 1:
        answers.append(weights_and_state("nash_mtl", jacobians)[0])
    for weights in answers:
        matrix, row = jacobians.numpy(), weights.numpy()
        products = np.einsum("nij,nj->ni", matrix @ matrix.transpose(0, 2, 1), row)
        assert np.abs(products * row ** (1 / alpha) - 1).max() < 1e-6


@pytest.mark.parametrize("name", SOLVERS)
def test_a_method_with_a_solver_counts_from_zero(name: str) -> None:
    state = METHODS[name].init(torch.zeros(5, 3, dtype=torch.float64))
    assert state.keys() == {UNSOLVED}
    assert state[UNSOLVED].tolist() == [[0.0]] * 5
    assert state[UNSOLVED].dtype == torch.float64


def test_no_other_method_counts() -> None:
    zeros = torch.zeros(3, 4, dtype=torch.float64)
    counting = {
        name
        for name, method in METHODS.items()
        if UNSOLVED in method.init(zeros if method.needs == "jacobian" else zeros[..., 0])
    }
    assert counting >= set(SOLVERS)
    assert not counting & {"linear", "pcgrad", "imtl_g", "aligned_mtl", "config"}


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize(("tasks", "size"), [(3, 5), (8, 20), (40, 60)])
@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_well_posed_problems_are_all_solved(
    name: str, tasks: int, size: int, spread: float
) -> None:
    jacobians = random_jacobian(21, 50, tasks, size, spread=spread)
    assert unsolved(name, jacobians).tolist() == [0.0] * 50


@pytest.mark.parametrize("name", ["mgda", "upgrad", "dualproj"])
@pytest.mark.parametrize("case", NASTY)
def test_projections_solve_the_degenerate_cases_too(name: str, case: str) -> None:
    assert unsolved(name, NASTY[case]).item() == 0


@pytest.fixture
def lazy_solvers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every solver stops after one step."""
    methods = mtofront.methods
    for solver in (methods.bargaining, methods.cone, methods.quadratic):
        monkeypatch.setattr(solver, "ITERATIONS", 1)
    for solver in (methods.worst_case, methods.quadratic):
        monkeypatch.setattr(solver, "PIVOTS", 1)
    monkeypatch.setattr(methods.bargaining, "POLISH", 1)


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.usefixtures("lazy_solvers")
def test_a_solver_that_stops_early_is_counted_in_every_step(name: str) -> None:
    jacobians = random_jacobian(22, 30, 8, 9, spread=1.0)
    _, once = weights_and_state(name, jacobians)
    assert once[UNSOLVED].mean().item() > 0.5
    assert set(once[UNSOLVED].unique().tolist()) <= {0.0, 1.0}
    _, twice = weights_and_state(name, jacobians, state=once)
    assert torch.equal(twice[UNSOLVED], 2 * once[UNSOLVED])


@pytest.mark.parametrize("name", sorted(set(SOLVERS) - {"fairgrad"}))
@pytest.mark.parametrize("tasks", [1, 2])
@pytest.mark.usefixtures("lazy_solvers")
def test_closed_forms_are_never_counted(name: str, tasks: int) -> None:
    assert unsolved(name, random_jacobian(23, 20, tasks, 4, spread=2.0)).sum().item() == 0


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.usefixtures("lazy_solvers")
def test_a_diverged_run_is_not_counted(name: str) -> None:
    jacobians = random_jacobian(24, 2, 8, 9, spread=1.0)
    jacobians[0, 3, 1] = torch.nan
    jacobians[1, 0, 0] = torch.inf
    assert unsolved(name, jacobians).tolist() == [0, 0]


@pytest.mark.parametrize(("name", "hyper"), [("nash_mtl", {}), ("fairgrad", {"alpha": 2.0})])
def test_bargaining_without_a_solution_is_counted(name: str, hyper: dict[str, float]) -> None:
    assert unsolved(name, STATIONARY, **hyper).item() == 1
    assert unsolved(name, CONFLICT, **hyper).item() == 0


def test_a_task_without_a_gradient_is_left_out_of_cagrad() -> None:
    others = random_jacobian(25, 3, 5)
    zero = torch.zeros(1, 5, dtype=torch.float64)
    weights, state = weights_and_state("cagrad", torch.cat([others, zero]))
    # the mean counts the task, the search for the best direction does not
    pull, _ = weights_and_state("cagrad", others)
    pulled = (pull - 1 / 3) / (pull - 1 / 3).sum()
    torch.testing.assert_close((weights - 1 / 4)[:3] / (weights - 1 / 4).sum(), pulled)
    assert weights[3].item() == pytest.approx(1 / 4)
    assert state[UNSOLVED].item() == 0
