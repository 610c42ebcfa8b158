"""Hand-batched layers: convolutions and pooling against plain modules, dropout against its law."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from test_engine import Twin, final_losses, plain_loop, regression, runs_of, settings, spec
from torch import Tensor, nn
from torch.nn import functional as F

from mtofront.problems import Problem, Split, Task
from mtofront.sweep.lowering import PackedLayers, drawn
from mtofront.sweep.network import network
from mtofront.sweep.train import train_pack


class Pictures(nn.Module):
    """Convolutions of several kinds, pooling as a layer and as a function, two heads."""

    def __init__(self, norm: bool = False, drop: float = 0.0) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4) if norm else nn.Identity()
        self.second = nn.Conv2d(4, 6, 3, stride=2, groups=2, bias=False)
        self.pool = nn.MaxPool2d(2)
        self.drop = nn.Dropout2d(drop)
        self.heads = nn.ModuleList([nn.Linear(6, 1), nn.Linear(6, 1)])
        self.double()

    def forward(self, x: Tensor) -> list[Tensor]:
        z = F.max_pool2d(torch.relu(self.norm(self.first(x))), 2, stride=1)
        z = self.drop(self.pool(torch.relu(self.second(z)))).flatten(1)
        return [head(z).squeeze(-1) for head in self.heads]


def pictures(model: Callable[[], nn.Module] = Pictures) -> Problem:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 1, 6, 6, generator=generator, dtype=torch.float64)
    split = Split(x, (x.mean((1, 2, 3)).sin(), x[:, 0, 2, 2]))
    tasks = tuple(Task(name, F.mse_loss) for name in ("mean", "pixel"))
    return Problem("pictures", tasks, split, split, split, model)


@pytest.mark.parametrize("norm", [False, True])
def test_a_convolutional_pack_trains_as_a_plain_torch_loop_does(norm: bool) -> None:
    problem = pictures(lambda: Pictures(norm))
    run = spec(epochs=25, optimizer=settings("adam"))  # 100 steps
    assert network(problem, run).lowered
    last = final_losses(train_pack(problem, [run, replace(run, seed=1)]))[0]
    expected = plain_loop(problem, run, lambda p: torch.optim.Adam(p, lr=0.01))
    np.testing.assert_allclose(last[-2:], expected, rtol=0, atol=1e-10)


def test_a_convolutional_run_is_the_same_in_any_pack_to_rounding() -> None:
    problem = pictures()
    specs = [replace(run, epochs=25) for run in runs_of("mgda", 5)]
    pack = final_losses(train_pack(problem, specs))
    parts = [final_losses(train_pack(problem, specs[a:b])) for a, b in pairwise((0, 1, 3, 5))]
    np.testing.assert_allclose(pack, np.concatenate(parts), rtol=1e-10)


def test_pooling_of_rows_that_all_runs_share_needs_no_pack() -> None:
    class PoolFirst(Pictures):
        def forward(self, x: Tensor) -> list[Tensor]:
            z = self.first(F.max_pool2d(x, 2)).mean((2, 3))
            return [z[:, k] * head.bias for k, head in enumerate(self.heads)]  # type: ignore[operator]

    done = train_pack(pictures(PoolFirst), [spec(), spec(seed=1)])
    assert done.notice == ""


TWICE = nn.Sequential(nn.Dropout(0.2), nn.Dropout(0.3))
OFTEN = nn.Sequential(*(nn.Dropout(0.1) for _ in range(9)))


@pytest.mark.parametrize("layer", [nn.Dropout(0.5), TWICE, OFTEN], ids=["once", "twice", "often"])
def test_dropout_in_a_pack_is_bit_for_bit_that_of_the_run_alone(layer: nn.Module) -> None:
    problem = regression(lambda: Twin(layer))
    specs = runs_of("pcgrad", 5)
    together = train_pack(problem, specs)
    assert together.notice == ""
    parts = [final_losses(train_pack(problem, specs[a:b])) for a, b in pairwise((0, 1, 3, 5))]
    assert np.array_equal(final_losses(together), np.concatenate(parts))
    plain = final_losses(train_pack(regression(), specs))
    assert not np.array_equal(final_losses(together), plain)


def test_a_layer_that_drops_in_evaluation_too_is_named_as_the_obstacle() -> None:
    class Always(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.dropout(x, 0.2)

    found = network(regression(lambda: Twin(Always())), spec())
    assert not found.batched
    assert "draws random numbers in evaluation" in found.reason


def masks(function: Callable[..., Tensor], p: float, shape: tuple[int, ...], runs: int) -> Tensor:
    """What dropout leaves of ones (runs, *shape), each run with a seed of its own."""

    def one(seed: Tensor) -> Tensor:
        with PackedLayers(seed, processor=True):
            return function(torch.ones(shape), p)

    return torch.func.vmap(one)(torch.arange(runs))


def test_dropout_keeps_and_scales_as_torchs_own() -> None:
    left = masks(F.dropout, 0.3, (100, 200), 4)
    assert sorted(left.unique().tolist()) == [0.0, pytest.approx(1 / 0.7)]
    assert left.mean((1, 2)).tolist() == pytest.approx([1.0] * 4, abs=0.02)
    agree = (left[0] == left[1]).float().mean().item()
    assert agree == pytest.approx(0.3**2 + 0.7**2, abs=0.02)
    assert torch.equal(masks(F.dropout, 1.0, (3, 3), 1), torch.zeros(1, 3, 3))
    assert torch.equal(masks(F.dropout, 0.0, (3, 3), 1), torch.ones(1, 3, 3))


def test_channel_dropout_drops_whole_channels() -> None:
    left = masks(F.dropout2d, 0.5, (40, 30, 3, 3), 2).flatten(3)
    assert (left == left[..., :1]).all()
    assert (left[..., 0] > 0).float().mean().item() == pytest.approx(0.5, abs=0.05)


def test_drawn_words_are_uniform_and_differ_by_seed_and_stream() -> None:
    words = drawn(torch.tensor(5), 1, 100_001)
    assert words.shape == (100_001,)
    numbers = words.double() / 2**32 + 0.5
    counts = torch.histc(numbers, 20, 0, 1)
    # chi-squared with 19 degrees of freedom: beyond 43.8 in one of a thousand
    assert float(((counts - 5000) ** 2 / 5000).sum()) < 43.8
    for other in (drawn(torch.tensor(6), 1, 100_001), drawn(torch.tensor(5), 2, 100_001)):
        pair = torch.stack([numbers, other.double()])
        assert abs(float(torch.corrcoef(pair)[0, 1])) < 0.02
    assert abs(float(torch.corrcoef(torch.stack([numbers[1:], numbers[:-1]]))[0, 1])) < 0.02


def test_cross_entropy_of_a_pack_is_torchs_in_value_and_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 6, 4, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(4, (3, 6, 5), generator=generator)
    labels[0, :2] = -100  # labels that do not count

    def one(logits: Tensor, labels: Tensor) -> Tensor:
        with PackedLayers(None, processor=True):
            return F.cross_entropy(logits, labels)

    packed = torch.func.vmap(one)(logits, labels)
    usual = torch.stack([F.cross_entropy(*own) for own in zip(logits, labels, strict=True)])
    torch.testing.assert_close(packed, usual)
    weights = torch.tensor([0.2, 1.0, 3.0], dtype=torch.float64)
    gradients = [torch.autograd.grad((loss * weights).sum(), logits)[0] for loss in (packed, usual)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(
    "options",
    [
        {"label_smoothing": 0.1},
        {"weight": torch.arange(1.0, 5.0, dtype=torch.float64)},
        {"reduction": "sum"},
        {"ignore_index": 0},
    ],
)
def test_other_kinds_of_cross_entropy_are_left_to_torch(options: dict[str, object]) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 6, 4, generator=generator, dtype=torch.float64)
    labels = torch.randint(4, (3, 6), generator=generator)

    def one(logits: Tensor, labels: Tensor) -> Tensor:
        with PackedLayers(None, processor=True):
            return F.cross_entropy(logits, labels, **options)

    usual = [F.cross_entropy(*own, **options) for own in zip(logits, labels, strict=True)]
    torch.testing.assert_close(torch.func.vmap(one)(logits, labels), torch.stack(usual))


def test_probabilities_as_labels_are_left_to_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, shares = torch.randn(2, 3, 6, 4, generator=generator, dtype=torch.float64)

    def one(logits: Tensor, shares: Tensor) -> Tensor:
        with PackedLayers(None, processor=True):
            return F.cross_entropy(logits, shares.softmax(1))

    usual = [F.cross_entropy(a, b.softmax(1)) for a, b in zip(logits, shares, strict=True)]
    torch.testing.assert_close(torch.func.vmap(one)(logits, shares), torch.stack(usual))
