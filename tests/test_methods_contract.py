"""Contract: what holds for every method of the registry, in every named setting."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from jacobians import CHAIN, IDENTICAL, NASTY, random_jacobian, random_rotation, rows
from torch import Tensor

import mtofront.methods.bargaining
import mtofront.methods.cone
import mtofront.methods.linear_program
import mtofront.methods.quadratic
import mtofront.methods.worst_case
from mtofront.methods import (
    METHODS,
    UNSOLVED,
    Choice,
    Count,
    Method,
    Number,
    Signals,
    State,
    Values,
    aggregate,
)

Setting = tuple[str, dict[str, Any]]


def settings() -> list[Setting]:
    """Every method with its defaults and with every other option of each of its choices."""
    found: list[Setting] = []
    for name, method in METHODS.items():
        found.append((name, {}))
        for key, kind in method.hyper.items():
            if isinstance(kind, Choice):
                found += [(name, {key: option}) for option in kind.options[1:]]
    return found


def label(setting: Setting) -> str:
    return "-".join((setting[0], *setting[1].values()))


every = pytest.mark.parametrize("setting", settings(), ids=label)


def is_deterministic(name: str) -> bool:
    return METHODS[name].noise(3) == 0


def prefers_a_region(name: str) -> bool:
    """A region of losses that the method heads for first, whatever the tasks have in common."""
    return "vector" in METHODS[name].hyper


def treats_tasks_alike(name: str) -> bool:
    named = "main" in METHODS[name].hyper or prefers_a_region(name)
    return is_deterministic(name) and not named


def draw_values(setting: Setting, batch: tuple[int, ...], tasks: int) -> Values:
    """Different hyper-parameters for every run of a batch, all within their ranges."""
    generator = torch.Generator().manual_seed(3)
    values: dict[str, Tensor | str | int] = {}
    for key, kind in METHODS[setting[0]].hyper.items():
        if isinstance(kind, Choice):
            values[key] = setting[1].get(key, kind.options[0])
        elif isinstance(kind, Count):
            values[key] = kind.default
        elif isinstance(kind, Number):
            factor = 0.5 + torch.rand(batch, generator=generator, dtype=torch.float64)
            if kind.whole:
                factor = torch.ones_like(factor)
            values[key] = (kind.default * factor).clamp(kind.low, kind.high)
        else:
            values[key] = torch.rand(*batch, tasks, generator=generator, dtype=torch.float64)
    return values


def draw_signals(method: Method, seed: int, jacobian: Tensor) -> Signals:
    """Positive losses and uniform noise for a Jacobian (..., T, P)."""
    generator = torch.Generator().manual_seed(seed)
    batch, tasks = jacobian.shape[:-2], jacobian.shape[-2]
    return Signals(
        losses=0.1 + torch.rand(*batch, tasks, generator=generator, dtype=torch.float64),
        noise=torch.rand(*batch, method.noise(tasks), generator=generator, dtype=torch.float64),
        gramian=jacobian @ jacobian.mT if method.needs == "gramian" else None,
        jacobian=jacobian if method.needs == "jacobian" else None,
        independent=jacobian @ jacobian.mT if method.independent else None,
        epoch=seed,
    )


def advance(method: Method, signals: Signals, state: State, values: Values) -> tuple[Tensor, State]:
    """One whole step: the answer, and the state after the method has seen the step's effect."""
    answer, state = method.step(signals, state, values)
    if method.after is not None:
        effect = signals.losses * torch.linspace(0.5, 0.9, signals.losses.shape[-1]).to(
            signals.losses
        )
        state = method.after(effect, state, values)
    return answer, state


def mapped(signals: Signals, change: Callable[[Tensor], Tensor]) -> Signals:
    """The signals with every tensor changed."""
    return replace(
        signals,
        losses=change(signals.losses),
        noise=change(signals.noise),
        gramian=None if signals.gramian is None else change(signals.gramian),
        jacobian=None if signals.jacobian is None else change(signals.jacobian),
        independent=None if signals.independent is None else change(signals.independent),
    )


