"""Packs whose tasks' gradients do not fit: taken in parts, to the same digits, in less memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from test_engine import Twin, final_losses, regression, runs_of, settings, spec
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mtofront.methods import METHODS, from_losses
from mtofront.problems import PROBLEMS, Problem, Split, Task
from mtofront.sweep import chunks, streamed
from mtofront.sweep.chunks import part_sizes
from mtofront.sweep.network import network
from mtofront.sweep.spec import RunSpec
from mtofront.sweep.train import start_course, train_pack

WITH_GRADIENTS = sorted(
    name
    for name, m in METHODS.items()
    if not m.scheme and (m.layer == "last" or not from_losses(m))
)


def in_parts(patch: pytest.MonkeyPatch, problem: Problem, specs: list[RunSpec]) -> np.ndarray:
    """The losses of a pack that is granted no memory, and so trains two or three runs at once."""
    with patch.context() as granted:
        granted.setattr(chunks, "PROCESSOR_BYTES", 1)
        return final_losses(train_pack(problem, specs))


@pytest.mark.parametrize("method", WITH_GRADIENTS)
def test_a_pack_in_parts_is_bit_for_bit_the_whole_pack(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = replace(PROBLEMS["multidigits"](train=96, val=24, test=24), name="p")
    specs = runs_of(method, 5)
    whole = final_losses(train_pack(problem, specs))
    assert np.array_equal(in_parts(monkeypatch, problem, specs), whole)


@pytest.mark.parametrize(
    ("method", "changes", "layer"),
    [
        ("mgda", {"treatment": {"level": "features"}}, nn.Identity()),
        ("cagrad", {"treatment": {"granularity": "tensor", "heads": "own"}}, nn.Identity()),
        ("graddrop", {"treatment": {"granularity": "tensor"}}, nn.Identity()),
        ("mgda", {"treatment": {"heads": "scaled", "norm": "scalarization"}}, nn.Identity()),
        ("pcgrad", {"weights": (0.2, 0.8), "optimizer": settings("sgd", clip=0.1)}, nn.Identity()),
        ("nash_mtl", {}, nn.Dropout(0.3)),
    ],
)
def test_treatments_and_masks_are_the_same_in_parts(
    method: str, changes: dict[str, Any], layer: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = regression(lambda: Twin(layer))
    specs = [spec(method, seed=n, lr=0.01 * (n + 1), **changes) for n in range(5)]
    whole = final_losses(train_pack(problem, specs))
    assert np.array_equal(in_parts(monkeypatch, problem, specs), whole)


def test_running_statistics_go_on_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = regression(lambda: Twin(nn.BatchNorm1d(8)))
    specs = runs_of("nash_mtl", 5)
    packs = [final_losses(train_pack(problem, specs[part])) for part in (slice(3), slice(3, 5))]
    # normalisation rounds by the number of runs at once: the parts are compared with such packs
    assert np.array_equal(in_parts(monkeypatch, problem, specs), np.concatenate(packs))


class Largest(TorchDispatchMode):
    """Notes how many numbers the largest tensor holds that any operation makes."""

    numbers = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        answer = func(*args, **(kwargs or {}))
        made = [v.untyped_storage().nbytes() // v.itemsize for v in tensors_in(answer)]
        self.numbers = max(self.numbers, *made, 0)
        return answer


def tensors_in(answer: Any) -> list[Tensor]:
    return [value for value in tree_leaves(answer) if isinstance(value, Tensor)]


class Wide(nn.Module):
    """Several tasks on a trunk of 2,010 parameters, many beside its rows of activations."""

    def __init__(self, tasks: int) -> None:
        super().__init__()
        self.trunk = nn.Linear(200, 10)
        self.heads = nn.ModuleList(nn.Linear(10, 1) for _ in range(tasks))

    def forward(self, inputs: Tensor) -> list[Tensor]:
        features = self.trunk(inputs)
        return [head(features).squeeze(-1) for head in self.heads]


@pytest.mark.parametrize("method", ["upgrad", "graddrop", "sdmgrad"])
def test_the_tasks_gradients_take_what_is_granted(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = torch.randn(8, 200, generator=torch.Generator().manual_seed(0))
    split = Split(inputs, tuple(inputs[:, k] for k in range(8)))
    tasks = tuple(Task(f"t{k}", nn.functional.mse_loss) for k in range(8))
    problem = Problem("wide", tasks, split, split, split, lambda: Wide(8))
    specs = [spec(method, seed=n, batch_size=4) for n in range(12)]
    one = 8 * 2010
    held = 1 if METHODS[method].needs == "gramian" and not METHODS[method].independent else 3
    for runs, granted in ((12, 2**28), (4, 4 * held * one * 4)):
        monkeypatch.setattr(chunks, "PROCESSOR_BYTES", granted)
        course = start_course(network(problem, specs[0]), specs)
        with Largest() as seen:
            course.train(0)
        assert seen.numbers == runs * one


STREAMED = sorted(
    name
    for name, m in METHODS.items()
    if m.needs == "gramian" and not from_losses(m) and not m.independent and not m.scheme
)


def five_tasks() -> Problem:
    """Five tasks in float64 on a trunk of 2,010 parameters."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(32, 200, generator=generator, dtype=torch.float64)
    targets = tuple(inputs[:, k : k + 9].sum(1).sin() for k in range(5))
    tasks = tuple(Task(f"t{k}", nn.functional.mse_loss) for k in range(5))
    split = Split(inputs, targets)
    return Problem("five", tasks, split, split, split, lambda: Wide(5).double())


