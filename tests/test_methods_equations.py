"""Oracles by equation: what the solutions of the direction-finding methods must satisfy."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
import torch
from jacobians import (
    CHAIN,
    CONFLICT,
    OPPOSITE,
    STATIONARY,
    TORCHJD,
    random_jacobian,
    rows,
)
from numpy.typing import NDArray
from torch import Tensor

from mtofront.methods import METHODS, Signals, Values, aggregate, make, values_for

Array = NDArray[np.float64]


def weights_of(name: str, jacobian: Tensor, **hyper: object) -> Tensor:
    """A deterministic method's weights (T,) in its first step, all losses 1."""
    zeros = torch.zeros(len(jacobian), dtype=torch.float64)
    signals = Signals(zeros + 1, zeros[:0], jacobian @ jacobian.T)
    values = values_for(make(name, **hyper), len(jacobian))
    return METHODS[name].step(signals, METHODS[name].init(zeros), values)[0]


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize(("tasks", "size", "spread"), [(2, 3, 2.0), (8, 50, 1.0), (40, 100, 1.0)])
def test_fairgrad_solves_its_equations(alpha: float, tasks: int, size: int, spread: float) -> None:
    jacobian = random_jacobian(1, tasks, size, spread=spread)
    weights = weights_of("fairgrad", jacobian, alpha=alpha)
    progress = jacobian @ (weights @ jacobian)
    assert (weights > 0).all()
    # the ridge leaves 1e-10 of a gradient's own part
    torch.testing.assert_close(
        weights * progress**alpha, torch.ones_like(weights), rtol=1e-6, atol=0
    )


@pytest.mark.parametrize("tasks", [2, 3, 6])
def test_nash_is_blind_to_every_tasks_scale(tasks: int) -> None:
    jacobian = random_jacobian(1, 50, tasks, 8)
    scales = torch.exp(3 * random_jacobian(2, 50, tasks, 1))
    direction = aggregate("nash_mtl", jacobian)
    rescaled = aggregate("nash_mtl", scales * jacobian)
    torch.testing.assert_close(rescaled, direction, rtol=1e-6, atol=1e-7)
    square = torch.full((50,), tasks, dtype=torch.float64)
    torch.testing.assert_close(direction.square().sum(-1), square, rtol=1e-6, atol=0)
    assert ((jacobian * direction.unsqueeze(1)).sum(-1) > 0).all()


@pytest.mark.parametrize("jacobian", [STATIONARY, OPPOSITE])
def test_nash_hardly_moves_at_a_pareto_stationary_point(jacobian: Tensor) -> None:
    assert aggregate("nash_mtl", jacobian).norm() < 1e-4


def nearest_without_conflict(jacobian: Array, target: Array) -> Array:
    """The projection of a vector onto {d: J d >= 0}, from its dual by Lawson and Hanson."""
    multipliers, _ = scipy.optimize.nnls(jacobian.T, -target)
    return np.asarray(target + multipliers @ jacobian)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("tasks", "size"), [(2, 3), (4, 6), (7, 5), (20, 40)])
def test_upgrad_and_dualproj_are_projections_onto_the_dual_cone(
    seed: int, tasks: int, size: int
) -> None:
    jacobian = random_jacobian(seed, tasks, size, spread=0.7)
    matrix = jacobian.numpy()
    rows_projected = [nearest_without_conflict(matrix, row) for row in matrix]
    expected = np.mean(rows_projected, axis=0)
    np.testing.assert_allclose(aggregate("upgrad", jacobian).numpy(), expected, atol=1e-6)
    expected = nearest_without_conflict(matrix, matrix.mean(axis=0))
    np.testing.assert_allclose(aggregate("dualproj", jacobian).numpy(), expected, atol=1e-6)


def test_imtl_g_moves_equally_far_along_every_gradient() -> None:
    jacobian = random_jacobian(2, 5, 8, spread=2.0)
    direction = aggregate("imtl_g", jacobian)
    along = (jacobian / jacobian.norm(dim=1, keepdim=True)) @ direction
    torch.testing.assert_close(along, along.mean().expand(5), rtol=1e-6, atol=0)
    weights = weights_of("imtl_g", rows((-1.4, 0.3), (-1.3, 0.5), (0.5, -0.6))[:, :2])
    torch.testing.assert_close(weights.sum().item(), 1.0)


def test_imtl_g_can_ascend_for_all_tasks_as_in_the_paper() -> None:
    jacobian = rows((1, 0.2, 0), (1, -0.2, 0), (0.01, 0, 0.001))
    weights = weights_of("imtl_g", jacobian)
    torch.testing.assert_close(weights, rows((-0.0086, -0.0086, 1.0172))[0], rtol=0, atol=1e-4)
    assert (jacobian @ (weights @ jacobian) < 0).all()


def test_config_has_the_same_cosine_with_every_gradient_and_their_length_along_it() -> None:
    jacobian = random_jacobian(3, 5, 8, spread=2.0)
    direction = aggregate("config", jacobian)
    unit = direction / direction.norm()
    cosine = (jacobian / jacobian.norm(dim=1, keepdim=True)) @ unit
    torch.testing.assert_close(cosine, cosine.mean().expand(5), rtol=1e-6, atol=0)
    assert direction.norm().item() == pytest.approx((jacobian @ unit).sum().abs().item())