def part(signals: Signals, run: slice) -> Signals:
    return mapped(signals, lambda tensor: tensor[run])


def part_of_values(values: Values, run: slice) -> Values:
    return {key: v[run] if isinstance(v, Tensor) else v for key, v in values.items()}


def fresh_state(method: Method, jacobian: Tensor) -> State:
    """The state before the first step, on the device of a Jacobian (..., T, P)."""
    return method.init(
        torch.zeros_like(jacobian if method.needs == "jacobian" else jacobian[..., 0])
    )


def steps_of(method: Method) -> int:
    """How many steps show all that a method does: one, unless it remembers."""
    return 3 if fresh_state(method, torch.zeros(2, 3)).keys() - {UNSOLVED} else 1


def trajectory(
    setting: Setting, jacobians: Tensor, steps: int = 3
) -> tuple[list[Tensor], list[State]]:
    """Answers and states of a batch over some steps, each with its own signals."""
    method = METHODS[setting[0]]
    batch, tasks = tuple(jacobians.shape[:-2]), jacobians.shape[-2]
    values = draw_values(setting, batch, tasks)
    state = fresh_state(method, jacobians)
    answers, states = [], []
    for step in range(steps):
        signals = draw_signals(method, step, jacobians * (1 + step))
        answer, state = advance(method, signals, state, values)
        answers.append(answer)
        states.append(state)
    return answers, states


@every
def test_nasty_jacobians_get_finite_answers(setting: Setting) -> None:
    method = METHODS[setting[0]]
    for case, jacobian in NASTY.items():
        tasks, parameters = jacobian.shape
        expected = (tasks,) if method.answers == "weights" else (parameters,)
        for answer in trajectory(setting, jacobian, steps=steps_of(method))[0]:
            assert answer.shape == expected, case
            assert answer.dtype == torch.float64, case
            assert torch.isfinite(answer).all(), case


@every
def test_zero_losses_get_a_finite_answer(setting: Setting) -> None:
    jacobian = random_jacobian(1, 3, 5)
    assert torch.isfinite(
        aggregate(setting[0], jacobian, losses=torch.zeros(3), **setting[1])
    ).all()


@every
@pytest.mark.parametrize("tasks", [1, 2, 3, 7])
def test_a_run_in_a_batch_gets_bit_for_bit_what_it_gets_alone(setting: Setting, tasks: int) -> None:
    method = METHODS[setting[0]]
    jacobians = random_jacobian(2, 6, tasks, 9, spread=1.0)
    values = draw_values(setting, (6,), tasks)
    together, states = trajectory(setting, jacobians, steps=steps_of(method))
    for run in (slice(0, 1), slice(3, 5)):
        state = fresh_state(method, jacobians[run])
        for step, answer in enumerate(together):
            signals = part(draw_signals(method, step, jacobians * (1 + step)), run)
            alone, state = advance(method, signals, state, part_of_values(values, run))
            assert torch.equal(alone, answer[run])
        assert all(torch.equal(value, states[-1][key][run]) for key, value in state.items())


@every
def test_leading_dimensions_do_not_matter(setting: Setting) -> None:
    jacobians, losses = random_jacobian(2, 2, 2, 3, 9), torch.rand(2, 2, 3)
    if not is_deterministic(setting[0]):
        jacobians, losses = jacobians[:1, :1], losses[:1, :1]
    together = aggregate(setting[0], jacobians, losses, **setting[1])
    for place in torch.cartesian_prod(*map(torch.arange, jacobians.shape[:2])).tolist():
        alone = aggregate(setting[0], jacobians[tuple(place)], losses[tuple(place)], **setting[1])
        torch.testing.assert_close(together[tuple(place)], alone, rtol=1e-6, atol=1e-7)


