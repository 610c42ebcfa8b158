"""Methods that remember coordinates, against literal loops over tasks and parameters."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from jacobians import CHAIN, CONFLICT, TORCHJD, random_jacobian, rows
from torch import Tensor

from mtofront.methods import METHODS, Signals, State, aggregate, make, values_for
from mtofront.methods.simplex import nearest_on_simplex

REMEMBERS = ("excess_mtl", "moco", "mtadam")


def run(
    name: str, jacobians: list[Tensor], losses: Tensor | None = None, **hyper: Any
) -> tuple[list[Tensor], State]:
    """Answers of one run's steps, and the last state; the steps' epochs count up from 0."""
    method, tasks = METHODS[name], len(jacobians[0])
    values = values_for(make(name, **hyper), tasks)
    state, answers = method.init(torch.zeros_like(jacobians[0])), []
    shown = torch.ones(tasks, dtype=torch.float64) if losses is None else losses
    for epoch, jacobian in enumerate(jacobians):
        signals = Signals(shown, shown[:0], jacobian=jacobian, epoch=epoch)
        answer, state = method.step(signals, state, values)
        answers.append(answer)
    return answers, state


def series(seed: int, steps: int, tasks: int, size: int) -> list[Tensor]:
    return list(random_jacobian(seed, steps, tasks, size, spread=0.5))


@pytest.mark.parametrize("tasks", [1, 2, 5, 40])
@pytest.mark.parametrize("spread", [0.1, 1.0, 1e6])
def test_the_projection_is_the_nearest_point_of_the_simplex(tasks: int, spread: float) -> None:
    points = spread * random_jacobian(1, 30, tasks)
    found = nearest_on_simplex(points)
    for point, nearest in zip(points.numpy(), found.numpy(), strict=True):
        low, high = point.min() - 1, point.max()
        for _ in range(200):  # the shift that makes the positive parts sum to 1, by bisection
            middle = (low + high) / 2
            low, high = (middle, high) if np.maximum(point - middle, 0).sum() > 1 else (low, middle)
        np.testing.assert_allclose(nearest, np.maximum(point - low, 0), atol=1e-14 * (1 + spread))
        assert nearest.sum() == pytest.approx(1, abs=1e-12)


def test_a_projection_of_nan_is_nan() -> None:
    broken = rows((0.2, float("nan")), (0.2, 0.4))
    assert nearest_on_simplex(broken)[0].isnan().all()
    torch.testing.assert_close(nearest_on_simplex(broken)[1], rows((0.4, 0.6))[0])


@pytest.mark.parametrize("name", REMEMBERS)
def test_what_is_remembered_of_coordinates_has_the_jacobians_dtype(name: str) -> None:
    exact, _ = run(name, series(1, 4, 3, 6))
    single, state = run(name, [jacobian.float() for jacobian in series(1, 4, 3, 6)])
    for answer, expected in zip(single, exact, strict=True):
        assert answer.dtype == torch.float64
        torch.testing.assert_close(answer, expected, rtol=1e-4, atol=1e-5)
    for value in state.values():
        wide = value.shape == (3, 6)
        assert value.dtype == (torch.float32 if wide else torch.float64)


@pytest.mark.parametrize("name", REMEMBERS)
@pytest.mark.parametrize("exponent", [-25, -12, 12, 18])
def test_single_precision_survives_gradients_of_any_size(name: str, exponent: int) -> None:
    jacobian = CHAIN.float() * 10.0**exponent
    answers, state = run(name, [jacobian, jacobian, jacobian.flip(0)])
    for value in (*answers, *state.values()):
        assert torch.isfinite(value).all()


@pytest.mark.parametrize("name", REMEMBERS)
def test_forty_tasks_get_the_same_digits_in_every_batch(name: str) -> None:
    method = METHODS[name]
    jacobians = random_jacobian(3, 4, 40, 131)

    def two_steps(part: slice) -> Tensor:
        shown = jacobians[part]
        losses = shown[..., 0].abs()
        values = values_for(make(name), 40, (len(shown),))
        state = method.init(torch.zeros_like(shown))
        _, state = method.step(Signals(losses, losses[:, :0], jacobian=shown), state, values)
        signals = Signals(losses, losses[:, :0], jacobian=2 * shown)
        return method.step(signals, state, values)[0]

    together = two_steps(slice(0, 4))
    assert torch.equal(two_steps(slice(1, 2)), together[1:2])
    assert torch.equal(two_steps(slice(2, 4)), together[2:])


def test_excess_mtl_moves_its_weights_as_worked_out_by_hand() -> None:
    (first, second), state = run("excess_mtl", [rows((1, 0), (0, 2)), rows((2, 0), (0, 2))])
    assert first.tolist() == [1, 1]
    # excess (1, 2), then (4/√5, 4/√8): 1.788854 and 0.707107 times the first
    gap = 1.788854 - 0.707107
    expected = 2 / (1 + math.exp(-gap))
    torch.testing.assert_close(second, rows((expected, 2 - expected))[0], rtol=1e-6, atol=0)
    torch.testing.assert_close(
        state["size"], rows((math.sqrt(5), 0), (0, math.sqrt(8))), rtol=1e-12, atol=0
    )


@pytest.mark.parametrize(("warmup", "rate"), [(0, 1.0), (0, 0.3), (3, 1.0)])
def test_excess_mtl_follows_its_equations(warmup: int, rate: float) -> None:
    jacobians = series(1, 6, 3, 4)
    answers, _ = run("excess_mtl", jacobians, warmup=warmup, weight_lr=rate)
    weights, total, excesses = np.ones(3), np.zeros((3, 4)), []
    for count, jacobian in enumerate(jacobians):
        squares = jacobian.numpy() ** 2
        total = total + squares
        excesses.append((squares / np.sqrt(total + 1e-7)).sum(1))
        if count >= max(warmup, 1):
            relative = excesses[-1] / np.mean(excesses[: max(warmup, 1)], axis=0)
            weights = weights * np.exp(rate * relative)
            weights = 3 * weights / weights.sum()
        np.testing.assert_allclose(answers[count].numpy(), weights, rtol=1e-10)


def test_excess_mtl_takes_a_late_tasks_scale_from_its_first_gradient() -> None:
    late = [rows((1, 0), (0, 0)), rows((1, 0), (0, 0)), rows((1, 0), (0, 5))]
    answers, state = run("excess_mtl", late)
    torch.testing.assert_close(state["first"], rows((1, 5))[0], rtol=1e-6, atol=0)
    # without a gradient no excess: only the first task's ratios 1 and 1/√2 were seen
    expected = 2 / (1 + math.exp(-1 - 1 / math.sqrt(2)))
    assert answers[1][0].item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("jacobian", [CONFLICT, TORCHJD, CHAIN, random_jacobian(1, 5, 8)])
def test_moco_on_exact_gradients_comes_to_mgdas_direction(jacobian: Tensor) -> None:
    gamma = 0.5 / (jacobian @ jacobian.T).trace().item()
    options = {"beta": 1.0, "beta_sigma": 0.0, "gamma": gamma, "gamma_sigma": 0.0}
    answers, _ = run("moco", [jacobian] * 3000, **options)
    torch.testing.assert_close(answers[-1], aggregate("mgda", jacobian), rtol=1e-5, atol=1e-5)


def test_moco_tracks_a_constant_gradient_geometrically() -> None:
    _, state = run("moco", [CHAIN] * 5, beta=0.3, beta_sigma=0.0)
    torch.testing.assert_close(state["tracked"], (1 - 0.7**5) * CHAIN)


@pytest.mark.parametrize("projection", ["simplex", "softmax"])
@pytest.mark.parametrize("normalization", ["none", "loss"])
def test_moco_follows_its_equations(projection: str, normalization: str) -> None:
    jacobians, losses = series(2, 5, 3, 4), rows((1.5, 0.5, 1))[0]
    options = {"beta": 0.8, "beta_sigma": 0.3, "gamma": 0.2, "gamma_sigma": 0.7, "rho": 0.1}
    choices = {"projection": projection, "normalization": normalization}
    answers, _ = run("moco", jacobians, losses, **options, **choices)
    tracked, weights = np.zeros((3, 4)), np.ones(3) / 3
    for count, jacobian in enumerate(jacobians, start=1):
        gradients = jacobian.numpy()
        if normalization == "loss":
            lengths = np.linalg.norm(gradients, axis=1)
            gradients = gradients * (losses.numpy() / lengths)[:, None]
        tracked = tracked - 0.8 / count**0.3 * (tracked - gradients)
        slope = (tracked @ tracked.T + 0.1 * np.eye(3)) @ weights
        weights = weights - 0.2 / count**0.7 * slope
        if projection == "softmax":
            weights = np.exp(weights) / np.exp(weights).sum()
        else:
            weights = nearest_on_simplex(torch.from_numpy(weights)).numpy()
        np.testing.assert_allclose(answers[count - 1].numpy(), weights @ tracked, rtol=1e-10)


def test_mtadam_for_one_task_is_adam() -> None:
    jacobians = series(3, 8, 1, 5)
    answers, _ = run("mtadam", jacobians, beta3=0.0)
    place = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([place], lr=0.1)
    for jacobian, answer in zip(jacobians, answers, strict=True):
        before = place.detach().clone()
        place.grad = jacobian[0].clone()
        adam.step()
        torch.testing.assert_close(before - 0.1 * answer, place.detach(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("main", [0, 2])
def test_mtadam_follows_its_equations(main: int) -> None:
    jacobians, ranks = series(4, 6, 3, 4), np.array([1.5, 0.5, 1.0])
    answers, _ = run("mtadam", jacobians, main=main, weights=tuple(3 * ranks), beta3=0.7)
    norm, first, second = np.zeros(3), np.zeros((3, 4)), np.zeros((3, 4))
    for count, jacobian in enumerate(jacobians, start=1):
        lengths = np.linalg.norm(jacobian.numpy(), axis=1)
        norm = lengths if count == 1 else 0.7 * norm + 0.3 * lengths
        for task in range(3):
            gradient = ranks[task] * norm[main] / norm[task] * jacobian[task].numpy()
            first[task] = 0.9 * first[task] + 0.1 * gradient
            second[task] = 0.999 * second[task] + 0.001 * gradient**2
        largest = np.sqrt(second.max(axis=0) / (1 - 0.999**count))
        expected = first.sum(axis=0) / (1 - 0.9**count) / (largest + 1e-8)
        np.testing.assert_allclose(answers[count - 1].numpy(), expected, rtol=1e-9)


def test_mtadam_does_not_see_the_other_tasks_scales() -> None:
    jacobians = series(5, 4, 3, 6)
    scales = rows((1,), (1e6,), (1e-6,))
    answers, _ = run("mtadam", jacobians)
    rescaled, _ = run("mtadam", [scales * jacobian for jacobian in jacobians])
    torch.testing.assert_close(rescaled, answers, rtol=1e-9, atol=1e-12)


def test_mtadam_takes_the_largest_norm_where_the_main_task_has_none() -> None:
    (answer,), _ = run("mtadam", [rows((0, 0), (3e-7, 0), (0, 4e-7))])
    # √v is 4e-7 for both coordinates, against ε = 1e-8
    torch.testing.assert_close(answer, rows((40 / 41, 40 / 41))[0])
