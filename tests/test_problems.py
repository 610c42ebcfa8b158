"""Problems: splits that share nothing, stated optima, refusals with reasons."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from small_data import SMALL
from torch import nn

from mtofront.problems import PROBLEMS, Problem, ProblemError, Split, Task


@pytest.mark.usefixtures("small_data")
@pytest.mark.parametrize("name", sorted(PROBLEMS))
def test_every_problem_keeps_what_the_engine_is_promised(name: str) -> None:
    problem = PROBLEMS[name](**SMALL.get(name, {}))
    torch.manual_seed(0)
    rows = problem.train.rows(slice(None))
    outputs = problem.model()(rows.inputs)
    assert problem.name == name
    assert len(outputs) == len(problem.tasks)
    for task, output, target in zip(problem.tasks, outputs, rows.targets, strict=True):
        for measure in (task.loss, *task.metrics.values()):
            value = measure(output, target)
            assert value.shape == () and torch.isfinite(value)


@pytest.mark.usefixtures("small_data")
@pytest.mark.parametrize("name", sorted(PROBLEMS))
def test_every_problem_is_the_same_whenever_it_is_made(name: str) -> None:
    torch.manual_seed(1)
    first = PROBLEMS[name](**SMALL.get(name, {}))
    torch.manual_seed(2)
    second = PROBLEMS[name](**SMALL.get(name, {}))
    for split, other in zip(first.splits().values(), second.splits().values(), strict=True):
        assert torch.equal(split.inputs, other.inputs)
        for target, again in zip(split.targets, other.targets, strict=True):
            assert torch.equal(target.nan_to_num(-1e9), again.nan_to_num(-1e9))  # NaN: no label


def test_no_scan_is_in_two_splits_of_multidigits() -> None:
    problem = PROBLEMS["multidigits"](offset=4)
    seen: dict[bytes, str] = {}
    for name, split in problem.splits().items():
        canvas = split.inputs.view(-1, 12, 12)
        # where only one of the two digits reaches: the left one's top, the right one's bottom
        for part, strip in (("top", canvas[:, :4, :8]), ("bottom", canvas[:, 8:, 4:])):
            for patch in strip.reshape(len(split), -1).numpy().round(4):
                key = part.encode() + patch.tobytes()
                assert seen.setdefault(key, name) == name


def test_multidigits_overlays_both_digits_and_labels_each() -> None:
    from sklearn.datasets import load_digits

    bundle = load_digits()
    tops = {s[:4].tobytes(): int(t) for s, t in zip(bundle.images / 16, bundle.target, strict=True)}
    split = PROBLEMS["multidigits"](offset=4, test=200).test
    canvas = split.inputs.view(-1, 12, 12).double().numpy()
    labels = [tops.get(np.ascontiguousarray(c[:4, :8]).tobytes()) for c in canvas]
    assert labels == split.targets[0].tolist()
    assert canvas.min() >= 0 and canvas.max() <= 1
    assert set(split.targets[1].tolist()) == set(range(10))


def test_multidigits_refuses_an_offset_outside_its_range() -> None:
    with pytest.raises(ValueError, match=r"1 … 8 pixels; found 9"):
        PROBLEMS["multidigits"](offset=9)


@given(st.integers(2, 5), st.floats(0.05, 0.95), st.floats(0.5, 20))
def test_weighted_quadratics_end_where_the_closed_form_says(
    tasks: int, first: float, scale: float
) -> None:
    problem = PROBLEMS["quadratics"](tasks=tasks, scale=scale, noise=0.0, rows=1)
    module = problem.model()
    weights = np.array([first, *[(1 - first) / (tasks - 1)] * (tasks - 1)])
    angles = 2 * np.pi * np.arange(tasks) / tasks
    centres = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    pulls = weights * scale ** np.arange(tasks)
    with torch.no_grad():
        module.place.copy_(torch.from_numpy(pulls @ centres / pulls.sum()))
    outputs = module(problem.train.inputs)
    total = sum(
        w * task.loss(output, target)
        for w, task, output, target in zip(
            weights, problem.tasks, outputs, problem.train.targets, strict=True
        )
    )
    (gradient,) = torch.autograd.grad(total, [module.place])
    assert gradient.abs().max() < 1e-9 * pulls.sum()


def test_the_concave_front_is_where_the_literature_has_it() -> None:
    problem = PROBLEMS["concave"]()
    module = problem.model()
    for place, expected in (
        (0.0, (0.632, 0.632)),
        (-0.336, (0.832, 0.357)),
        (0.9575, (0.002, 0.978)),
    ):
        with torch.no_grad():
            module.t.fill_(place)
        outputs = module(problem.test.inputs)
        losses = [
            task.loss(output, target).item()
            for task, output, target in zip(
                problem.tasks, outputs, problem.test.targets, strict=True
            )
        ]
        assert losses == pytest.approx(expected, abs=6e-4)


def test_fixed_weights_have_no_minimum_in_the_middle_of_the_concave_front() -> None:
    problem = PROBLEMS["concave"]()
    places = torch.linspace(-1.2, 1.2, 4801, dtype=torch.float64)
    right, left = (
        torch.stack([task.loss(place, target) for place in places])
        for task, target in zip(problem.tasks, problem.test.targets, strict=True)
    )
    weights = torch.linspace(0.01, 0.99, 981, dtype=torch.float64).unsqueeze(1)
    total = weights * right + (1 - weights) * left
    inner = total[:, 1:-1]
    lowest = (inner < total[:, :-2]) & (inner < total[:, 2:])
    local = places[1:-1].expand_as(inner)[lowest]
    assert local.abs().min() == pytest.approx(0.7071, abs=0.03)
    assert places[total.argmin(dim=1)].abs().min() == pytest.approx(0.9575, abs=0.001)


def losses_and_gradients(
    problem: Problem, module: nn.Module, parameter: nn.Parameter
) -> list[tuple[float, NDArray[np.float64]]]:
    """Each task's loss on the training data and its gradient of one parameter."""
    outputs = module(problem.train.inputs)
    answers = []
    for task, output, target in zip(problem.tasks, outputs, problem.train.targets, strict=True):
        loss = task.loss(output, target)
        (gradient,) = torch.autograd.grad(loss, [parameter], retain_graph=True)
        answers.append((loss.item(), gradient.numpy()))
    return answers