@every
@pytest.mark.parametrize("tasks", [2, 4])
def test_a_diverged_run_disturbs_no_neighbour(setting: Setting, tasks: int) -> None:
    method = METHODS[setting[0]]
    jacobians = random_jacobian(5, 4, tasks, 6)
    values = draw_values(setting, (4,), tasks)
    fresh = fresh_state(method, jacobians)
    clean = draw_signals(method, 0, jacobians)
    broken = draw_signals(method, 0, jacobians)
    for signal in (broken.losses, broken.gramian, broken.jacobian, broken.independent):
        if signal is not None:
            signal[1] = torch.nan
            signal[2].view(-1)[0] = torch.inf
    expected, _ = method.step(clean, fresh, values)
    answer, state = advance(method, broken, fresh, values)
    assert torch.equal(answer[[0, 3]], expected[[0, 3]])
    again, _ = method.step(clean, state, values)
    assert torch.isfinite(again[[0, 3]]).all()


@every
def test_a_diverged_jacobian_gives_a_diverged_direction(setting: Setting) -> None:
    jacobian = CHAIN.clone()
    jacobian[1, 1] = torch.nan
    losses = torch.ones(3)
    assert not torch.isfinite(aggregate(setting[0], jacobian, losses=losses, **setting[1])).all()


@every
def test_renaming_the_tasks_renames_the_weights(setting: Setting) -> None:
    name = setting[0]
    if not treats_tasks_alike(name):
        hyper = METHODS[name].hyper
        assert METHODS[name].noise(3) > 0 or "main" in hyper or "vector" in hyper
        return
    jacobian, losses = random_jacobian(6, 5, 8, spread=0.5), torch.rand(5, dtype=torch.float64)
    order = torch.tensor([3, 0, 4, 1, 2])
    straight = aggregate(name, jacobian, losses=losses, **setting[1])
    renamed = aggregate(name, jacobian[order], losses=losses[order], **setting[1])
    torch.testing.assert_close(renamed, straight, rtol=1e-7, atol=1e-9)


@every
def test_rotating_the_gradients_rotates_the_direction(setting: Setting) -> None:
    name = setting[0]
    if METHODS[name].needs == "jacobian":
        return
    jacobian, losses = random_jacobian(8, 4, 6, spread=0.5), torch.rand(4, dtype=torch.float64)
    rotation = random_rotation(9, 6)
    straight = aggregate(name, jacobian, losses=losses, **setting[1])
    rotated = aggregate(name, jacobian @ rotation, losses=losses, **setting[1])
    torch.testing.assert_close(rotated, straight @ rotation, rtol=1e-7, atol=1e-9)


@every
def test_equal_gradients_keep_their_direction(setting: Setting) -> None:
    if "density" in METHODS[setting[0]].hyper:  # it leaves the smallest coordinates out
        setting = (setting[0], {**setting[1], "density": 1.0})
    for jacobian in (IDENTICAL, rows((3, 4)), IDENTICAL[:1].repeat(4, 1)):
        losses = torch.linspace(1, 2, len(jacobian))
        if prefers_a_region(setting[0]):
            # equal gradients lead into no region, so the run has to be in it: its first vector's
            losses = torch.eye(len(jacobian))[0] + 0.01
        direction = aggregate(setting[0], jacobian, losses=losses, **setting[1])
        length = direction.norm()
        assert length > 0.05
        if METHODS[setting[0]].answers == "step":
            # an optimiser scales every coordinate apart; of the direction the signs remain
            assert torch.equal(direction.sign(), jacobian[0].sign())
            continue
        torch.testing.assert_close(direction / length, jacobian[0] / 5, rtol=1e-6, atol=1e-6)


