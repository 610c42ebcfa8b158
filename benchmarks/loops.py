"""Ways to train what the throughput benchmark times: packs of ours, and loops of one run.

Each maker returns a function that takes a number of optimiser steps and answers how many
model-steps it took; a pack of N takes N at each step.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from peers import libmtl_module
from torch import Tensor, nn
from workloads import ROWS, Workload, problem_of, shortened

from mtofront.methods import METHODS
from mtofront.problems import Problem, Split
from mtofront.sweep.arms import default_values
from mtofront.sweep.course import Shown
from mtofront.sweep.evaluate import measure_pack
from mtofront.sweep.network import network
from mtofront.sweep.pack import start_pack, train_epoch
from mtofront.sweep.spec import RunSpec

Advance = Callable[[int], int]

RATE = 1e-3
EPOCHS_PER_EVALUATION = 4
"""Five evaluations in twenty epochs."""
SCHEDULE = {"name": "constant", "warmup": 0.0, "every": 1 / 3, "factor": 0.1}
LIBMTL_SETTINGS: dict[str, dict[str, Any]] = {
    "EW": {},
    "PCGrad": {},
    "MGDA": {"mgda_gn": "none"},
    "CAGrad": {"calpha": 0.4, "rescale": 1},
    "Nash_MTL": {"update_weights_every": 1, "optim_niter": 20, "max_norm": 1.0},
}
TORCHJD_SETTINGS: dict[str, dict[str, Any]] = {"CAGrad": {"c": 0.4}}


@dataclass(frozen=True)
class Batches:
    """Training rows in a new random order every epoch, indexed from tensors in memory."""

    split: Split
    size: int

    def forever(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs (B, ...) and targets (T, B)."""
        inputs, targets = self.split.inputs, torch.stack(self.split.targets)
        while True:
            for rows in torch.randperm(len(inputs), device=inputs.device).split(self.size):
                yield inputs[rows], targets[:, rows]


def specs_of(workload: Workload, runs: int, method: str, level: str) -> list[RunSpec]:
    """Runs of one pack: two learning rates, and weights of their own where the method takes any."""
    takes = "weights" in METHODS[method].hyper
    shares = torch.linspace(0.5, 1.5, max(runs, 2)).tolist()
    optimizer = {"name": "adam", "weight_decay": 0.0, "momentum": 0.0, "clip": None}
    return [
        RunSpec(
            arm="a",
            method=method,
            problem=workload.name,
            options={},
            seed=n,
            restart=0,
            lr=RATE if n % 2 else 3 * RATE,
            weights=(share, *[1.0] * (workload.tasks - 1)) if takes else None,
            hyper=default_values(METHODS[method]),
            treatment={} if level == "parameters" else {"level": level},
            optimizer=optimizer | {"schedule": SCHEDULE},
            epochs=10**6,
            batch_size=workload.batch,
            evaluations=1,
        )
        for n, share in enumerate(shares)
    ]