@given(st.floats(-4, 4), st.floats(-5, 5), st.integers(1, 4))
def test_the_landscape_is_the_papers_and_so_are_its_slopes(x: float, y: float, rows: int) -> None:
    problem = PROBLEMS["landscape"](rows=rows)
    module = problem.model()
    with torch.no_grad():
        module.place.copy_(torch.tensor([x, y]))
    x, y = module.place.tolist()
    slope = 1 / math.cosh(y) ** 2
    depths = ((x / 2 + math.tanh(y), slope), (x / 2 - math.tanh(y) + 2, -slope))
    found = losses_and_gradients(problem, module, module.place)
    for (loss, gradient), (depth, bend), scale in zip(found, depths, (20, 25), strict=True):
        assume(abs(depth) > 1e-4)
        assert loss == pytest.approx(scale * math.log(abs(depth)), abs=1e-6)
        assert gradient == pytest.approx(np.array([0.5, bend]) * scale / depth, rel=1e-6)


@pytest.mark.parametrize("height", [6.46, 9.0])
def test_the_landscapes_floors_are_flat_and_meet_at_minus_549(height: float) -> None:
    problem = PROBLEMS["landscape"]()
    module = problem.model()
    with torch.no_grad():
        module.place.copy_(torch.tensor([-2.0, height]))
    (first, flat), (second, level) = losses_and_gradients(problem, module, module.place)
    assert (first, second) == pytest.approx((-244.1215, -305.1518), abs=1e-4)
    assert not flat.any() and not level.any()
    with torch.no_grad():
        module.place[1] = 6.44
    higher = sum(loss for loss, _ in losses_and_gradients(problem, module, module.place))
    assert higher > -549.27


def test_the_landscape_has_one_start_and_rows_that_only_count_steps() -> None:
    problem = PROBLEMS["landscape"](rows=7)
    assert [len(split) for split in problem.splits().values()] == [7, 1, 1]
    for seed in range(3):
        torch.manual_seed(seed)
        assert problem.model().place.tolist() == [0.5, -3.0]
    with pytest.raises(ValueError, match="rows >= 1; found 0"):
        PROBLEMS["landscape"](rows=0)


COSINES = [(-0.3, -0.3, -0.3), (0.3, 0.3, 0.3), (0.3, 0.3, -0.3), (0.3, -0.3, -0.3)]


def directions(problem: Problem) -> NDArray[np.float64]:
    """The best predictor of each task, one a row, by least squares on the training data."""
    targets = torch.stack(problem.train.targets, dim=1).numpy()
    return np.linalg.lstsq(problem.train.inputs.numpy(), targets, rcond=None)[0].T


