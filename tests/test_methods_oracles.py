"""Oracles: each method against a literal, slow or certified solution that shares no code."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jacobians import CHAIN, NASTY, STATIONARY, graded, random_jacobian, rows
from numpy.typing import NDArray
from torch import Tensor

from mtofront.methods import METHODS, Signals, Values, aggregate, make, values_for
from mtofront.methods.pcgrad import surgery

Array = NDArray[np.float64]

jacobians = st.integers(1, 5).flatmap(
    lambda tasks: st.integers(1, 4).flatmap(
        lambda size: st.lists(
            st.lists(st.floats(-10, 10, width=32), min_size=size, max_size=size),
            min_size=tasks,
            max_size=tasks,
        ).map(lambda values: torch.tensor(values, dtype=torch.float64))
    )
)


def weights_of(
    name: str, jacobian: Tensor, losses: Tensor | None = None, **hyper: object
) -> Tensor:
    """A deterministic method's weights (T,) in its first step."""
    method, tasks = METHODS[name], len(jacobian)
    zeros = torch.zeros(tasks, dtype=torch.float64)
    signals = Signals(zeros + 1 if losses is None else losses, zeros[:0], jacobian @ jacobian.T)
    return method.step(signals, method.init(zeros), values_for(make(name, **hyper), tasks))[0]


def shortest_by_enumeration(jacobian: Array) -> float:
    """Squared length of the shortest vector in the hull: the best of all faces' projections."""
    best = np.inf
    for size in range(1, len(jacobian) + 1):
        for face in itertools.combinations(range(len(jacobian)), size):
            rest = jacobian[list(face)]
            edges = rest[1:] - rest[0]
            share, *_ = np.linalg.lstsq(edges.T, -rest[0], rcond=None)
            weights = np.concatenate([[1 - share.sum()], share])
            if (weights >= -1e-12).all():
                best = min(best, float(((weights @ rest) ** 2).sum()))
    return best


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("tasks", "size"), [(2, 3), (3, 2), (4, 6), (6, 4)])
def test_mgda_finds_the_shortest_vector_of_all_faces(seed: int, tasks: int, size: int) -> None:
    jacobian = random_jacobian(seed, tasks, size, spread=1.0)
    expected = shortest_by_enumeration(jacobian.numpy())
    length = aggregate("mgda", jacobian).square().sum().item()
    assert length == pytest.approx(expected, rel=1e-9, abs=1e-14)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("tasks", "size", "spread"), [(8, 20, 1.0), (20, 30, 2.0), (40, 60, 0.0), (40, 60, 3.0)]
)
def test_mgda_agrees_with_lawson_and_hanson_for_many_tasks(
    seed: int, tasks: int, size: int, spread: float
) -> None:
    jacobian = random_jacobian(seed, tasks, size, spread=spread)
    matrix = jacobian.numpy() / jacobian.norm(dim=1).min().item()
    # min over w >= 0 of |Jᵀw|² + (1 − Σw)² lies on the ray of the shortest convex combination
    ray, _ = scipy.optimize.nnls(
        np.vstack([matrix.T, np.ones(tasks)]), np.concatenate([np.zeros(size), [1.0]]), maxiter=4000
    )
    expected = float(((ray / ray.sum() @ jacobian.numpy()) ** 2).sum())
    length = aggregate("mgda", jacobian).square().sum().item()
    assert length == pytest.approx(expected, rel=1e-6)


def test_mgda_serves_forty_tasks_whose_norms_span_24_decades() -> None:
    jacobian = graded(40, 60, 12)
    direction = aggregate("mgda", jacobian)
    unit = jacobian / jacobian.norm(dim=1, keepdim=True)
    needed = direction.square().sum() / jacobian.norm(dim=1)
    # optimality of the shortest vector: g_i·d >= ‖d‖², here divided by ‖g_i‖
    assert (unit @ direction >= needed - 1e-7 * direction.norm()).all()


