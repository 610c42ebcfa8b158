"""Training in bfloat16: which tensors are narrow, what stays wide, and that packs still agree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_engine import Twin, final_losses, regression, runs_of, spec
from test_lowering import Pictures, pictures
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from mtofront.problems import PROBLEMS, Problem, Split, Task
from mtofront.sweep import load_config, plan
from mtofront.sweep.network import Tensors, network
from mtofront.sweep.precision import Narrowed
from mtofront.sweep.spec import spec_from_dict
from mtofront.sweep.train import start_course, train_pack

ATTENTION = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("layer", "shape", "narrow"),
    [
        (nn.Linear(8, 3), (4, 8), True),
        (nn.Linear(8, 3, bias=False), (4, 8), True),
        (nn.Conv2d(2, 3, 3), (4, 2, 5, 5), True),
        (nn.ConvTranspose1d(2, 3, 3), (4, 2, 5), True),
        (nn.Sequential(nn.Linear(8, 8), nn.ReLU()), (4, 8), True),
        (nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8)), (4, 8), False),
        (nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)), (4, 2, 5, 5), False),
        (nn.Sequential(nn.Linear(8, 8), nn.Softmax(-1)), (4, 8), False),
        (nn.Sequential(ATTENTION, nn.Linear(8, 2)), (4, 3, 8), True),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else str(value),
)
@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_products_are_narrow_and_what_they_would_blur_is_wide(
    layer: nn.Module, shape: tuple[int, ...], narrow: bool, packed: bool
) -> None:
    params, buffers = stack_module_state([layer, layer])
    inputs = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    seen: list[torch.dtype] = []

    def one(params: Tensors, buffers: Tensors, inputs: Tensor) -> Tensor:
        with Narrowed():
            output: Tensor = functional_call(layer, (params, buffers), (inputs,))
        seen.append(output.dtype)
        return output.float()

    if packed:
        output = vmap(one)(params, buffers, inputs)[0]
    else:
        output = one(*({k: v[0] for k, v in d.items()} for d in (params, buffers)), inputs[0])
    assert seen == [torch.bfloat16 if narrow else torch.float32]
    full = layer(inputs[0])
    assert not torch.equal(output, full)  # rounding to 8 bits cannot go unnoticed
    torch.testing.assert_close(output, full, rtol=0.05, atol=0.05)
    grads = torch.autograd.grad(output.square().sum(), list(params.values()))
    assert {grad.dtype for grad in grads} == {torch.float32}


@pytest.mark.parametrize(
    "product",
    [
        lambda a, b: a @ b,
        torch.matmul,
        Tensor.matmul,
        lambda a, b: torch.einsum("ij,jk->ik", a, b),
        lambda a, b: torch.addmm(a[0], a, b),
        lambda a, b: torch.bmm(a[None], b[None]),
    ],
)
def test_products_that_a_network_writes_out_are_narrow(product: Callable[..., Tensor]) -> None:
    a, b = torch.randn(2, 4, 4).unbind()
    with Narrowed():
        assert product(a, b).dtype == torch.bfloat16
        assert product(a.double(), b.double()).dtype == torch.float64
        assert product(a, b).log_softmax(-1).dtype == torch.float32
    assert product(a, b).dtype == torch.float32


class Layered(nn.Module):
    """A trunk that notes what its layers compute in."""

    def __init__(self, seen: list[torch.dtype]) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 8), nn.Tanh())
        self.heads = nn.ModuleList([nn.Linear(8, 1), nn.Linear(8, 1)])
        self._seen = seen

    def forward(self, inputs: Tensor) -> list[Tensor]:
        features = self.trunk(inputs)
        outputs = [head(features).squeeze(-1) for head in self.heads]
        self._seen += [features.dtype, outputs[0].dtype]
        return outputs


def floats(layers: list[torch.dtype], losses: list[torch.dtype]) -> Problem:
    """The engine tests' regression in float32, noting what layers and losses compute in."""

    def loss(output: Tensor, target: Tensor) -> Tensor:
        losses.append(output.dtype)
        return nn.functional.mse_loss(output, target)

    double = regression()
    train = double.train
    split = Split(train.inputs.float(), tuple(target.float() for target in train.targets))
    tasks = tuple(Task(task.name, loss) for task in double.tasks)
    return Problem("floats", tasks, split, split, split, lambda: Layered(layers))


@pytest.mark.parametrize("level", ["parameters", "features"])
def test_only_layers_are_narrow_while_a_run_trains(level: str) -> None:
    layers: list[torch.dtype] = []
    losses: list[torch.dtype] = []
    specs = [
        spec("mgda", seed=n, precision="bfloat16", treatment={"level": level}) for n in range(2)
    ]
    net = network(floats(layers, losses), specs[0])
    assert net.batched
    course = start_course(net, specs)
    layers.clear()
    losses.clear()
    course.train(0)
    assert set(layers[1::2]) == {torch.bfloat16}
    # gradients of a representation are taken in a tensor as wide as they are
    at_features = torch.float32 if level == "features" else torch.bfloat16
    assert set(layers[::2]) == {at_features}
    assert set(losses) == {torch.float32}
    shown = course.shown()[0]
    assert {value.dtype for value in shown.params.values()} == {torch.float32}
    layers.clear()
    net.measures(shown.params, shown.buffers, net.problem.val)
    assert set(layers) == {torch.float32}


