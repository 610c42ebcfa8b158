"""Oracles for gradient surgery: the papers' algorithms on the gradients themselves."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.optimize
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jacobians import (
    CHAIN,
    CONFLICT,
    IDENTICAL,
    ORTHOGONAL,
    TORCHJD,
    random_jacobian,
    rows,
)
from numpy.typing import NDArray
from torch import Tensor

from mtofront.methods import METHODS, Signals, aggregate, make, values_for
from mtofront.methods.graddrop import scattered
from mtofront.methods.gradvac import vaccinated

Array = NDArray[np.float64]


def test_two_task_surgery_is_twice_upgrad_and_also_gradops() -> None:
    jacobian = random_jacobian(1, 200, 2, 3, spread=1.0)
    direction = aggregate("pcgrad", jacobian)
    torch.testing.assert_close(2 * aggregate("upgrad", jacobian), direction, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(aggregate("gradops", jacobian), direction, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["upgrad", "gradops"])
def test_projections_are_linear_in_the_tasks_scales(name: str) -> None:
    jacobian = random_jacobian(5, 4, 6)
    first, second = rows((1, 2, 3, 4))[0], rows((5, 0.1, 1, 2))[0]
    scaled = [aggregate(name, c.unsqueeze(1) * jacobian) for c in (first, second)]
    mixed = aggregate(name, (0.3 * first + 0.6 * second).unsqueeze(1) * jacobian)
    torch.testing.assert_close(mixed, 0.3 * scaled[0] + 0.6 * scaled[1], rtol=1e-6, atol=1e-7)


def orthogonal_part(gradient: Array, others: Array) -> Array:
    share, *_ = np.linalg.lstsq(others.T, gradient, rcond=1e-9)
    return np.asarray(gradient - share @ others)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("tasks", "size"), [(3, 5), (4, 4), (5, 3), (20, 40)])
def test_gradops_keeps_what_is_orthogonal_to_all_others(seed: int, tasks: int, size: int) -> None:
    jacobian = random_jacobian(seed, tasks, size, spread=0.5)
    matrix = jacobian.numpy()
    expected = np.zeros(size)
    for task, gradient in enumerate(matrix):
        others = np.delete(matrix, task, axis=0)
        conflicts = (others @ gradient < 0).any()
        expected += orthogonal_part(gradient, others) if conflicts else gradient
    direction = aggregate("gradops", jacobian).numpy()
    np.testing.assert_allclose(direction, expected, atol=2e-5 * float(jacobian.norm()))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 5), st.floats(-3, 3), st.sampled_from(["1", "2"]))
def test_gradops_conflicts_with_no_task_in_any_setting(
    seed: int, tasks: int, alpha: float, p: str
) -> None:
    jacobian = random_jacobian(seed, tasks, 6)
    direction = aggregate("gradops", jacobian, alpha=alpha, p=p)
    assert (jacobian @ direction >= -1e-6 * jacobian.norm() * direction.norm()).all()


def vaccine_by_the_paper(jacobian: Array, orders: list[list[int]], target: Array) -> Array:
    """GradVac's loop, on the gradients themselves."""
    total = np.zeros(jacobian.shape[1])
    for task, order in enumerate(orders):
        gradient = jacobian[task].copy()
        for other in order:
            if other == task:
                continue
            own, length = np.linalg.norm(gradient), np.linalg.norm(jacobian[other])
            cosine, goal = gradient @ jacobian[other] / own / length, target[task, other]
            if cosine < goal:
                sine, sine_goal = math.sqrt(1 - cosine**2), math.sqrt(1 - goal**2)
                share = own * (goal * sine - cosine * sine_goal) / (length * sine_goal)
                gradient = gradient + share * jacobian[other]
        total += gradient
    return total


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("tasks", [2, 3, 6])
def test_gradvac_on_the_gramian_is_the_papers_algorithm_on_vectors(seed: int, tasks: int) -> None:
    jacobian = random_jacobian(seed, tasks, 8, spread=1.0)
    orders = random_jacobian(seed + 100, tasks, tasks).argsort(-1)
    target = torch.tanh(random_jacobian(seed + 200, tasks, tasks))
    coefficients, _ = vaccinated(jacobian @ jacobian.T, orders, target)
    expected = vaccine_by_the_paper(jacobian.numpy(), orders.tolist(), target.numpy())
    np.testing.assert_allclose(
        (coefficients.sum(0) @ jacobian).numpy(), expected, rtol=1e-8, atol=1e-9
    )


@pytest.mark.parametrize(
    ("jacobian", "expected"),
    [
        (CONFLICT, (0.788675, 1.788675)),
        (TORCHJD, (0.059564, 4.469646, 4.469646)),
        (ORTHOGONAL, (2.57735, 2.154701)),
        (CHAIN, (-0.371118, 1.449689, 2.644276)),
    ],
)
def test_gradvac_with_target_one_half_is_the_worked_example(
    jacobian: Tensor, expected: tuple[float, ...]
) -> None:
    tasks = len(jacobian)
    orders = torch.arange(tasks).expand(tasks, tasks)
    target = torch.full((tasks, tasks), 0.5, dtype=torch.float64)
    coefficients, _ = vaccinated(jacobian @ jacobian.T, orders, target)
    torch.testing.assert_close(
        coefficients.sum(0) @ jacobian, rows(expected)[0], rtol=1e-5, atol=1e-5
    )


