"""What the throughput benchmark trains: networks with one trunk, a head a task, random data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from mtofront.problems import Problem, Split, Task

ROWS = 2048
"""Training rows; validation takes a quarter of as many, the test half."""
PIXELS, SIDE, LENGTH, WIDTH = 64, 36, 16, 32
"""Inputs of the perceptron, side of LeNet's image, the transformer's sequence and width."""


@dataclass(frozen=True)
class Workload:
    """One network and its minibatches. classes: of each task. packs: sizes to be timed."""

    name: str
    trunk: Callable[[], tuple[nn.Module, int]]
    shape: tuple[int, ...]
    classes: tuple[int, ...]
    batch: int
    packs: tuple[int, ...] = (1, 16, 64, 256)

    @property
    def tasks(self) -> int:
        return len(self.classes)


class Network(nn.Module):
    """A trunk and linear heads."""

    def __init__(self, trunk: tuple[nn.Module, int], classes: Sequence[int]) -> None:
        super().__init__()
        self.trunk, width = trunk
        self.heads = nn.ModuleList([nn.Linear(width, count) for count in classes])

    def forward(self, inputs: Tensor) -> list[Tensor]:
        features = self.trunk(inputs)
        return [head(features) for head in self.heads]


class Encoder(nn.Module):
    """A transformer encoder of two layers and the mean over its sequence."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 2 * WIDTH, dropout=0.0, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layers(inputs).mean(1)


@dataclass(frozen=True)
class Perceptron:
    """Makes a trunk with two hidden layers."""

    hidden: int

    def __call__(self) -> tuple[nn.Module, int]:
        first, second = nn.Linear(PIXELS, self.hidden), nn.Linear(self.hidden, self.hidden)
        return nn.Sequential(first, nn.ReLU(), second, nn.ReLU()), self.hidden


def lenet() -> tuple[nn.Module, int]:
    """Two convolutions with pooling, one hidden layer."""
    parts = (nn.Conv2d(1, 10, 5), nn.MaxPool2d(2), nn.ReLU())
    parts += (nn.Conv2d(10, 20, 5), nn.MaxPool2d(2), nn.ReLU())
    return nn.Sequential(*parts, nn.Flatten(), nn.Linear(20 * 6 * 6, 50), nn.ReLU()), 50


def transformer() -> tuple[nn.Module, int]:
    """Two small layers of attention."""
    return Encoder(), WIDTH


def _perceptron(hidden: int, classes: tuple[int, ...] = (10, 2)) -> Workload:
    name = f"MLP 64-{hidden}-{hidden}, T = {len(classes)}"
    return Workload(name, Perceptron(hidden), (PIXELS,), classes, 64)


def _lenet(batch: int) -> Workload:
    return Workload(
        f"LeNet 36x36, batch {batch}, T = 2", lenet, (1, SIDE, SIDE), (10, 2), batch, (1, 4, 16)
    )


WORKLOADS = {
    "mlp32": _perceptron(32),
    "mlp128": _perceptron(128),
    "mlp512": _perceptron(512),
    "mlp128t8": _perceptron(128, (10,) * 8),
    "mlp128t40": _perceptron(128, (10,) * 40),
    "lenet32": _lenet(32),
    "lenet256": _lenet(256),
    "transformer": Workload(
        "Transformer, 2 layers, T = 2", transformer, (LENGTH, WIDTH), (10, 2), 64, (1, 16, 64)
    ),
}
"""The key that --only matches -> the workload."""


def problem_of(workload: Workload, device: str = "cpu") -> Problem:
    """The workload as a problem whose data and networks lie on a device."""
    generator = torch.Generator().manual_seed(0)

    def split(rows: int) -> Split:
        inputs = torch.randn(rows, *workload.shape, generator=generator)
        targets = (torch.randint(c, (rows,), generator=generator) for c in workload.classes)
        return Split(inputs.to(device), tuple(target.to(device) for target in targets))

    tasks = tuple(
        Task(f"task{n}", functional.cross_entropy, {"error": error_rate})
        for n in range(workload.tasks)
    )
    return Problem(
        "throughput",
        tasks,
        split(ROWS),
        split(ROWS // 4),
        split(ROWS // 2),
        model=lambda: Network(workload.trunk(), workload.classes).to(device),
    )


def error_rate(logits: Tensor, labels: Tensor) -> Tensor:
    """Share of rows whose largest logit is not the label's."""
    return (logits.argmax(-1) != labels).to(logits.dtype).mean()


def mlp128() -> Problem:
    """The middle perceptron, as a config names it."""
    return problem_of(WORKLOADS["mlp128"])


def shortened(problem: Problem, rows: int) -> Problem:
    """The problem with the first training rows only."""
    train = problem.train
    first = Split(train.inputs[:rows], tuple(target[:rows] for target in train.targets))
    return replace(problem, train=first)
