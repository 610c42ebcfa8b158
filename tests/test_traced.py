"""Replayed steps against torch's own, bit for bit, and what is refused to be replayed."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_engine import Twin, final_losses, regression, runs_of, settings
from test_lowering import Pictures, pictures
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from mtofront.methods import METHODS, treatment_of
from mtofront.problems import PROBLEMS, Problem
from mtofront.sweep import pack
from mtofront.sweep.graphs import split_at, tidied
from mtofront.sweep.network import network
from mtofront.sweep.pack import start_pack, train_epoch
from mtofront.sweep.spec import RunSpec
from mtofront.sweep.traced import Replay
from mtofront.sweep.train import train_pack

aten = torch.ops.aten


def rows_after(
    problem: Problem, specs: list[RunSpec], monkeypatch: pytest.MonkeyPatch, worth: int
) -> tuple[Tensor, object]:
    """The trained numbers after an epoch, and how its passes were computed."""
    monkeypatch.setattr(pack, "WORTH_STEPS", worth)
    net = network(problem, specs[0])
    state = start_pack(net, specs)
    train_epoch(net, state, specs, 0)
    return torch.cat([state.storage.rows, *map(flat, state.buffers.values())], 1), state.tell


def flat(buffer: Tensor) -> Tensor:
    return buffer.reshape(len(buffer), -1).to(torch.float64)


@pytest.mark.parametrize("method", sorted(name for name, m in METHODS.items() if not m.scheme))
@pytest.mark.parametrize("level", ["parameters", "features"])
def test_every_method_takes_the_same_steps_replayed(
    method: str, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    treatment = {} if level == "parameters" else {"level": level}
    if treatment and not _allowed(method):
        pytest.skip("no such treatment for this method")
    problem = replace(PROBLEMS["multidigits"](train=160, val=40, test=40), name="p")
    specs = [replace(s, treatment=treatment) for s in runs_of(method, 3)]
    usual, _ = rows_after(problem, specs, monkeypatch, 10**9)
    again, tell = rows_after(problem, specs, monkeypatch, 1)
    assert isinstance(tell, Replay) and tell._script is not None
    assert torch.equal(usual, again)


def _allowed(method: str) -> bool:
    try:
        treatment_of(METHODS[method], {"level": "features"})
    except ValueError:
        return False
    return True


NETWORKS = {
    "convolutions, running statistics, dropped channels": lambda: pictures(
        lambda: Pictures(norm=True, drop=0.3)
    ),
    "batch normalisation": lambda: regression(lambda: Twin(nn.BatchNorm1d(8, dtype=torch.float64))),
    "dropout": lambda: regression(lambda: Twin(nn.Dropout(0.4))),
    "layer normalisation": lambda: regression(lambda: Twin(nn.LayerNorm(8, dtype=torch.float64))),
    "in-place activation": lambda: regression(
        lambda: Twin(nn.Sequential(nn.Linear(8, 8), nn.ReLU(inplace=True)))
    ),
}


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("method", ["linear", "pcgrad"])
def test_networks_of_all_kinds_train_the_same_replayed(
    kind: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = NETWORKS[kind]()
    specs = [replace(s, batch_size=8) for s in runs_of(method, 3)]
    usual, _ = rows_after(problem, specs, monkeypatch, 10**9)
    again, tell = rows_after(problem, specs, monkeypatch, 1)
    assert isinstance(tell, Replay) and tell._script is not None
    assert torch.equal(usual, again)


def test_a_replayed_pack_is_compacted_and_marks_divergence(monkeypatch: pytest.MonkeyPatch) -> None:
    specs = [
        replace(s, optimizer=settings("sgd"), lr=lr, epochs=6, evaluations=6)
        for s, lr in zip(runs_of("pcgrad", 3), (0.01, 1e8, 0.02), strict=True)
    ]
    outcomes = []
    for worth in (10**9, 1):
        monkeypatch.setattr(pack, "WORTH_STEPS", worth)
        outcomes.append(train_pack(regression(), specs))
    assert [int(at >= 0) for at in outcomes[1].diverged_at] == [0, 1, 0]
    assert np.array_equal(outcomes[0].diverged_at, outcomes[1].diverged_at)
    assert np.array_equal(*map(final_losses, outcomes), equal_nan=True)


class Moody(Twin):
    """Its activation depends on a number that no seed governs."""

    def forward(self, inputs: Tensor) -> list[Tensor]:
        return [output * random.random() for output in super().forward(inputs)]


def test_what_changes_from_step_to_step_is_not_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    _, tell = rows_after(regression(Moody), runs_of("linear", 2), monkeypatch, 1)
    assert isinstance(tell, Replay) and tell._script is None


def test_short_trainings_are_not_written_down() -> None:
    specs = runs_of("linear", 2)
    problem = regression()
    net = network(problem, specs[0])
    state = start_pack(net, specs)
    train_epoch(net, state, specs, 0)
    assert not isinstance(state.tell, Replay)


def test_memory_is_reused_only_where_nobody_looks_again() -> None:
    def function(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        seen = x * 2  # a view of it is answered: it must stay
        view = seen.view(-1)
        dead = x - y
        wide = (x[:1] + 1).relu() + dead  # broadcast: cannot hold the sum
        return view, torch.relu(seen), torch.relu(dead).neg(), wide, torch.relu(x)

    x, y = torch.randn(4, 3), torch.randn(4, 3)
    expected = function(x, y)
    module = tidied(make_fx(function)(x, y), [x.clone(), y.clone()])
    targets = [node.target for node in module.graph.nodes]
    assert aten.neg_.default in targets and aten.relu.default in targets
    kept = x.clone(), y.clone()
    for found, known in zip(module(*kept), expected, strict=True):
        assert torch.equal(found, known)
    assert torch.equal(kept[0], x) and torch.equal(kept[1], y)


def test_a_computation_is_cut_where_its_last_input_enters() -> None:
    def function(x: Tensor, answer: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        hidden = x.exp()
        return (hidden.sum(), x + 1), (hidden * answer, answer + 1, x.neg())

    x, answer = torch.randn(3), torch.randn(3)
    early, late = function(x, answer)
    first, second = split_at(make_fx(function)(x, answer), 1)
    outputs = first(x)
    for found, known in zip(outputs[:2], early, strict=True):
        assert torch.equal(found, known)
    for found, known in zip(second(*outputs[2:], answer), late, strict=True):
        assert torch.equal(found, known)
