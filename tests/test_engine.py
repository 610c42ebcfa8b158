"""The engine against oracles: packs against single runs, and against a plain torch loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mtofront.methods import METHODS
from mtofront.problems import PROBLEMS, Problem, Split, Task
from mtofront.sweep.arms import default_values
from mtofront.sweep.network import fresh_module, network
from mtofront.sweep.spec import RunSpec
from mtofront.sweep.streams import minibatches
from mtofront.sweep.train import Trained, evaluation_epochs, train_pack


def settings(name: str, **changes: object) -> dict[str, object]:
    """An optimiser's settings as a spec holds them."""
    schedule = {
        "name": changes.pop("schedule", "constant"),
        "warmup": 0.0,
        "every": 0.4,
        "factor": 0.1,
    }
    base = {"weight_decay": 0.0, "momentum": 0.0, "schedule": schedule, "clip": None}
    return {"name": name, **base, **changes}


def spec(method: str = "linear", **changes: object) -> RunSpec:
    """A short run; `changes` are fields of the spec."""
    base = RunSpec(
        arm="a",
        method=method,
        problem="p",
        options={},
        seed=0,
        restart=0,
        lr=0.01,
        weights=(0.3, 0.7) if "weights" in METHODS[method].hyper else None,
        hyper=default_values(METHODS[method]),
        treatment={},
        optimizer=settings("adam"),
        epochs=2,
        batch_size=16,
        evaluations=2,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


class Twin(nn.Module):
    """Two regression heads on a small trunk; options add what real networks have."""

    def __init__(self, layer: nn.Module | None = None) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), layer or nn.Identity())
        self.heads = nn.ModuleList([nn.Linear(8, 1), nn.Linear(8, 1)])
        self.double()

    def forward(self, inputs: Tensor) -> list[Tensor]:
        features = self.trunk(inputs)
        return [head(features).squeeze(-1) for head in self.heads]


def regression(model: type[nn.Module] | object = Twin, rows: int = 64) -> Problem:
    generator = torch.Generator().manual_seed(0)

    def split() -> Split:
        inputs = torch.randn(rows, 5, generator=generator, dtype=torch.float64)
        return Split(inputs, (inputs.sum(1).sin(), inputs[:, 0] * inputs[:, 1]))

    tasks = tuple(Task(name, nn.functional.mse_loss) for name in ("sine", "product"))
    return Problem("regression", tasks, split(), split(), split(), model)  # type: ignore[arg-type]


def final_losses(trained: Trained) -> np.ndarray:
    last = max(m.step for m in trained.measurements)
    return np.stack([m.values for m in trained.measurements if m.step == last], axis=1)


def end_on_test(trained: Trained, run: int) -> tuple[int, list[float]]:
    """The last step, and what a run measures on the test split there."""
    last = max(m.step for m in trained.measurements)
    ends = [m for m in trained.measurements if m.step == last and m.split == "test"]
    return last, [m.values[run] for m in ends]


def runs_of(method: str, count: int) -> list[RunSpec]:
    return [
        spec(
            method,
            seed=n // 2,
            lr=0.003 * (1 + n % 3),
            weights=(0.1 * (n + 1), 1 - 0.1 * (n + 1))
            if "weights" in METHODS[method].hyper
            else None,
        )
        for n in range(count)
    ]


@pytest.mark.parametrize("method", sorted(METHODS))
def test_a_run_is_bit_for_bit_the_same_in_any_pack_and_at_any_place(method: str) -> None:
    problem = replace(PROBLEMS["multidigits"](train=160, val=40, test=40), name="p")
    specs = runs_of(method, 5)
    pack = final_losses(train_pack(problem, specs))
    turned = final_losses(train_pack(problem, specs[::-1]))[::-1]
    alone = np.concatenate([final_losses(train_pack(problem, [s])) for s in specs])
    assert np.array_equal(pack, turned)
    assert np.array_equal(pack, alone)
    assert len(np.unique(pack[:, 0])) == len(specs)