@pytest.mark.parametrize("method", ["linear", "cagrad", "graddrop", "moco", "famo", "sdmgrad"])
def test_a_method_sees_losses_gradients_and_gramians_in_full(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mtofront.methods import METHODS
    from mtofront.sweep import pack

    shown: list[Any] = []
    known = METHODS[method]

    def step(signals: Any, state: Any, values: Any) -> Any:
        shown.append(signals)
        return known.step(signals, state, values)

    monkeypatch.setattr(pack, "method_named", lambda _: replace(known, step=step))
    specs = [replace(s, precision="bfloat16") for s in runs_of(method, 2)]
    start_course(network(floats([], []), specs[0]), specs).train(0)
    assert shown
    for signals in shown:
        assert signals.losses.dtype == torch.float64
        assert signals.gramian is None or signals.gramian.dtype == torch.float64
        assert signals.jacobian is None or signals.jacobian.dtype == torch.float32


@pytest.mark.parametrize("method", ["linear", "pcgrad", "nash_mtl", "graddrop"])
def test_a_narrow_run_is_bit_for_bit_the_same_in_any_pack(method: str) -> None:
    problem = replace(PROBLEMS["multidigits"](train=96, val=24, test=24), name="p")
    specs = [
        spec(method, seed=n, lr=0.003 * (1 + n % 3), precision="bfloat16", epochs=1)
        for n in range(64)
    ]
    pack = final_losses(train_pack(problem, specs))
    assert np.isfinite(pack).all()
    for part in (slice(2), slice(62, 64), slice(30, 33)):
        assert np.array_equal(final_losses(train_pack(problem, specs[part])), pack[part])


@pytest.mark.parametrize("method", ["linear", "cagrad"])
def test_narrow_training_ends_near_full_training(method: str) -> None:
    problem = replace(PROBLEMS["multidigits"](train=512, val=24, test=256), name="p")
    full = [spec(method, seed=n, epochs=4, batch_size=32, lr=0.003) for n in range(6)]
    ends = [
        final_losses(train_pack(problem, [replace(s, precision=p) for s in full]))[:, -2:]
        for p in ("float32", "bfloat16")
    ]
    assert not np.array_equal(*ends)
    start = np.log(10)  # of ten classes
    assert (ends[1] < 0.8 * start).all()
    np.testing.assert_allclose(ends[1].mean(0), ends[0].mean(0), rtol=0.1)


def test_hand_batched_convolutions_are_narrow() -> None:
    seen: list[torch.dtype] = []

    class Narrow(Pictures):
        def __init__(self) -> None:
            super().__init__()
            self.float()
            for part in (self.first, self.second, self.pool):
                part.register_forward_hook(lambda _, __, output: seen.append(output.dtype))

    double = pictures()
    train = Split(double.train.inputs.float(), tuple(t.float() for t in double.train.targets))
    problem = replace(double, train=train, val=train, test=train, model=Narrow)
    specs = [spec("mgda", seed=n, precision="bfloat16") for n in range(5)]
    net = network(problem, specs[0])
    assert net.lowered and net.batched
    course = start_course(net, specs)
    seen.clear()
    course.train(0)
    assert set(seen) == {torch.bfloat16}
    ends = [final_losses(train_pack(problem, some)) for some in (specs, specs[:2])]
    np.testing.assert_allclose(ends[0][:2], ends[1], rtol=0.01)
    full = [replace(s, precision="float32") for s in specs]
    np.testing.assert_allclose(ends[0], final_losses(train_pack(problem, full)), rtol=0.1)


def test_a_network_that_cannot_be_packed_trains_narrow_run_by_run() -> None:
    seen: list[torch.dtype] = []

    class Alpha(Layered):
        def forward(self, inputs: Tensor) -> list[Tensor]:
            return super().forward(nn.functional.alpha_dropout(inputs, 0.1, self.training))

    problem = replace(floats([], []), model=lambda: Alpha(seen))
    done = train_pack(problem, [spec("mgda", seed=n, precision="bfloat16") for n in range(2)])
    assert done.notice
    assert torch.bfloat16 in seen
    assert np.isfinite(final_losses(done)).all()


def test_double_networks_stay_double() -> None:
    problem = regression(Twin)
    specs = [spec("mgda", seed=n) for n in range(2)]
    narrow = [replace(s, precision="bfloat16") for s in specs]
    ends = [final_losses(train_pack(problem, some)) for some in (specs, narrow)]
    assert np.array_equal(*ends)


def test_precision_is_part_of_a_run_and_leaves_old_ids_alone(bowls: Path) -> None:
    plain = spec()
    narrow = replace(plain, precision="bfloat16")
    assert "precision" not in plain.as_dict()
    assert narrow.id != plain.id
    for one in (plain, narrow):
        assert spec_from_dict(one.as_dict()) == one
    # the id of this spec before there was a precision
    assert plain.id == "361c112214e90ab7"
    runs = plan(load_config(bowls, ["budget.precision=bfloat16"])).runs.values()
    assert {run.precision for run in runs} == {"bfloat16"}
