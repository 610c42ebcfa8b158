"""Problems: splits that share nothing, stated optima, refusals with reasons."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mtofront.problems import PROBLEMS, Problem, ProblemError, Split, Task


@pytest.mark.parametrize("name", sorted(PROBLEMS))
def test_every_problem_keeps_what_the_engine_is_promised(name: str) -> None:
    problem = PROBLEMS[name]()
    torch.manual_seed(0)
    outputs = problem.model()(problem.train.inputs)
    assert problem.name == name
    assert len(outputs) == len(problem.tasks)
    for task, output, target in zip(problem.tasks, outputs, problem.train.targets, strict=True):
        for measure in (task.loss, *task.metrics.values()):
            value = measure(output, target)
            assert value.shape == () and torch.isfinite(value)


@pytest.mark.parametrize("name", sorted(PROBLEMS))
def test_every_problem_is_the_same_whenever_it_is_made(name: str) -> None:
    torch.manual_seed(1)
    first = PROBLEMS[name]()
    torch.manual_seed(2)
    second = PROBLEMS[name]()
    for split, other in zip(first.splits().values(), second.splits().values(), strict=True):
        assert torch.equal(split.inputs, other.inputs)
        assert all(map(torch.equal, split.targets, other.targets))


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
