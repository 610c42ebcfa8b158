"""Fixed weights with a method's step lengths, and the weights nearest to a direction."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_engine import regression, spec
from torch import Tensor

from mtofront.methods import (
    METHODS,
    Evidence,
    HyperError,
    Signals,
    Treatment,
    aggregate,
    first_state,
    gramian_of,
    make,
    method_named,
    span_weights,
    updated,
    values_for,
)
from mtofront.sweep.arms import default_values
from mtofront.sweep.records import record_table
from mtofront.sweep.train import train_pack

ABLE = sorted(
    name
    for name, method in METHODS.items()
    if not method.scheme
    and method.answers != "step"
    and method.layer != "last"
    and not method.takes_weights
)


def evidence(step: int) -> Evidence:
    """Two runs of three tasks with five parameters."""
    draws = torch.Generator().manual_seed(step)
    halves = torch.randn(2, 2, 3, 5, generator=draws, dtype=torch.float64)
    return Evidence(
        losses=torch.rand(2, 3, generator=draws, dtype=torch.float64) + 0.5,
        noise=torch.rand(2, 40, generator=draws, dtype=torch.float64),
        jacobian=halves.mean(0),
        sizes=(5,),
        halves=(halves[0], halves[1]),
    )


def directions(name: str, **hyper: object) -> list[Tensor]:
    """What a method makes of three steps in a row, its state carried on."""
    configured, treatment = make(name, **hyper), Treatment()
    method, values = configured.method, values_for(configured, 3, (2,))
    state = first_state(method, treatment, torch.zeros(2, 3, dtype=torch.float64), (5,))
    found = []
    for step in range(3):
        now = evidence(step)
        now = replace(now, noise=now.noise[:, : method.noise(3)])
        update = updated(method, treatment, values, state, now)
        state = update.state
        found.append(update.direction)
    return found


@pytest.mark.parametrize("name", ABLE)
def test_it_points_along_fixed_weights_and_is_as_long_as_the_method(name: str) -> None:
    weights = np.array([0.2, 0.5, 0.9])
    own = directions(name)
    for step, direction in enumerate(directions(f"matched_norm:{name}", weights=list(weights))):
        fixed = np.einsum("t,ntp->np", weights, evidence(step).jacobian.numpy())
        lengths = np.linalg.norm(own[step].numpy(), axis=1, keepdims=True)
        expected = fixed / np.linalg.norm(fixed, axis=1, keepdims=True) * lengths
        np.testing.assert_allclose(direction.numpy(), expected, rtol=1e-6, atol=1e-12)


def test_methods_without_a_counterpart_say_why() -> None:
    for name in METHODS.keys() - set(ABLE):
        with pytest.raises(ValueError, match=f"matched_norm:{name} does not exist: {name} "):
            method_named(f"matched_norm:{name}")
    with pytest.raises(ValueError, match="did you mean 'pcgrad'"):
        method_named("matched_norm:pcgard")
    with pytest.raises(HyperError, match="matched_norm:cagrad has no hyper-parameter 'd'"):
        make("matched_norm:cagrad", d=1.0)


def test_a_step_costs_a_backward_pass_a_task() -> None:
    problem = regression()
    equal = spec("linear", weights=(0.5, 0.5), epochs=1, batch_size=64, lr=0.1)
    short = replace(
        equal, method="matched_norm:mgda", hyper=default_values(method_named("matched_norm:mgda"))
    )
    tables = [
        record_table(train_pack(problem, [one]), ["sine", "product"]).to_pandas()
        for one in (equal, short)
    ]
    costs = [t.loc[t["measure"] == "backward_passes", "value"].item() for t in tables]
    assert costs == [1, 2]


def test_span_weights_are_numpys_least_squares() -> None:
    draws = torch.Generator().manual_seed(3)
    jacobian = torch.randn(4, 3, 7, generator=draws, dtype=torch.float64)
    direction = torch.randn(4, 7, generator=draws, dtype=torch.float64)
    found = span_weights(direction, jacobian).numpy()
    for n in range(4):
        expected = np.linalg.lstsq(jacobian[n].numpy().T, direction[n].numpy(), rcond=None)[0]
        np.testing.assert_allclose(found[n], expected, rtol=1e-9)
    wanted = torch.tensor([0.5, 0.0, -2.0], dtype=torch.float64)
    inside = (wanted @ jacobian).float()
    np.testing.assert_allclose(
        span_weights(inside, jacobian.float()), wanted.expand(4, 3), atol=1e-4
    )


def test_span_weights_of_gradients_that_are_alike_zero_or_broken() -> None:
    one = torch.tensor([[1.0, 2.0, 0.0], [2.0, 4.0, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    broken = one.clone()
    broken[0, 0] = torch.nan
    direction = torch.tensor([3.0, 6.0, 5.0], dtype=torch.float64)
    found = span_weights(direction.expand(2, 3), torch.stack([one, broken]))
    # 3 times the first gradient, halved between two that point the same way
    np.testing.assert_allclose(found[0], [1.5, 0.75, 0.0], rtol=1e-9)
    assert found[1].isnan().all()


def test_graddrop_keeps_the_coordinates_that_its_weights_explain_best() -> None:
    jacobian = torch.tensor([[1.0, 2.0, -1.0], [2.0, -1.0, 3.0]], dtype=torch.float64)
    direction = aggregate("graddrop", jacobian, generator=torch.Generator().manual_seed(0))
    weights = span_weights(direction, jacobian)
    residual = weights @ jacobian - direction
    np.testing.assert_allclose(jacobian @ residual, 0, atol=1e-12)


def test_it_reads_no_more_than_its_method() -> None:
    jacobian = torch.eye(2, dtype=torch.float64)
    configured = make("matched_norm:uncertainty", weights=[3.0, 4.0])
    values = values_for(configured, 2)
    losses = torch.ones(2, dtype=torch.float64)
    state = configured.method.init(torch.zeros(2, dtype=torch.float64))
    signals = Signals(losses, losses[:0], gramian_of(jacobian))
    answer, _ = configured.method.step(signals, state, values)
    own, _ = method_named("uncertainty").step(
        Signals(losses, losses[:0]), state, values_for(make("uncertainty"), 2)
    )
    np.testing.assert_allclose(answer.norm(), own.norm())
    np.testing.assert_allclose(answer[1] / answer[0], 4 / 3)
