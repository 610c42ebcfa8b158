"""No step waits for a device: on one that holds no numbers, every method trains all the same.

Tensors on torch's meta device have shapes and no values. Whatever asks for a value, or for a shape
that depends on one (item, bool, nonzero, masked_select, boolean indexing), raises there, as does
nothing else. Early exits that are taken on a processor alone, where a value costs nothing to read
(`arithmetic.settled`, `gramian.trusted`, the sparse paths of `quadratic`), are not taken on it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from test_engine import Twin, regression, settings, spec
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mtofront.methods import METHODS
from mtofront.problems import Problem, Split
from mtofront.sweep.network import Network, network
from mtofront.sweep.spec import RunSpec
from mtofront.sweep.train import start_course


class Copies(TorchDispatchMode):
    """Notes copies between the processor and another device: each may wait for what was queued."""

    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self._found = found

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        answer = func(*args, **(kwargs or {}))
        tensors = [v for v in tree_leaves((args, kwargs, answer)) if isinstance(v, Tensor)]
        copies = func.overloadpacket in (torch.ops.aten._to_copy, torch.ops.aten.copy_)
        if copies and len({tensor.device.type for tensor in tensors}) > 1:
            self._found.append(f"{func} {[tuple(tensor.shape) for tensor in tensors]}")
        return answer


class Made(TorchFunctionMode):
    """Notes tensors that are made of Python's numbers for another device: they are copied there."""

    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self._found = found

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        answer = func(*args, **(kwargs or {}))
        makers = (torch.tensor, torch.as_tensor, Tensor.new_tensor)
        if func in makers and answer.device.type != "cpu":
            self._found.append(f"{func} {args}")
        return answer


def valueless(problem: Problem, run: RunSpec, steps: int) -> Network:
    """The problem's network on the meta device, with training data for so many steps."""
    examined = network(problem, run)
    batch = run.batch_size
    train = Split(
        problem.train.inputs[: batch * steps].to("meta"),
        tuple(target[: batch * steps].to("meta") for target in problem.train.targets),
    )
    model = problem.model
    elsewhere = replace(problem, train=train, model=lambda: model().to("meta"))
    features = examined.features
    if features is not None:
        features = replace(features, row=features.row.to("meta"))
    return replace(examined, problem=elsewhere, module=elsewhere.model(), features=features)


def transfers(problem: Problem, specs: list[RunSpec], steps: int) -> list[str]:
    """What was copied in an epoch of so many steps."""
    course = start_course(valueless(problem, specs[0], steps), specs)
    if METHODS[specs[0].method].scheme == "merge":  # its second epoch is the one that differs
        course.train(0)
    found: list[str] = []
    with Copies(found), Made(found):
        course.train(1)
    return found


def check(problem: Problem, run: RunSpec) -> None:
    """A step reads no value, and copies between devices are the epoch's, not the step's."""
    specs = [replace(run, seed=n, lr=0.01 * (n + 1)) for n in range(3)]
    transfers(problem, specs, 1)  # what is copied once in a process
    few, many = (transfers(problem, specs, steps) for steps in (1, 2))
    assert few  # the epoch's permutations at least: what is noted is not nothing
    assert len(many) == len(few), many[-3:]


@pytest.mark.parametrize("method", sorted(METHODS))
def test_no_method_makes_a_step_wait(method: str) -> None:
    check(regression(), spec(method))


@pytest.mark.parametrize(
    "changes",
    [
        *({"optimizer": settings(name)} for name in ("adam", "adamw", "sgd", "momentum")),
        {"optimizer": settings("sgd", weight_decay=0.1, momentum=0.9, clip=0.5)},
        {"method": "mgda", "treatment": {"level": "features", "norm": "scalarization"}},
        {"method": "cagrad", "treatment": {"granularity": "tensor", "losses": "log"}},
        {"method": "pcgrad", "weights": (0.2, 0.8)},
    ],
    ids=str,
)
def test_no_optimizer_and_no_treatment_makes_a_step_wait(changes: dict[str, Any]) -> None:
    method = changes.pop("method", "linear")
    check(regression(), spec(method, **changes))


@pytest.mark.parametrize(
    "layer",
    [lambda: nn.Dropout(0.2), lambda: nn.BatchNorm1d(8), lambda: nn.LayerNorm(8)],
    ids=["dropout", "batch norm", "layer norm"],
)
def test_no_layer_makes_a_step_wait(layer: Callable[[], nn.Module]) -> None:
    check(regression(lambda: Twin(layer())), spec("pcgrad"))


def test_a_value_that_is_read_is_caught() -> None:
    class Reads(Twin):
        def forward(self, inputs: Tensor) -> list[Tensor]:
            first, second = super().forward(inputs)
            return [first, second] if bool(inputs.sum() > 0) else [second, first]

    with pytest.raises((RuntimeError, NotImplementedError)):
        check(regression(Reads), spec())