def five_task_runs(method: str, treatment: dict[str, str], count: int) -> list[RunSpec]:
    weights = (0.1, 0.15, 0.2, 0.25, 0.3) if "weights" in METHODS[method].hyper else None
    run = spec(method, epochs=1, treatment=treatment, weights=weights)
    return [replace(run, seed=n) for n in range(count)]


@pytest.mark.parametrize(
    ("method", "treatment"),
    [
        *((method, {}) for method in STREAMED),
        ("mgda", {"heads": "weighted", "norm": "scalarization"}),
        ("cagrad", {"heads": "scaled", "losses": "log"}),
    ],
)
def test_a_streamed_gramian_trains_as_a_held_one(
    method: str, treatment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = five_tasks()
    specs = five_task_runs(method, treatment, 3)
    held = final_losses(train_pack(problem, specs))
    for rows in (2, 3, 4):  # blocks of one, two and three tasks, the last one smaller
        monkeypatch.setattr(streamed, "HELD", rows * 2010)
        with Largest() as seen:
            found = final_losses(train_pack(problem, specs))
        np.testing.assert_allclose(found, held, rtol=1e-9)
        assert seen.numbers < 3 * 5 * 2010
        if rows == 2:
            assert np.array_equal(final_losses(train_pack(problem, specs[:2])), found[:2])
            assert np.array_equal(in_parts(monkeypatch, problem, [*specs, *specs])[:3], found)


@pytest.mark.parametrize(
    ("method", "treatment"),
    [
        ("graddrop", {}),
        ("sdmgrad", {}),
        ("mgda", {"level": "features"}),
        ("mgda", {"granularity": "tensor"}),
    ],
)
def test_who_needs_the_gradients_themselves_holds_them(
    method: str, treatment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = five_tasks()
    specs = five_task_runs(method, treatment, 2)
    held = final_losses(train_pack(problem, specs))
    monkeypatch.setattr(streamed, "HELD", 1)
    assert np.array_equal(final_losses(train_pack(problem, specs)), held)


def test_parts_are_even_and_hold_at_least_two_runs() -> None:
    assert part_sizes(64, 64) == [64]
    assert part_sizes(64, 30) == [22, 21, 21]
    assert part_sizes(5, 2) == part_sizes(5, 0) == [3, 2]
    assert part_sizes(3, 1) == [3]
    assert part_sizes(1, 1) == [1]
    for runs in range(2, 40):
        for at_once in range(40):
            sizes = part_sizes(runs, at_once)
            assert sum(sizes) == runs and min(sizes) >= 2
            assert max(sizes) - min(sizes) <= 1
            assert max(sizes) <= max(at_once, 2 if runs % 2 == 0 else 3)
