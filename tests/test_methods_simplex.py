"""The simplex: its projection by its optimality conditions, and the methods that descend on it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.optimize
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jacobians import graded, random_jacobian, rows
from numpy.typing import NDArray
from torch import Tensor

from mtofront.methods import METHODS, Signals, aggregate, make, values_for
from mtofront.methods.simplex import nearest_on_simplex

vectors = st.lists(st.floats(-5, 5), min_size=1, max_size=8).map(
    lambda values: torch.tensor(values, dtype=torch.float64)
)


def nearest_by_enumeration(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    """The nearest of all faces' projections that are not negative."""
    best, nearest = np.inf, vector
    for size in range(1, len(vector) + 1):
        for face in itertools.combinations(range(len(vector)), size):
            point = np.zeros_like(vector)
            chosen = list(face)
            point[chosen] = vector[chosen] + (1 - vector[chosen].sum()) / size
            distance = float(((point - vector) ** 2).sum())
            if point.min() >= 0 and distance < best:
                best, nearest = distance, point
    return nearest


@settings(max_examples=200, deadline=None)
@given(vectors)
def test_projecting_satisfies_the_optimality_conditions(vector: Tensor) -> None:
    point = nearest_on_simplex(vector)
    assert (point >= 0).all()
    assert point.sum().item() == pytest.approx(1, abs=1e-14)
    # v − x is the same number on the support and nowhere larger
    multiplier = vector - point
    highest = multiplier.max()
    assert (highest - multiplier[point > 0]).max() <= 1e-13


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("tasks", [1, 2, 3, 6])
def test_projecting_finds_the_nearest_point_of_all_faces(seed: int, tasks: int) -> None:
    vector = (
        random_jacobian(seed, tasks)[..., 0] if tasks == 1 else random_jacobian(seed, 1, tasks)[0]
    )
    vector = vector.reshape(tasks)
    expected = nearest_by_enumeration(vector.numpy())
    np.testing.assert_allclose(nearest_on_simplex(vector).numpy(), expected, rtol=0, atol=1e-14)


def test_projecting_leaves_the_simplex_alone() -> None:
    point = torch.softmax(random_jacobian(1, 50, 7), dim=-1)
    torch.testing.assert_close(nearest_on_simplex(point), point, rtol=0, atol=1e-15)


@pytest.mark.parametrize("size", [1e12, 1e24, 1e300])
def test_projecting_large_numbers_keeps_the_sum(size: float) -> None:
    assert nearest_on_simplex(rows((-size, size, 0))[0]).tolist() == [0, 1, 0]
    assert nearest_on_simplex(rows((size, -size, size))[0]).tolist() == [0.5, 0, 0.5]
    assert nearest_on_simplex(rows((-size, -size))[0]).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_projecting_what_is_not_a_number_gives_none(bad: float) -> None:
    points = nearest_on_simplex(rows((0.2, bad, 0.1), (0.2, 0.4, 0.4)))
    assert points[0].isnan().all()
    torch.testing.assert_close(points[1], rows((0.2, 0.4, 0.4))[0])


def stepped(name: str, gramian: Tensor, minibatches: int, **hyper: object) -> Tensor:
    """A run's weights after some minibatches with the same gradients."""
    method, tasks = METHODS[name], gramian.shape[-1]
    values = values_for(make(name, **hyper), tasks)
    zeros = torch.zeros(tasks, dtype=torch.float64)
    state = method.init(zeros)
    for _ in range(minibatches):
        signals = Signals(zeros + 1, zeros[:0], gramian, independent=gramian)
        weights, state = method.step(signals, state, values)
    return weights


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("tasks", [2, 3, 5])
def test_modo_with_steady_gradients_comes_to_mgda(seed: int, tasks: int) -> None:
    jacobian = random_jacobian(seed, tasks, 8)
    weights = stepped("modo", jacobian @ jacobian.T, 3000, gamma=0.03)
    expected = aggregate("mgda", jacobian)
    torch.testing.assert_close(weights @ jacobian, expected, rtol=1e-6, atol=1e-6)


def test_modo_weighs_the_second_half_and_looks_along_the_first() -> None:
    products = rows((1, 2), (0, 1))
    # G w = (1.5, 0.5): from (0.5, 0.5) to (0.35, 0.45), projected (0.45, 0.55)
    torch.testing.assert_close(stepped("modo", products, 1), rows((0.45, 0.55))[0])


