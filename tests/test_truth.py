"""True fronts of the synthetic problems: attained, and beaten by no search."""

from __future__ import annotations

import itertools
from typing import Any

import moocore
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mtofront.problems import PROBLEMS, Problem
from mtofront.problems.truth import simplex_grid, truth_of

CASES: list[tuple[str, dict[str, Any]]] = [
    ("concave", {}),
    ("landscape", {}),
    ("quadratics", {}),
    ("quadratics", {"tasks": 3, "scale": 3.0, "noise": 0.3}),
    ("linear_bottleneck", {}),
    ("linear_bottleneck", {"cosines": [0.3, 0.3, 0.3]}),
    ("linear_bottleneck", {"width": 2}),
    ("linear_bottleneck", {"width": 3}),
]


def searched(problem: Problem, starts: int = 24, steps: int = 120) -> NDArray[np.float64]:
    """Test losses (n, T) along gradient descents from many starts, with random weights."""
    draw = np.random.default_rng(0)
    found = []
    for start in range(starts):
        torch.manual_seed(start)
        module = problem.model()
        optimizer = torch.optim.Adam(module.parameters(), lr=float(draw.choice([0.01, 0.05, 0.2])))
        weights = torch.from_numpy(draw.dirichlet(np.ones(len(problem.tasks))))
        for step in range(steps):
            outputs = module(problem.test.inputs)
            losses = torch.stack(
                [
                    task.loss(output, target)
                    for task, output, target in zip(
                        problem.tasks, outputs, problem.test.targets, strict=True
                    )
                ]
            )
            found.append(losses.detach().numpy())
            shares = weights * losses
            optimizer.zero_grad()
            (shares.sum() if step % 3 or start % 2 else shares.max()).backward()
            optimizer.step()
    return np.array(found, dtype=np.float64)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_no_search_finds_anything_beyond_a_true_front(name: str, options: dict[str, Any]) -> None:
    problem = PROBLEMS[name](**options)
    truth = problem.truth
    assert truth is not None
    front, reference = truth.front.numpy(), truth.reference.numpy()
    found = moocore.filter_dominated(searched(problem))
    spread = np.abs(reference - front.min(axis=0))
    ahead = ((front[None] - found[:, None]) / spread).min(axis=2).max()
    assert ahead < 3e-3  # a front is given by points, with gaps between them
    together = moocore.hypervolume(np.concatenate([front, found]), ref=reference)
    assert together <= truth.hypervolume * 1.005


@pytest.mark.parametrize(("name", "options"), [c for c in CASES if c[0] != "landscape"])
def test_gradient_descent_comes_close_to_a_true_front(name: str, options: dict[str, Any]) -> None:
    problem = PROBLEMS[name](**options)
    assert problem.truth is not None
    front, reference = problem.truth.front.numpy(), problem.truth.reference.numpy()
    found = searched(problem)[119::120]  # where each descent ended
    away = np.abs((front[None] - found[:, None]) / (reference - front.min(axis=0)))
    assert np.median(away.max(axis=2).min(axis=1)) < 0.03


def test_the_landscapes_truth_is_both_floors_together() -> None:
    truth = PROBLEMS["landscape"]().truth
    assert truth is not None
    assert truth.front.tolist() == [pytest.approx([-244.1215, -305.1518], abs=1e-4)]


def test_hypervolume_is_counted_from_a_tenth_beyond_the_worst_of_the_front() -> None:
    truth = truth_of(torch.tensor([[0.0, 4.0], [1.0, 2.0], [2.0, 0.0], [2.0, 3.0]]))
    assert truth.front.shape == (3, 2)  # the last one is dominated
    assert truth.reference.tolist() == pytest.approx([2.2, 4.4])
    assert truth.hypervolume == pytest.approx(2.2 * 0.4 + 1.2 * 2 + 0.2 * 2)


@pytest.mark.parametrize("tasks", [2, 3, 5])
def test_the_simplex_grid_is_all_of_a_lattice(tasks: int) -> None:
    grid = simplex_grid(tasks)
    assert torch.allclose(grid.sum(dim=1), torch.ones(len(grid), dtype=torch.float64))
    assert len(grid) >= 2000 and grid.min() >= 0
    corners = {tuple(row) for row in grid.tolist() if max(row) == 1.0}
    assert corners >= {
        tuple(float(k == n) for k in range(tasks)) for n in itertools.islice(range(tasks), tasks)
    }