@settings(max_examples=40, deadline=None)
@given(jacobians)
def test_mgda_never_conflicts_and_beats_every_vertex(jacobian: Tensor) -> None:
    direction = aggregate("mgda", jacobian)
    square = direction.square().sum()
    slack = 1e-7 * (jacobian.norm(dim=1).max() ** 2) + 1e-12
    assert (jacobian @ direction >= square - slack).all()
    weights = weights_of("mgda", jacobian)
    assert (weights >= 0).all()
    assert weights.sum().item() == pytest.approx(1)


@pytest.mark.parametrize(
    ("setting", "power"), [("none", (0, 0)), ("l2", (1, 0)), ("loss", (0, 1)), ("loss+", (1, 1))]
)
def test_mgda_normalizations_divide_before_the_weights_are_sought(
    setting: str, power: tuple[int, int]
) -> None:
    jacobian, losses = random_jacobian(3, 4, 6), rows((0.5, 2, 1, 3))[0]
    lengths = jacobian.norm(dim=1)
    divided = jacobian / (lengths ** power[0] * losses ** power[1]).unsqueeze(1)
    expected = weights_of("mgda", divided)
    torch.testing.assert_close(
        weights_of("mgda", jacobian, losses, normalization=setting), expected, rtol=1e-8, atol=1e-9
    )


def cagrad_gap(matrix: Array, weights: Array, c: float) -> float:
    """How far weights can be from CAGrad's optimum, as a share of ‖g0‖ · max ‖g_i‖.

    A feasible direction d bounds the optimum from below by min g_i·d; every w in the simplex bounds
    it from above by g_w·g0 + c ‖g0‖ ‖g_w‖. The gap between the two certifies both.
    """
    mean = matrix.mean(axis=0)
    direction = weights @ matrix
    radius = c * np.linalg.norm(mean)
    assert np.linalg.norm(direction - mean) <= radius * (1 + 1e-9) + 1e-15
    extra = weights - 1 / len(matrix)
    assert (extra >= -1e-12 * abs(extra).max()).all()
    mixed = extra / extra.sum() @ matrix
    upper = mixed @ mean + radius * np.linalg.norm(mixed)
    longest = np.linalg.norm(matrix, axis=1).max()
    return float((upper - (matrix @ direction).min()) / (np.linalg.norm(mean) * longest))


@pytest.mark.parametrize("c", [0.05, 0.4, 0.9])
@pytest.mark.parametrize(
    ("tasks", "size", "spread"),
    [(2, 3, 1.0), (3, 2, 0.0), (5, 8, 1.0), (12, 6, 0.5), (40, 60, 0.0), (40, 60, 1.5)],
)
def test_cagrad_is_certified_optimal(c: float, tasks: int, size: int, spread: float) -> None:
    jacobians = random_jacobian(1, 8, tasks, size, spread=spread)
    ones = torch.ones(8, tasks, dtype=torch.float64)
    signals = Signals(ones, ones[:, :0], jacobians @ jacobians.mT)
    values = values_for(make("cagrad", c=c), tasks, batch=(8,))
    method = METHODS["cagrad"]
    weights, _ = method.step(signals, method.init(ones), values)
    for matrix, row in zip(jacobians.numpy(), weights.numpy(), strict=True):
        assert cagrad_gap(matrix, row, c) < 1e-6


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("tasks", [2, 3])
def test_cagrad_agrees_with_a_dense_grid_over_the_simplex(seed: int, tasks: int) -> None:
    matrix, c = random_jacobian(seed, tasks, 4).numpy(), 0.5
    line = np.linspace(0, 1, 401)
    if tasks == 2:
        grid = np.stack([line, 1 - line], axis=1)
    else:
        first, second = (axis.ravel() for axis in np.meshgrid(line, line))
        inside = first + second <= 1 + 1e-12
        grid = np.stack([first, second, 1 - first - second], axis=1)[inside]
    mean = matrix.mean(axis=0)
    radius = c * np.linalg.norm(mean)
    mixed = grid @ matrix
    value = mixed @ mean + radius * np.linalg.norm(mixed, axis=1)
    best = mixed[value.argmin()]
    expected = mean + radius * best / np.linalg.norm(best)
    direction = aggregate("cagrad", torch.from_numpy(matrix), c=c).numpy()
    assert np.abs(direction - expected).max() < 0.01 * np.linalg.norm(mean)