@every
def test_the_same_seed_gives_the_same_answer_and_another_another(setting: Setting) -> None:
    jacobian, losses = random_jacobian(10, 6, 3), torch.rand(6)

    def answer(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return aggregate(setting[0], jacobian, losses, generator, **setting[1])

    assert torch.equal(aggregate(setting[0], jacobian, losses, **setting[1]), answer(0))
    others = (1,) if is_deterministic(setting[0]) else range(1, 8)
    differs = any(not torch.equal(answer(0), answer(seed)) for seed in others)
    assert differs == (not is_deterministic(setting[0]))


@every
def test_inputs_are_never_written_to(setting: Setting) -> None:
    method = METHODS[setting[0]]
    jacobians = random_jacobian(11, 3, 4, 5)
    values = draw_values(setting, (3,), 4)
    signals = draw_signals(method, 0, jacobians)
    state = fresh_state(method, jacobians)
    _, state = advance(method, signals, state, values)
    before = pickle.dumps((signals, dict(state), dict(values)))
    advance(method, signals, state, values)
    assert pickle.dumps((signals, dict(state), dict(values))) == before


@every
@pytest.mark.parametrize("tasks", [1, 2, 3])
def test_a_step_stays_on_its_device_and_never_waits_for_a_value(
    setting: Setting, tasks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    methods = mtofront.methods
    for solver in (methods.bargaining, methods.cone, methods.linear_program, methods.quadratic):
        monkeypatch.setattr(solver, "ITERATIONS", 1)
    for solver in (mtofront.methods.worst_case, mtofront.methods.quadratic):
        monkeypatch.setattr(solver, "PIVOTS", 1)
    method = METHODS[setting[0]]
    signals = draw_signals(method, 0, random_jacobian(1, 2, tasks, 5))
    values = draw_values(setting, (2,), tasks)
    # tensors without storage: reading one, or mixing in one from the CPU, raises
    answer, _ = advance(
        method,
        mapped(signals, lambda tensor: tensor.to("meta")),
        fresh_state(method, torch.zeros(2, tasks, 5, dtype=torch.float64, device="meta")),
        {key: v.to("meta") if isinstance(v, Tensor) else v for key, v in values.items()},
    )
    assert answer.is_meta
    assert answer.shape == (2, tasks if method.answers == "weights" else 5)


@every
def test_a_state_survives_being_written_down(setting: Setting) -> None:
    method = METHODS[setting[0]]
    jacobians = random_jacobian(12, 2, 3, 5)
    values = draw_values(setting, (2,), 3)
    state = trajectory(setting, jacobians)[1][-1]
    restored = pickle.loads(pickle.dumps(dict(state)))
    signals = draw_signals(method, 9, jacobians)
    expected, _ = method.step(signals, state, values)
    answer, _ = method.step(signals, restored, values)
    assert torch.equal(answer, expected)


@every
def test_every_state_tensor_has_the_batch_first(setting: Setting) -> None:
    jacobians = random_jacobian(13, 3, 2, 4, 5)
    method = METHODS[setting[0]]
    fresh = fresh_state(method, jacobians)
    states = trajectory(setting, jacobians)[1]
    for key, value in fresh.items():
        assert value.shape[:2] == (3, 2)
        assert all(state[key].shape == value.shape for state in states)
        assert all(state[key].dtype == value.dtype for state in states)
    assert all(state.keys() == fresh.keys() for state in states)


@every
def test_an_answer_that_depends_on_the_losses_asks_for_them(setting: Setting) -> None:
    name, hyper = setting
    jacobian = random_jacobian(14, 3, 5)
    one = aggregate(name, jacobian, losses=torch.tensor([1.0, 2.0, 3.0]), **hyper)
    other = aggregate(name, jacobian, losses=torch.tensor([3.0, 1.0, 0.5]), **hyper)
    if torch.equal(one, other):
        assert torch.equal(aggregate(name, jacobian, **hyper), one)
    else:
        with pytest.raises(ValueError, match="depends on the losses"):
            aggregate(name, jacobian, **hyper)


@every
def test_the_direction_has_the_dtype_of_the_jacobian(setting: Setting) -> None:
    jacobian, losses = random_jacobian(15, 3, 4, 6), torch.rand(3, 4)
    exact = aggregate(setting[0], jacobian, losses, **setting[1])
    single = aggregate(setting[0], jacobian.float(), losses, **setting[1])
    assert (exact.dtype, single.dtype) == (torch.float64, torch.float32)
    assert exact.shape == single.shape == (3, 6)
    torch.testing.assert_close(single.double(), exact, rtol=1e-3, atol=1e-3)