@pytest.mark.parametrize("cosines", [*COSINES, (0.1, -0.5, 0.4)])
def test_a_bottleneck_of_one_costs_what_the_trunks_direction_misses(
    cosines: tuple[float, float, float],
) -> None:
    problem = PROBLEMS["linear_bottleneck"](cosines=list(cosines))
    best = directions(problem)
    a, b, c = cosines
    assert best @ best.T == pytest.approx(np.array([[1, a, b], [a, 1, c], [b, c, 1]]))
    torch.manual_seed(0)
    module = problem.model()
    trunk = module.trunk.weight.detach().numpy()[0]
    unit = trunk / np.linalg.norm(trunk)
    heads = list(module.heads.parameters())
    with torch.no_grad():
        for head, goal in zip(heads, best, strict=True):
            head.fill_(trunk @ goal / (trunk @ trunk))
    found = losses_and_gradients(problem, module, module.trunk.weight)
    assert [loss for loss, _ in found] == pytest.approx(1 - (best @ unit) ** 2)
    with torch.no_grad():
        heads[0].fill_(0.7)
    loss, gradient = losses_and_gradients(problem, module, module.trunk.weight)[0]
    miss = 0.7 * trunk - best[0]
    assert loss == pytest.approx(miss @ miss)
    assert gradient[0] == pytest.approx(2 * 0.7 * miss)


def test_a_trunk_of_three_serves_all_tasks_of_the_bottleneck() -> None:
    problem = PROBLEMS["linear_bottleneck"](width=3)
    module = problem.model()
    with torch.no_grad():
        module.trunk.weight.copy_(torch.eye(3))
        for head, goal in zip(module.heads.parameters(), directions(problem), strict=True):
            head.copy_(torch.from_numpy(goal))
    assert [loss for loss, _ in losses_and_gradients(problem, module, module.trunk.weight)] == (
        pytest.approx([0, 0, 0], abs=1e-20)
    )


def balanced_and_missed(best: NDArray[np.float64]) -> tuple[float, float]:
    """The smallest possible largest loss, and how far fixed weights stay away from that point.

    By enumeration: 200,000 trunks all over the sphere; for 20,000 weights the trunk that minimises
    the weighted sum is the first eigenvector of Σ w_t y_t y_tᵀ.
    """
    generator = np.random.default_rng(0)
    trunks = generator.standard_normal((200_000, 3))
    trunks /= np.linalg.norm(trunks, axis=1, keepdims=True)
    losses = 1 - (trunks @ best.T) ** 2
    middle = losses[losses.max(axis=1).argmin()]
    weights = generator.dirichlet(np.ones(3), size=20_000)
    _, vectors = np.linalg.eigh(np.einsum("nt,ti,tj->nij", weights, best, best))
    reached = 1 - (vectors[:, :, -1] @ best.T) ** 2
    return float(middle.max()), float(np.abs(reached - middle).max(axis=1).min())


@pytest.mark.parametrize(
    ("cosines", "middle", "missed"),
    list(zip(COSINES, (98 / 150, 7 / 15) * 2, (0.34, 0.01) * 2, strict=True)),
)
def test_fixed_weights_miss_the_bottlenecks_middle_unless_cosines_can_be_flipped(
    cosines: tuple[float, float, float], middle: float, missed: float
) -> None:
    best = directions(PROBLEMS["linear_bottleneck"](cosines=list(cosines)))
    assert balanced_and_missed(best) == pytest.approx((middle, missed), abs=0.015)


def test_the_bottleneck_refuses_what_does_not_exist() -> None:
    for options in ({"cosines": [0.3, 0.3]}, {"width": 0}):
        with pytest.raises(ValueError, match=r"three cosines and width >= 1; found"):
            PROBLEMS["linear_bottleneck"](**options)
    for cosines in ([-0.6] * 3, [1.0, 0.0, 0.0], [float("nan")] * 3):
        with pytest.raises(ValueError, match="none do"):
            PROBLEMS["linear_bottleneck"](cosines=cosines)


def split(rows: int = 3, targets: int = 2) -> Split:
    return Split(torch.zeros(rows, 1), tuple(torch.zeros(rows) for _ in range(targets)))


TASKS = (Task("a", nn.functional.mse_loss), Task("b", nn.functional.mse_loss))


def test_a_problem_whose_parts_do_not_fit_is_refused_by_name() -> None:
    good = split()
    with pytest.raises(ProblemError, match=r"distinct names.*\['a', 'a'\]"):
        Problem("p", (TASKS[0], TASKS[0]), good, good, good, nn.Identity)
    with pytest.raises(ProblemError, match=r"split 'val'.*found 1 targets"):
        Problem("p", TASKS, good, split(targets=1), good, nn.Identity)
    with pytest.raises(ProblemError, match=r"split 'test'.*at least one row"):
        Problem("p", TASKS, good, good, split(rows=0), nn.Identity)
    uneven = Split(torch.zeros(3, 1), (torch.zeros(3), torch.zeros(2)))
    with pytest.raises(ProblemError, match=r"task 'b'.*found 3 and 2"):
        Problem("p", TASKS, uneven, good, good, nn.Identity)