def test_modo_is_drawn_to_equal_weights_by_its_regularization() -> None:
    gramian = rows((1, 0), (0, 4))
    plain, drawn = (stepped("modo", gramian, 2000, gamma=0.05, rho=rho) for rho in (0.0, 2.0))
    torch.testing.assert_close(plain, rows((0.8, 0.2))[0])
    torch.testing.assert_close(drawn, rows((6 / 9, 3 / 9))[0])


def test_modo_forgets_a_minibatch_whose_gradients_were_not_finite() -> None:
    method, values = METHODS["modo"], values_for(make("modo"), 2)
    state = {"weights": rows((0.3, 0.7))[0]}
    broken = torch.full((2, 2), torch.inf, dtype=torch.float64)
    signals = Signals(torch.ones(2).double(), torch.zeros(0), broken, independent=broken)
    answer, after = method.step(signals, state, values)
    assert answer.isnan().all()
    assert after["weights"].tolist() == [0.3, 0.7]


def directed_by_scipy(jacobian: Tensor, strength: float) -> Tensor:
    """SDMGrad's direction from a general solver."""
    matrix, tasks = jacobian.numpy(), len(jacobian)
    pull = np.full(tasks, strength / tasks)
    found = scipy.optimize.minimize(
        lambda w: ((matrix.T @ (w + pull)) ** 2).sum(),
        np.full(tasks, 1 / tasks),
        jac=lambda w: 2 * matrix @ (matrix.T @ (w + pull)),
        bounds=[(0, 1)] * tasks,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    return torch.from_numpy((found.x + pull) @ matrix / (1 + strength))


@pytest.mark.parametrize("strength", [0.0, 0.3, 3.0])
@pytest.mark.parametrize(("tasks", "seed"), [(2, 0), (3, 1), (5, 2)])
def test_sdmgrad_finds_the_direction_that_it_is_defined_by(
    strength: float, tasks: int, seed: int
) -> None:
    jacobian = random_jacobian(seed, tasks, 8)
    direction = aggregate("sdmgrad", jacobian, strength=strength, weight_lr=0.5, steps=1000)
    expected = directed_by_scipy(jacobian, strength)
    torch.testing.assert_close(direction, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("tasks", [2, 4])
def test_sdmgrad_without_pull_is_mgda_and_with_much_of_it_the_mean(tasks: int) -> None:
    jacobian = random_jacobian(7, tasks, 9)
    alone = aggregate("sdmgrad", jacobian, strength=0, weight_lr=0.5, steps=1000)
    torch.testing.assert_close(alone, aggregate("mgda", jacobian), rtol=1e-6, atol=1e-6)
    pulled = aggregate("sdmgrad", jacobian, strength=1e8)
    torch.testing.assert_close(pulled, jacobian.mean(0), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("scale", [1e-10, 1e10])
def test_sdmgrad_is_blind_to_the_common_scale_of_the_gradients(scale: float) -> None:
    jacobian = random_jacobian(3, 4, 6)
    plain = aggregate("sdmgrad", jacobian, weight_lr=0.5)
    scaled = aggregate("sdmgrad", scale * jacobian, weight_lr=0.5)
    torch.testing.assert_close(scaled / scale, plain, rtol=1e-9, atol=1e-12)


def test_sdmgrad_goes_on_from_the_last_minibatch() -> None:
    gramian = random_jacobian(5, 3, 4)
    gramian = gramian @ gramian.T
    hyper = {"weight_lr": 0.1, "momentum": 0.0}
    twice = stepped("sdmgrad", gramian, 2, steps=7, **hyper)
    torch.testing.assert_close(twice, stepped("sdmgrad", gramian, 1, steps=14, **hyper))
    assert not torch.allclose(twice, stepped("sdmgrad", gramian, 1, steps=7, **hyper))


@pytest.mark.parametrize("name", ["modo", "sdmgrad"])
def test_norms_over_24_decades_leave_weights_on_the_simplex(name: str) -> None:
    jacobian = graded(6, 10, 12)
    weights = stepped(name, jacobian @ jacobian.T, 3)
    assert (weights >= 0).all()
    assert weights.sum().item() == pytest.approx(1)
