"""Scalarizations: their gradients by automatic differentiation, their schedules step by step."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jacobians import random_jacobian, rows
from torch import Tensor

from mtofront.methods import METHODS, Signals, State, aggregate, make, values_for

NO_NOISE = torch.zeros(0, dtype=torch.float64)


def script(
    name: str, steps: list[tuple[int, tuple[float, ...]]], **hyper: object
) -> tuple[list[Tensor], State]:
    """A run's weights over steps of (epoch, losses), and its last state."""
    method, tasks = METHODS[name], len(steps[0][1])
    values = values_for(make(name, **hyper), tasks)
    state = method.init(torch.zeros(tasks, dtype=torch.float64))
    seen = []
    for epoch, losses in steps:
        weights, state = method.step(Signals(rows(losses)[0], NO_NOISE, epoch=epoch), state, values)
        seen.append(weights)
    return seen, state


def gradient(value: Callable[[Tensor], Tensor], losses: Tensor) -> Tensor:
    """Derivative (T,) of a scalarization at these losses."""
    free = losses.clone().requires_grad_()
    (found,) = torch.autograd.grad(value(free), free)
    return found


def intersection(losses: Tensor, preference: Tensor, theta: float) -> Tensor:
    """d₁ + θ d₂ by Pythagoras, without the vector that leads to the foot."""
    along = (losses @ preference) / preference.norm()
    return along + theta * (losses @ losses - along**2).sqrt()


def rewarded(losses: Tensor, preference: Tensor, strength: float) -> Tensor:
    """COSMOS's objective as torch computes it."""
    cosine = torch.nn.functional.cosine_similarity(losses, preference, dim=0)
    return losses @ preference - strength * cosine


OBJECTIVES = {"pbi": ("theta", intersection), "cosmos": ("strength", rewarded)}


@pytest.mark.parametrize("name", OBJECTIVES)
@settings(max_examples=60, deadline=None)
@given(pairs=st.lists(st.tuples(st.floats(0.05, 9), st.floats(0, 3)), min_size=2, max_size=5))
@pytest.mark.parametrize("price", [0.0, 0.7, 5.0])
def test_weights_are_the_gradient_of_the_scalarization(
    name: str, pairs: list[tuple[float, float]], price: float
) -> None:
    losses, preference = torch.tensor(pairs, dtype=torch.float64).T.contiguous()
    sine = 1 - torch.nn.functional.cosine_similarity(losses, preference, dim=0) ** 2
    if preference.sum() < 0.1 or sine < 1e-3:
        return
    key, objective = OBJECTIVES[name]
    weights = aggregate(
        name, torch.eye(len(losses)).double(), losses, weights=preference.tolist(), **{key: price}
    )
    expected = gradient(lambda free: objective(free, preference, price), losses)
    torch.testing.assert_close(weights, expected, rtol=1e-9, atol=1e-9)


def test_the_worked_value_of_penalty_boundary_intersection_is_reached_along_its_gradient() -> None:
    # PBI is homogeneous: its value is its gradient times the losses
    losses = rows((2, 0))[0]
    weights = aggregate("pbi", torch.eye(2).double(), losses, weights=(1, 1), theta=1)
    assert (weights @ losses).item() == pytest.approx(2 * 2**0.5)


@pytest.mark.parametrize("tasks", [1, 2, 3, 7])
def test_losses_on_the_preference_itself_feel_no_penalty(tasks: int) -> None:
    preference = torch.rand(tasks, generator=torch.Generator().manual_seed(tasks)).double() + 0.1
    weights = aggregate(
        "pbi",
        torch.eye(tasks).double(),
        3.7 * preference,
        weights=preference.tolist(),
        theta=1e3,
    )
    torch.testing.assert_close(weights, preference / preference.norm(), rtol=1e-12, atol=0)