@pytest.mark.parametrize("jacobian", [CONFLICT, TORCHJD, CHAIN, random_jacobian(4, 6, 9)])
def test_aligned_gradients_are_orthogonal_and_as_long_as_the_smallest_singular_value(
    jacobian: Tensor,
) -> None:
    tasks = len(jacobian)
    units = torch.eye(tasks).tolist()
    system = torch.stack([aggregate("aligned_mtl", jacobian, weights=unit) for unit in units])
    smallest = torch.linalg.svdvals(jacobian)[-1]
    expected = smallest**2 * torch.eye(tasks, dtype=torch.float64)
    torch.testing.assert_close(system @ system.T, expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", ["scale_invariant", "geometric_mean", "db_mtl", "emtl"])
def test_scaling_one_loss_changes_at_most_the_common_length(name: str) -> None:
    jacobian, losses = random_jacobian(7, 3, 5), rows((0.5, 1, 2))[0]
    scales = rows((1, 10, 0.2))[0]
    straight = aggregate(name, jacobian, losses)
    scaled = aggregate(name, scales.unsqueeze(1) * jacobian, scales * losses)
    cosine = torch.nn.functional.cosine_similarity(straight, scaled, dim=0)
    assert cosine.item() == pytest.approx(1, abs=1e-9)


def test_emtl_without_regularization_is_the_mean_of_unit_gradients() -> None:
    jacobian = random_jacobian(8, 4, 6, spread=1.0)
    direction = aggregate("emtl", jacobian, rows((1, 2, 3, 4))[0], strength=0.0)
    expected = (jacobian / jacobian.norm(dim=1, keepdim=True)).mean(0)
    torch.testing.assert_close(direction, expected)


def test_tchebycheff_reaches_the_middle_of_a_concave_front_where_linear_does_not() -> None:
    # losses 1 - exp(-(t - 1)²) and 1 - exp(-(t + 1)²), one run for each of three preferences
    preferences = rows((0.3, 0.7), (0.5, 0.5), (0.7, 0.3))

    def ends_of_descent(name: str) -> Tensor:
        values: Values = {"weights": preferences, "normalization": "none"}
        point = torch.full((3, 1), 0.05, dtype=torch.float64)
        for step in range(1200):
            distance = point - rows((1, -1))
            kernel = torch.exp(-(distance**2))
            signals = Signals(1 - kernel, point[:, :0])
            weights, _ = METHODS[name].step(signals, {}, values)
            slope = (weights * 2 * distance * kernel).sum(-1, keepdim=True)
            point = point - 0.1 * min(1.0, (1200 - step) / 600) * slope
        return point.squeeze(-1)

    expected = rows((-0.336, 0, 0.336))[0]
    torch.testing.assert_close(ends_of_descent("tchebycheff"), expected, rtol=0, atol=2e-3)
    assert (ends_of_descent("linear").abs() > 0.9).all()


def test_famo_trains_its_logits_as_torch_would() -> None:
    method, values = METHODS["famo"], values_for(make("famo", gamma=0.5, weight_lr=0.1), 3)
    assert method.after is not None
    logits = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.1, weight_decay=0.5)
    state = method.init(torch.zeros(3, dtype=torch.float64))
    for step in range(10):
        before = 0.1 + random_jacobian(step, 3).abs()
        after = before * rows((0.9, 0.5 + 0.05 * step, 1.2))[0]
        weights, state = method.step(Signals(before, before[:0]), state, values)
        share = torch.softmax(logits, dim=0)
        expected = share / before / (share / before).sum()
        torch.testing.assert_close(weights, expected.detach())
        optimizer.zero_grad()
        torch.autograd.backward(share @ (before.log() - after.log()))
        optimizer.step()
        state = method.after(after, state, values)
        torch.testing.assert_close(state["logits"], logits.detach())


@pytest.mark.parametrize(("name", "largest"), [("uncertainty", 0.5), ("imtl_l", 1.0)])
def test_a_loss_that_vanishes_gets_a_bounded_weight(name: str, largest: float) -> None:
    method, values = METHODS[name], values_for(make(name, weight_lr=1.0), 2)
    losses = torch.zeros(2, dtype=torch.float64)
    state = method.init(losses)
    for _ in range(30):
        weights, state = method.step(Signals(losses, losses[:0]), state, values)
    assert weights.tolist() == pytest.approx([largest * float(np.exp(10))] * 2)


@pytest.mark.parametrize("name", ["nash_mtl", "fairgrad", "imtl_g", "config", "db_mtl"])
@pytest.mark.parametrize("tasks", [2, 3])
def test_a_task_without_a_gradient_gets_no_weight(name: str, tasks: int) -> None:
    jacobian = random_jacobian(1, tasks, 4)
    jacobian[1] = 0
    weights = weights_of(name, jacobian)
    assert weights[1] == 0
    assert (weights[[0, -1][: tasks - 1]] != 0).all()


@pytest.mark.parametrize("distribution", ["normal", "dirichlet"])
@pytest.mark.parametrize("tasks", [1, 3])
def test_random_weights_survive_noise_that_is_exactly_zero(distribution: str, tasks: int) -> None:
    zeros = torch.zeros(tasks, dtype=torch.float64)
    values = {"distribution": distribution}
    weights, _ = METHODS["random"].step(Signals(zeros, zeros), {}, values)
    torch.testing.assert_close(weights, torch.full_like(zeros, 1 / tasks))