def test_gradvac_targets_follow_the_cosines() -> None:
    method, values = METHODS["gradvac"], values_for(make("gradvac", beta=0.25), 2)
    noise = torch.zeros(4, dtype=torch.float64)
    state = method.init(torch.zeros(2, dtype=torch.float64))
    jacobian = random_jacobian(1, 2, 3)
    cosine = torch.nn.functional.cosine_similarity(jacobian[0], jacobian[1], dim=0)
    signals = Signals(torch.ones(2, dtype=torch.float64), noise, jacobian @ jacobian.T)
    for step in range(1, 4):
        _, state = method.step(signals, state, values)
        expected = cosine * (1 - 0.75**step)
        torch.testing.assert_close(state["target"][0, 1], expected)
        torch.testing.assert_close(state["target"][1, 0], expected)
    assert state["target"].diagonal().tolist() == [0, 0]


def test_weighted_pcgrad_lets_the_lower_priority_yield_more_often() -> None:
    jacobian = CONFLICT.expand(4000, 2, 2)
    directions = aggregate("weighted_pcgrad", jacobian, weights=(0.8, 0.2))
    first_yields = torch.tensor([-0.5, 1.5], dtype=torch.float64)
    share = (directions == first_yields).all(-1).double().mean().item()
    assert share == pytest.approx(0.2, abs=0.03)
    second_yields = torch.tensor([1.0, 1.0], dtype=torch.float64)
    assert ((directions == first_yields).all(-1) | (directions == second_yields).all(-1)).all()


@pytest.mark.parametrize("tasks", [3, 6])
def test_weighted_pcgrad_projects_exactly_one_of_every_conflicting_pair(tasks: int) -> None:
    # gradients at right angles but for one pair: whoever yields, one coefficient appears
    jacobian = torch.eye(tasks, dtype=torch.float64)
    jacobian[1, 0] = -1.0
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        direction = aggregate("weighted_pcgrad", jacobian, generator=generator)
        others = direction[2:].tolist()
        assert others == [1.0] * (tasks - 2)
        assert direction[:2].tolist() in ([-0.5, 1.5], [1.0, 1.0])


def test_graddrop_keeps_one_sign_a_coordinate_and_the_sum_on_average() -> None:
    jacobian = random_jacobian(6, 3, 5)
    directions = aggregate("graddrop", jacobian.expand(20000, 3, 5))
    positive, negative = jacobian.clamp_min(0).sum(0), jacobian.clamp_max(0).sum(0)
    is_positive = (directions - positive).abs() < 1e-12
    is_negative = (directions - negative).abs() < 1e-12
    assert (is_positive | is_negative).all()
    error = directions.std(0) / 20000**0.5
    assert ((directions.mean(0) - jacobian.sum(0)).abs() < 5 * error + 1e-12).all()


def splitmix64(seed: int, count: int) -> list[float]:
    """The published generator in Python's unbounded integers, from a seed mixed once."""
    mask = (1 << 64) - 1

    def mixed(bits: int) -> int:
        bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & mask
        bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & mask
        return bits ^ (bits >> 31)

    start = mixed(seed)
    states = [(start + k) * 0x9E3779B97F4A7C15 & mask for k in range(1, count // 2 + 2)]
    halves = [half for word in map(mixed, states) for half in (word & 0xFFFFFFFF, word >> 32)]
    # as signed numbers they start at -2^31, which stands for 0
    return [((half ^ 0x80000000) >> 8) * 2.0**-24 for half in halves[:count]]


@pytest.mark.parametrize("seed", [0, 1, 2**53 - 1, 123456789])
def test_scattered_numbers_are_the_published_generators(seed: int) -> None:
    for count in (50, 51, 1):
        numbers = scattered(torch.tensor([seed]), count)
        assert numbers.tolist() == splitmix64(seed, count)


def test_scattered_numbers_are_uniform_and_independent() -> None:
    numbers = scattered(torch.arange(200).unsqueeze(-1), 500)
    assert 0 <= numbers.min() < numbers.max() < 1
    assert scipy.stats.kstest(numbers.flatten().numpy(), "uniform").pvalue > 0.001
    columns = np.corrcoef(numbers.T[:20].numpy()) - np.eye(20)
    assert np.abs(columns).max() < 0.35


def test_grad_similarity_reaches_the_main_optimum_where_a_sum_stops_between() -> None:
    # L_main = (x - 10)², L_aux = x²: the sum has its minimum at 5
    for form in ("weighted", "unweighted"):
        point = -20.0
        for _ in range(400):
            jacobian = rows((2 * (point - 10),), (2 * point,))
            point -= 0.05 * aggregate("grad_similarity", jacobian, form=form).item()
        assert point == pytest.approx(10, abs=1e-6)


def test_metabalance_matches_running_norms() -> None:
    method, values = METHODS["metabalance"], values_for(make("metabalance", r=1.0), 2)
    state = method.init(torch.zeros(2, dtype=torch.float64))
    running = np.zeros(2)
    for lengths in ((2.0, 8.0), (1.0, 0.0), (4.0, 3.0)):
        gramian = torch.diag(rows(lengths)[0] ** 2)
        signals = Signals(torch.ones(2, dtype=torch.float64), gramian[0, :0], gramian)
        weights, state = method.step(signals, state, values)
        running = 0.9 * running + 0.1 * np.array(lengths)
        assert weights.tolist() == pytest.approx([1, running[0] / running[1]])


def test_identical_gradients_make_every_projection_their_sum_or_mean() -> None:
    for name, size in {"pcgrad": 2, "gradops": 2, "gradvac": 2, "upgrad": 1, "dualproj": 1}.items():
        torch.testing.assert_close(aggregate(name, IDENTICAL), size * IDENTICAL[0])