def test_penalty_boundary_intersection_holds_any_ratio_on_a_concave_front() -> None:
    # losses 1 - exp(-(t - 1)²) and 1 - exp(-(t + 1)²), with a ratio of 1 to 2 wanted
    point = torch.zeros(1, dtype=torch.float64)
    for step in range(2000):
        distance = point - rows((1, -1))[0]
        kernel = torch.exp(-(distance**2))
        weights = aggregate("pbi", torch.eye(2).double(), 1 - kernel, weights=(1, 2), theta=5)
        slope = (weights * 2 * distance * kernel).sum()
        point = point - 0.02 * (1 - step / 2000) * slope
    ratio = (1 - torch.exp(-((point + 1) ** 2))) / (1 - torch.exp(-((point - 1) ** 2)))
    assert ratio.item() == pytest.approx(2, abs=1e-2)


def test_sampling_draws_every_task_as_often_as_its_weight_says() -> None:
    shares = aggregate("sampling", torch.eye(4).double().expand(20000, 4, 4), weights=(1, 0, 5, 2))
    assert torch.equal(shares.sum(-1), torch.ones(20000, dtype=torch.float64))
    assert shares.amax(-1).eq(1).all()
    assert shares[:, 1].sum() == 0
    error = 5 * (0.25 / 20000) ** 0.5
    torch.testing.assert_close(shares.mean(0), rows((1, 0, 5, 2))[0] / 8, rtol=0, atol=error)


@pytest.mark.parametrize("weights", [(0.1, 0.2, 0.0), (0.0, 0.0, 0.3), (0.0, 1e-9, 1e9), (0.3,)])
@pytest.mark.parametrize("drawn", [0.0, 0.5, 1 - 2.0**-53])
def test_sampling_never_draws_a_task_of_weight_zero(
    weights: tuple[float, ...], drawn: float
) -> None:
    values = values_for(make("sampling", weights=weights), len(weights))
    signals = Signals(torch.ones(len(weights)).double(), rows((drawn,))[0])
    answer, _ = METHODS["sampling"].step(signals, {}, values)
    assert answer.sum() == 1
    assert weights[int(answer.argmax())] > 0


def test_linear_divides_by_the_first_losses_for_the_whole_run() -> None:
    seen, state = script(
        "linear",
        [(0, (4, 1)), (0, (1, 9)), (3, (0, 0))],
        normalization="initial_loss",
        weights=(1, 3),
    )
    # (1/4, 3/1) has the sum 13/4, the weights have 4
    for weights in seen:
        torch.testing.assert_close(weights, rows((4 / 13, 48 / 13))[0])
    assert state["first"].tolist() == [4, 1]


def test_linear_without_normalization_looks_at_no_loss() -> None:
    seen, state = script("linear", [(0, (4, 1)), (0, (1, 9))], weights=(1, 3))
    assert [weights.tolist() for weights in seen] == [[1, 3], [1, 3]]
    assert state["first"].tolist() == [0, 0]


def test_linear_waits_with_its_first_losses_until_all_are_numbers() -> None:
    seen, state = script(
        "linear", [(0, (float("inf"), 1)), (0, (2, 1))], normalization="initial_loss"
    )
    assert seen[0].isnan().all()
    torch.testing.assert_close(seen[1], rows((1 / 3, 2 / 3))[0])
    assert state["first"].tolist() == [2, 1]


def test_smooth_tchebycheff_follows_the_authors_recipe() -> None:
    warm = [(0, (9, 9)), (1, (1, 3)), (1, (3, 5))]
    late = [(2, (1, 2)), (2, (6, 1)), (7, (0.5, 8))]
    seen, _ = script(
        "smooth_tchebycheff", warm + late, recipe="mtl", warmup=2, mu=0.5, weights=(0.3, 0.1)
    )
    for weights, (_, losses) in zip(seen, warm, strict=False):
        torch.testing.assert_close(weights, 1 / rows(losses)[0])
    # mean losses (2, 4) in epoch 1, the last of the warm-up; preferences (1.5, 0.5) have mean 1
    nadir, preference = rows((2, 4))[0], rows((1.5, 0.5))[0]
    for weights, (_, losses) in zip(seen[3:], late, strict=True):
        expected = gradient(
            lambda free: 2 * 0.5 * torch.logsumexp(preference * (free / nadir).log() / 0.5, dim=0),
            rows(losses)[0],
        )
        torch.testing.assert_close(weights, expected)