@settings(max_examples=20, deadline=None)
@given(jacobians, st.floats(0, 1))
def test_cagrad_stays_in_its_ball(jacobian: Tensor, c: float) -> None:
    direction = aggregate("cagrad", jacobian, c=c)
    mean = jacobian.mean(dim=0)
    assert torch.isfinite(direction).all()
    assert (direction - mean).norm() <= c * mean.norm() * (1 + 1e-6) + 1e-9


def surgery_by_the_paper(jacobian: Array, orders: Sequence[Sequence[int]]) -> Array:
    """Algorithm 1 of the paper, on the gradients themselves."""
    total = np.zeros(jacobian.shape[1])
    for task, order in enumerate(orders):
        gradient = jacobian[task].copy()
        for other in order:
            product = gradient @ jacobian[other]
            if other != task and product < 0:
                gradient -= product / (jacobian[other] @ jacobian[other]) * jacobian[other]
        total += gradient
    return total


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("tasks", "size"), [(2, 3), (3, 2), (5, 4), (20, 30)])
def test_pcgrad_on_the_gramian_is_the_papers_algorithm_on_vectors(
    seed: int, tasks: int, size: int
) -> None:
    jacobian = random_jacobian(seed, tasks, size, spread=1.0)
    noise = torch.rand(tasks, tasks, generator=torch.Generator().manual_seed(seed))
    orders = noise.argsort(-1)
    coefficients = surgery(jacobian @ jacobian.T, orders)
    expected = surgery_by_the_paper(jacobian.numpy(), orders.tolist())
    np.testing.assert_allclose((coefficients.sum(0) @ jacobian).numpy(), expected, atol=1e-9)


def test_pcgrad_takes_every_order_of_three_tasks_to_its_known_direction() -> None:
    expected = {
        (0, 1, 2): (-0.083333, 0.916667, 1.666667),
        (1, 0, 2): (0.166667, 0.666667, 1.666667),
        (1, 2, 0): (0.333333, 0.833333, 1.333333),
        (2, 1, 0): (0.333333, 0.833333, 1.333333),
        (2, 0, 1): (0.083333, 1.083333, 1.333333),
    }
    for order, direction in expected.items():
        orders = torch.tensor(order).expand(3, 3)
        weights = surgery(CHAIN @ CHAIN.T, orders).sum(0)
        torch.testing.assert_close(weights @ CHAIN, rows(direction)[0], rtol=1e-5, atol=1e-5)


def test_pcgrad_draws_a_new_order_for_every_task() -> None:
    jacobian = CHAIN.expand(4000, 3, 3)
    directions = aggregate("pcgrad", jacobian)
    error = directions.std(dim=0) / 4000**0.5
    expected = rows((0.125, 0.875, 1.5))[0]
    assert ((directions.mean(dim=0) - expected).abs() < 5 * error + 1e-9).all()


def test_pcgrad_can_move_away_from_a_pareto_stationary_point() -> None:
    orders = torch.arange(3).expand(3, 3)
    weights = surgery(STATIONARY @ STATIONARY.T, orders).sum(0)
    torch.testing.assert_close(weights @ STATIONARY, rows((-0.7, -0.4))[0])


@settings(max_examples=60, deadline=None)
@given(jacobians)
def test_pcgrad_of_two_tasks_never_conflicts(jacobian: Tensor) -> None:
    pair = torch.cat([jacobian, -jacobian.flip(-1)])[:2]
    direction = aggregate("pcgrad", pair)
    assert (pair @ direction >= -1e-6 * (1 + pair.norm() ** 2)).all()


def values_of(name: str, tasks: int, **hyper: object) -> Values:
    return values_for(make(name, **hyper), tasks)