def pack(
    workload: Workload,
    device: str,
    runs: int,
    method: str = "linear",
    level: str = "parameters",
    evaluated: bool = False,
) -> Advance:
    """The engine's own steps, random numbers and orders included. One run is a pack of twins."""
    problem = problem_of(workload, device)
    specs = specs_of(workload, runs, method, level)
    net = network(problem, specs[0])
    if net.reason:
        print(f"  {workload.name}: trained run by run: {net.reason}", file=sys.stderr)
    state, epochs = start_pack(net, specs), itertools.count()

    def train(steps: int) -> int:
        rows = shortened(problem, steps * workload.batch)
        train_epoch(replace(net, problem=rows), state, specs, next(epochs))
        return steps * runs

    def train_and_measure(_: int) -> int:
        taken = sum(train(ROWS // workload.batch) for _ in range(EPOCHS_PER_EVALUATION))
        measure_pack(net, Shown(state.params, state.buffers), 0, 0)
        return taken

    return train_and_measure if evaluated else train


def lean(workload: Workload, device: str, evaluated: bool = False) -> Advance:
    """The best plain loop: a weighted sum, one backward pass, fused Adam."""
    problem = problem_of(workload, device)
    model = problem.model().train()
    optimizer = torch.optim.Adam(model.parameters(), RATE, fused=True)
    weights = torch.linspace(0.5, 1.5, workload.tasks, device=device)
    supply = Batches(problem.train, workload.batch).forever()

    def train(steps: int) -> int:
        for inputs, targets in itertools.islice(supply, steps):
            loss = torch.dot(weights, torch.stack(losses_of(model(inputs), targets)))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return steps

    def train_and_measure(_: int) -> int:
        taken = train(EPOCHS_PER_EVALUATION * ROWS // workload.batch)
        measured(problem, model)
        return taken

    return train_and_measure if evaluated else train


def measured(problem: Problem, model: nn.Module) -> list[float]:
    """Every measure of one network on the three splits, as the engine takes them."""
    model.eval()
    found = []
    with torch.no_grad():
        for split in problem.splits().values():
            rows = zip(problem.tasks, model(split.inputs), split.targets, strict=True)
            found += [
                measure(output, target)
                for task, output, target in rows
                for measure in (task.loss, *task.metrics.values())
            ]
    model.train()
    return torch.stack(found).tolist()


def torchjd(workload: Workload, device: str, aggregator: str) -> Advance:
    """The multi-task loop of TorchJD's documentation, on the lean loop's data and optimiser."""
    from torchjd import aggregation
    from torchjd.autojac import jac_to_grad, mtl_backward

    settings = {"n_tasks": workload.tasks} if aggregator == "NashMTL" else {}
    make = getattr(aggregation, aggregator)
    combine = make(**settings, **TORCHJD_SETTINGS.get(aggregator, {}))
    problem = problem_of(workload, device)
    model: Any = problem.model().train()
    optimizer = torch.optim.Adam(model.parameters(), RATE, fused=True)
    supply = Batches(problem.train, workload.batch).forever()

    def train(steps: int) -> int:
        for inputs, targets in itertools.islice(supply, steps):
            features = model.trunk(inputs)
            losses = losses_of([head(features) for head in model.heads], targets)
            mtl_backward(losses, features=features)
            jac_to_grad(model.trunk.parameters(), combine)
            optimizer.step()
            optimizer.zero_grad()
        return steps

    return train


def losses_of(outputs: Sequence[Tensor], targets: Tensor) -> list[Tensor]:
    """One cross entropy a task."""
    pairs = zip(outputs, targets, strict=True)
    return [nn.functional.cross_entropy(output, target) for output, target in pairs]


def libmtl(workload: Workload, device: str, weighting: str, ready: bool = False) -> Advance:
    """LibMTL's trainer, its tests after each epoch left out.

    ready: minibatches are indexed from tensors in memory, not collected by torch's DataLoader.
    """
    trainer_module, weightings = libmtl_module("trainer"), libmtl_module("weighting")
    by_name = hasattr(trainer_module, "weighting_method")  # versions after 1.1 look names up
    problem = problem_of(workload, device)
    model: Any = problem.model()
    names = [task.name for task in problem.tasks]

    class Here(trainer_module.Trainer):  # type: ignore[misc, name-defined]
        """The trainer on this device: its own is cuda:0 whatever the machine has."""

        def _prepare_model(self, *arguments: Any) -> None:
            self.device = torch.device(device)
            super()._prepare_model(*arguments)

        def test(self, *_: Any, **__: Any) -> None:
            """Nothing: evaluation is not timed."""

    architecture = libmtl_module("architecture")
    loss = libmtl_module("loss").CELoss
    metric = libmtl_module("metrics").AccMetric
    with contextlib.redirect_stdout(io.StringIO()):
        trainer = Here(
            {
                name: {"metrics": ["Acc"], "metrics_fn": metric(), "loss_fn": loss(), "weight": [1]}
                for name in names
            },
            weighting if by_name else getattr(weightings, weighting),
            "HPS" if by_name else architecture.HPS,
            lambda: model.trunk,
            nn.ModuleDict(dict(zip(names, model.heads, strict=True))),
            rep_grad=False,
            multi_input=False,
            optim_param={"optim": "adam", "lr": RATE},
            scheduler_param=None,
            weight_args=LIBMTL_SETTINGS[weighting],
            arch_args={},
        )
    # torch 2 forgets gradients that LibMTL 1.1 expects to find as zeros
    trainer.model.zero_grad_share_params = lambda: model.trunk.zero_grad(set_to_none=False)
    batches: Any = LabelledBatches(problem.train, names, workload.batch)
    loader = batches if ready else torch.utils.data.DataLoader(batches.rows(), workload.batch, True)

    def train(steps: int) -> int:
        with contextlib.redirect_stdout(io.StringIO()):
            trainer.train(Cut(loader, steps), None, 1)
        return steps

    return train


@dataclass(frozen=True)
class LabelledBatches:
    """Minibatches as LibMTL takes them: labels in a mapping by task."""

    split: Split
    names: list[str]
    size: int

    def __iter__(self) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        for inputs, targets in Batches(self.split, self.size).forever():
            yield inputs, dict(zip(self.names, targets, strict=True))

    def rows(self) -> list[tuple[Tensor, dict[str, Tensor]]]:
        """A data set of single rows."""
        labels = [
            dict(zip(self.names, row, strict=True)) for row in zip(*self.split.targets, strict=True)
        ]
        return list(zip(self.split.inputs, labels, strict=True))


class Cut:
    """The first few minibatches of a loader as an epoch."""

    def __init__(self, loader: Any, steps: int) -> None:
        self._loader, self._steps = loader, steps

    def __len__(self) -> int:
        return self._steps

    def __iter__(self) -> Cut:
        self._rows = itertools.islice(iter(self._loader), self._steps)
        return self

    def __next__(self) -> Any:
        return next(self._rows)

    next = __next__  # LibMTL 1.1 calls iterators as Python 2 did


def products(workload: Workload, device: str, runs: int) -> Advance:
    """Only the batched matrix products of a pack's scalarized step, for networks of linear layers.

    Outputs, gradients of weights and, but for the first layer, of inputs.
    """
    model = problem_of(workload).model()
    layers = [part for part in model.modules() if isinstance(part, nn.Linear)]
    calls: list[tuple[Tensor, Tensor, Tensor]] = []
    for place, layer in enumerate(layers):
        inputs = torch.randn(runs, workload.batch, layer.in_features, device=device)
        outputs = torch.randn(runs, workload.batch, layer.out_features, device=device)
        weight = torch.randn(runs, layer.out_features, layer.in_features, device=device)
        calls.append((inputs, weight.mT, torch.empty_like(outputs)))
        calls.append((outputs.mT, inputs, torch.empty_like(weight)))
        if place:
            calls.append((outputs, weight, torch.empty_like(inputs)))

    def multiply(steps: int) -> int:
        for _ in range(steps):
            for first, second, out in calls:
                torch.bmm(first, second, out=out)
        return steps * runs

    return multiply


def operations(workload: Workload) -> int:
    """Floating-point operations of those products for one model-step."""
    model = problem_of(workload).model()
    layers = [part for part in model.modules() if isinstance(part, nn.Linear)]
    sizes = [2 * workload.batch * part.in_features * part.out_features for part in layers]
    return 3 * sum(sizes) - sizes[0]


LOOPS: dict[str, Callable[..., Advance]] = {
    "pack": pack,
    "lean": lean,
    "torchjd": torchjd,
    "libmtl": libmtl,
    "products": products,
}