def test_smooth_tchebycheff_lets_every_run_warm_up_for_its_own_time() -> None:
    method = METHODS["smooth_tchebycheff"]
    values = dict(values_for(make("smooth_tchebycheff", recipe="mtl", mu=1.0), 2, (3,)))
    values["warmup"] = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64)
    state = method.init(torch.zeros(3, 2, dtype=torch.float64))
    losses = rows((2, 4)).expand(3, 2)
    counts = []
    for epoch in (0, 1, 1, 2):
        weights, state = method.step(Signals(losses, losses[:, :0], epoch=epoch), state, values)
        counts.append(state["count"].flatten().tolist())
    assert counts == [[0, 1, 0], [0, 1, 1], [0, 1, 2], [0, 1, 2]]
    # nadir 1 without a warm-up; else every ratio is 1 and the shares are equal
    torch.testing.assert_close(weights, rows((1 / 3, 1 / 3), (0.5, 0.25), (0.5, 0.25)))


def test_imtl_points_where_imtl_g_does_and_scales_as_imtl_l() -> None:
    jacobian, losses = random_jacobian(3, 4, 6, spread=0.5), rows((4, 1, 0.25, 2))[0]
    gramian = jacobian @ jacobian.T
    whole, scales = METHODS["imtl"], METHODS["imtl_l"]
    values = values_for(make("imtl", weight_lr=0.1), 4)
    state, scale_state = (method.init(torch.zeros(4).double()) for method in (whole, scales))
    impartial = aggregate("imtl_g", jacobian)
    for _ in range(4):
        signals = Signals(losses, NO_NOISE, gramian)
        weights, state = whole.step(signals, state, values)
        scale, scale_state = scales.step(signals, scale_state, values)
        direction = weights @ jacobian
        progress = jacobian @ direction / jacobian.norm(dim=1)
        torch.testing.assert_close(progress, progress[:1].expand(4))
        cosine = torch.nn.functional.cosine_similarity(direction, impartial, dim=0)
        assert abs(cosine.item()) == pytest.approx(1)
        # IMTL-G's weights sum to 1 on the scaled gradients
        assert (weights / scale).sum().item() == pytest.approx(1)


@pytest.mark.parametrize("base", ["mgda", "cagrad"])
def test_cr_mogm_averages_the_weights_of_its_base(base: str) -> None:
    method, values = METHODS["cr_mogm"], values_for(make("cr_mogm", base=base, alpha=0.75), 3)
    state, expected = method.init(torch.zeros(3).double()), None
    for seed in range(4):
        jacobian = random_jacobian(seed, 3, 5)
        signals = Signals(torch.ones(3).double(), NO_NOISE, jacobian @ jacobian.T)
        weights, state = method.step(signals, state, values)
        plain = METHODS[base]
        fresh, _ = plain.step(
            signals, plain.init(torch.zeros(3).double()), values_for(make(base), 3)
        )
        expected = fresh if expected is None else 0.75 * expected + 0.25 * fresh
        torch.testing.assert_close(weights, expected)


def test_cr_mogm_forgets_a_minibatch_whose_gradients_were_not_finite() -> None:
    method, values = METHODS["cr_mogm"], values_for(make("cr_mogm"), 2)
    state = method.init(torch.zeros(2).double())
    broken = Signals(torch.ones(2).double(), NO_NOISE, torch.full((2, 2), torch.nan).double())
    answer, state = method.step(broken, state, values)
    assert answer.isnan().all()
    clean = Signals(torch.ones(2).double(), NO_NOISE, rows((1, -1), (-1, 2)))
    answer, state = method.step(clean, state, values)
    torch.testing.assert_close(answer, rows((0.6, 0.4))[0])
    answer, state = method.step(broken, state, values)
    assert answer.isnan().all()
    torch.testing.assert_close(state["weights"], rows((0.6, 0.4))[0])