@pytest.mark.parametrize("form", ["regression", "classification"])
def test_uncertainty_trains_its_variances_as_torch_would(form: str) -> None:
    losses = [rows((2 / (1 + step), 1 + 0.1 * step, 0.3))[0] for step in range(15)]
    method, values = METHODS["uncertainty"], values_of("uncertainty", 3, form=form, weight_lr=0.1)
    parameter = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([parameter], lr=0.1)
    state = method.init(torch.zeros(3, dtype=torch.float64))
    factor = 0.5 if form == "regression" else 1.0
    for loss in losses:
        weights, state = method.step(Signals(loss, loss[:0]), state, values)
        leaf = loss.clone().requires_grad_()
        optimizer.zero_grad()
        torch.autograd.backward((factor * torch.exp(-parameter) * leaf + parameter / 2).sum())
        assert leaf.grad is not None
        torch.testing.assert_close(weights, leaf.grad)
        optimizer.step()
        torch.testing.assert_close(state["log_variance"], parameter.detach())


@pytest.mark.parametrize("alpha", [0.0, 0.7, 1.5])
def test_gradnorm_trains_its_weights_as_automatic_differentiation_would(alpha: float) -> None:
    method, values = METHODS["gradnorm"], values_of("gradnorm", 3, alpha=alpha)
    generator = torch.Generator().manual_seed(1)
    state = method.init(torch.zeros(3, dtype=torch.float64))
    parameter = torch.ones(3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([parameter], lr=0.025)
    first = None
    for step in range(12):
        jacobian = random_jacobian(step, 3, 5)
        losses = 0.5 + torch.rand(3, generator=generator, dtype=torch.float64)
        first = losses if first is None else first
        weights, state = method.step(
            Signals(losses, losses[:0], jacobian @ jacobian.T), state, values
        )
        torch.testing.assert_close(weights, parameter.detach())
        lengths = (parameter.unsqueeze(1) * jacobian).norm(dim=1)
        rate = (losses / first) / (losses / first).mean()
        target = (lengths.mean() * rate**alpha).detach()
        optimizer.zero_grad()
        torch.autograd.backward((lengths - target).abs().sum())
        optimizer.step()
        with torch.no_grad():
            parameter *= 3 / parameter.sum()


def test_gradnorm_keeps_its_weights_positive_under_large_steps() -> None:
    method, values = METHODS["gradnorm"], values_of("gradnorm", 2, weight_lr=5.0, optimizer="sgd")
    gramian = torch.diag(rows((1, 100))[0])
    state = method.init(torch.zeros(2, dtype=torch.float64))
    for step in range(5):
        losses = rows((1 + step, 1 / (1 + step)))[0]
        _, state = method.step(Signals(losses, losses[:0], gramian), state, values)
        assert (state["weights"] > 0).all()
        assert state["weights"].sum().item() == pytest.approx(2)


def test_random_weights_are_softmax_normal_or_uniform_on_the_simplex() -> None:
    noise = torch.rand(20000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    signals = Signals(torch.ones(20000, 3, dtype=torch.float64), noise)
    method = METHODS["random"]
    normal, _ = method.step(signals, {}, {"distribution": "normal"})
    exponents = np.exp(scipy.stats.norm.ppf(noise.numpy()))
    expected = exponents / exponents.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(normal.numpy(), expected, rtol=1e-9)
    simplex, _ = method.step(signals, {}, {"distribution": "dirichlet"})
    assert scipy.stats.kstest(simplex[:, 0].numpy(), scipy.stats.beta(1, 2).cdf).pvalue > 0.01
    for weights in (normal, simplex):
        torch.testing.assert_close(weights.sum(-1), torch.ones(20000, dtype=torch.float64))
        assert (weights.mean(0) - 1 / 3).abs().max() < 0.01


def test_uncertainty_at_rest_points_where_the_sum_of_log_losses_does() -> None:
    losses, method = rows((0.2, 1, 7))[0], METHODS["uncertainty"]
    state = dict(method.init(torch.zeros(3, dtype=torch.float64)))
    state["log_variance"] = losses.log()
    weights, _ = method.step(Signals(losses, losses[:0]), state, values_of("uncertainty", 3))
    torch.testing.assert_close(weights, 0.5 / losses)


def test_a_singular_gramian_has_a_shortest_vector_of_length_zero() -> None:
    for case in ("opposite pairs", "forty tasks in the plane", "stationary"):
        jacobian = NASTY[case]
        length = aggregate("mgda", jacobian).norm().item()
        assert length == pytest.approx(0, abs=1e-6)