def plain_loop(problem: Problem, run: RunSpec, make: object) -> list[float]:
    """Scalarization as anyone would write it, with torch.optim: the final test losses."""
    module = fresh_module(problem, run)
    optimizer = make(module.parameters())  # type: ignore[operator]
    assert run.weights is not None
    for epoch in range(run.epochs):
        for rows in minibatches([run], len(problem.train), run.batch_size, epoch):
            outputs = module(problem.train.inputs[rows[0]])
            losses = [
                task.loss(output, target[rows[0]])
                for task, output, target in zip(
                    problem.tasks, outputs, problem.train.targets, strict=True
                )
            ]
            optimizer.zero_grad()
            sum(w * loss for w, loss in zip(run.weights, losses, strict=True)).backward()
            optimizer.step()
    module.eval()
    outputs = module(problem.test.inputs)
    return [
        task.loss(output, target).item()
        for task, output, target in zip(problem.tasks, outputs, problem.test.targets, strict=True)
    ]


SCHEDULES = {
    "constant": lambda done: 1.0,
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
    "linear": lambda done: 1 - done,
    "step": lambda done: 0.1 ** sum(done >= share - 1e-12 for share in (0.4, 0.8)),
}


@pytest.mark.parametrize("warmup", [0.0, 0.25])
@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_every_schedule_is_a_lambda_schedule_of_torch(name: str, warmup: float) -> None:
    schedule = {"name": name, "warmup": warmup, "every": 0.4, "factor": 0.1}
    run = spec(optimizer={**settings("adam"), "schedule": schedule}, epochs=5)
    problem = regression()
    steps = 5 * 4

    def rate(step: int) -> float:
        rise = min(1.0, (step + 1) / (warmup * steps)) if warmup else 1.0
        return float(rise * SCHEDULES[name](step / steps))

    def make(parameters: object) -> Scheduled:
        return Scheduled(torch.optim.Adam(parameters, lr=0.01), rate)  # type: ignore[arg-type]

    measured = final_losses(train_pack(problem, [run]))[0]
    np.testing.assert_allclose(measured[-2:], plain_loop(problem, run, make), rtol=1e-9)


class Scheduled:
    """An optimiser whose learning rate torch's own scheduler moves after every step."""

    def __init__(self, optimizer: torch.optim.Optimizer, rate: Callable[[int], float]) -> None:
        self.optimizer = optimizer
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)

    def zero_grad(self) -> None:
        self.optimizer.zero_grad()

    def step(self) -> None:
        self.optimizer.step()
        self.scheduler.step()


OPTIMIZERS = {
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.05),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.05),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.01, weight_decay=0.05),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.01, weight_decay=0.05, momentum=0.9),
}


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_training_equals_a_plain_torch_loop_in_double_precision(name: str) -> None:
    momentum = 0.9 if name == "momentum" else 0.0
    run = spec(optimizer=settings(name, weight_decay=0.05, momentum=momentum), epochs=25)
    problem = regression()
    trained = train_pack(problem, [run, replace(run, seed=1)])
    expected = plain_loop(problem, run, OPTIMIZERS[name])
    last, found = end_on_test(trained, 0)
    assert last == 100
    assert np.allclose(found, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("name", "optimizer"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)]
)
def test_adams_memory_is_the_one_that_is_given(
    name: str, optimizer: type[torch.optim.Adam]
) -> None:
    run = spec(optimizer=settings(name, beta2=0.9), epochs=25)
    problem, rest = regression(), {"lr": 0.01, "weight_decay": 0.0}
    trained = train_pack(problem, [run, replace(run, seed=1)])
    _, found = end_on_test(trained, 0)
    expected = plain_loop(problem, run, lambda p: optimizer(p, betas=(0.9, 0.9), **rest))
    usual = plain_loop(problem, run, lambda p: optimizer(p, **rest))
    assert np.allclose(found, expected, rtol=0, atol=1e-10)
    assert not np.allclose(found, usual, rtol=0, atol=1e-4)


def test_batch_normalisation_keeps_running_statistics_of_each_run() -> None:
    problem = regression(lambda: Twin(nn.BatchNorm1d(8)))
    run = spec(epochs=5)
    trained = train_pack(problem, [replace(run, seed=3), run])
    expected = plain_loop(problem, run, lambda p: torch.optim.Adam(p, lr=0.01))
    _, found = end_on_test(trained, 1)
    assert trained.notice == ""
    assert np.allclose(found, expected, rtol=0, atol=1e-10)


def test_layers_with_random_numbers_of_their_own_train_run_by_run_with_a_notice() -> None:
    problem = regression(lambda: Twin(nn.AlphaDropout(0.5)))
    specs = runs_of("linear", 3)
    together = train_pack(problem, specs)
    alone = np.concatenate([final_losses(train_pack(problem, [s])) for s in specs])
    assert "trunk.2" in together.notice and "AlphaDropout" in together.notice
    assert np.array_equal(final_losses(together), alone)


class Branching(nn.Module):
    """A network that asks for the value of a tensor, which no batched computation can."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Linear(5, 2).double()

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        features = self.trunk(inputs)
        if features.sum().item() > 0:
            features = 2 * features
        return features[:, 0], features[:, 1]


def test_a_network_that_cannot_be_batched_trains_run_by_run_with_a_notice() -> None:
    trained = train_pack(regression(Branching), runs_of("pcgrad", 2))
    assert trained.notice
    assert np.isfinite(final_losses(trained)).all()


def explode(output: Tensor, target: Tensor) -> Tensor:
    """A loss that is infinite once outputs are large, which a large learning rate brings about."""
    loss = (output - target).square().mean()
    return torch.where(loss > 50, torch.inf, loss)


def test_one_diverging_run_is_marked_with_its_step_and_leaves_the_others_alone() -> None:
    base = regression()
    problem = replace(base, tasks=tuple(Task(t.name, explode) for t in base.tasks))
    sgd = settings("sgd")
    good, bad = spec(optimizer=sgd), spec(optimizer=sgd, lr=1e4)
    for method in ("linear", "mgda", "cagrad", "gradnorm", "uncertainty"):
        weights = (0.5, 0.5) if method == "linear" else None
        hyper = default_values(METHODS[method])
        pack = [replace(s, method=method, weights=weights, hyper=hyper) for s in (good, bad, good)]
        trained = train_pack(problem, pack)
        alone = train_pack(problem, pack[:1])
        assert trained.diverged_at.tolist()[0] == trained.diverged_at.tolist()[2] == -1
        assert 0 < trained.diverged_at[1] <= 2
        assert np.array_equal(final_losses(trained)[0], final_losses(alone)[0])


def test_a_pack_of_diverged_runs_ends_at_the_next_evaluation() -> None:
    base = regression()
    problem = replace(base, tasks=tuple(Task(t.name, explode) for t in base.tasks))
    trained = train_pack(problem, [spec(lr=1e9, epochs=50, evaluations=50)])
    assert trained.diverged_at[0] >= 0
    assert max(m.epoch for m in trained.measurements) < 50


class SoftShared(nn.Module):
    """Three tasks: one parameter for all, one for the first two, one a task."""

    def __init__(self) -> None:
        super().__init__()
        self.all = nn.Parameter(torch.ones((), dtype=torch.float64))
        self.two = nn.Parameter(torch.ones((), dtype=torch.float64))
        self.own = nn.ParameterList(torch.ones((), dtype=torch.float64) for _ in range(3))

    def forward(self, inputs: Tensor) -> Sequence[Tensor]:
        common = inputs * self.all
        return [
            common * self.two * self.own[0],
            common + self.two + self.own[1],
            common + self.own[2],
        ]


def test_sharing_is_read_off_the_gradients() -> None:
    row = torch.ones(4, dtype=torch.float64)
    split = Split(row, (row, row, row))
    tasks = tuple(Task(name, nn.functional.mse_loss) for name in "abc")
    problem = Problem("soft", tasks, split, split, split, SoftShared)
    sharing = network(problem, spec()).sharing
    assert sharing.shared == ("all", "two")
    assert sharing.heads == (("own.0",), ("own.1",), ("own.2",))
    trained = train_pack(problem, [spec("pcgrad", epochs=3, batch_size=4)])
    assert np.isfinite(final_losses(trained)).all()


def test_evaluations_are_spread_evenly_and_include_the_untrained_network() -> None:
    assert sorted(evaluation_epochs(20, 5)) == [0, 4, 8, 12, 16, 20]
    assert sorted(evaluation_epochs(2, 5)) == [0, 1, 2]


def test_backward_passes_count_the_tasks_of_gradient_methods() -> None:
    problem = regression()
    steps = 2 * (64 // 16)
    for method, passes in (("linear", 1), ("random", 1), ("gradnorm", 1), ("pcgrad", 2)):
        assert train_pack(problem, [spec(method)]).backward_passes.tolist() == [passes * steps]
