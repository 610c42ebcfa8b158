"""Treatments in the engine, each against one training step written out with plain autograd."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from test_engine import Twin, final_losses, regression, runs_of, settings, spec
from torch import Tensor, nn

from mtofront.methods import (
    METHODS,
    HyperError,
    Signals,
    Treatment,
    aggregate,
    make,
    treatment_of,
    values_for,
)
from mtofront.problems import Problem, ProblemError
from mtofront.sweep.network import fresh_module, network
from mtofront.sweep.pack import start_pack, train_epoch
from mtofront.sweep.spec import RunSpec
from mtofront.sweep.streams import minibatches
from mtofront.sweep.train import train_pack

RATE = 0.1
Losses = list[Tensor]
Direction = Callable[[list[list[Tensor]], Losses], list[Tensor]]
"""(gradients a task and a shared parameter, losses) -> one direction a shared parameter."""


def one_step(method: str, treatment: dict[str, str], **changes: object) -> RunSpec:
    """A run of a single full-batch step of plain gradient descent."""
    return spec(
        method,
        treatment=treatment,
        optimizer=settings("sgd"),
        lr=RATE,
        epochs=1,
        batch_size=64,
        evaluations=1,
        **changes,
    )


def losses_of(module: nn.Module, problem: Problem, inputs: Tensor, targets: Losses) -> Losses:
    return [
        task.loss(output, target)
        for task, output, target in zip(problem.tasks, module(inputs), targets, strict=True)
    ]


def by_hand(
    run: RunSpec,
    direction: Direction,
    transform: Callable[[Losses], Losses] = lambda losses: losses,
    heads: Callable[[list[list[Tensor]]], list[float]] = lambda rows: [1.0, 1.0],
) -> np.ndarray:
    """The test losses after the run's one step, written out with plain autograd."""
    problem = regression()
    module = fresh_module(problem, run)
    rows = minibatches([run], 64, 64, 0)[0, 0]
    trunk = list(module.trunk.parameters())  # type: ignore[union-attr]
    losses = transform(
        losses_of(
            module, problem, problem.train.inputs[rows], [t[rows] for t in problem.train.targets]
        )
    )
    shared = [list(torch.autograd.grad(loss, trunk, retain_graph=True)) for loss in losses]
    own = [
        torch.autograd.grad(loss, list(head.parameters()), retain_graph=True)
        for loss, head in zip(losses, module.heads, strict=True)  # type: ignore[arg-type]
    ]
    with torch.no_grad():
        for parameter, towards in zip(trunk, direction(shared, losses), strict=True):
            parameter -= RATE * towards.view_as(parameter)
        for head, grads, factor in zip(module.heads, own, heads(shared), strict=True):  # type: ignore[arg-type]
            for parameter, grad in zip(head.parameters(), grads, strict=True):
                parameter -= RATE * factor * grad
        after = losses_of(module, problem, problem.test.inputs, list(problem.test.targets))
    return np.array([loss.item() for loss in after])


def trained(run: RunSpec) -> np.ndarray:
    measured = train_pack(regression(), [run]).measurements
    last = max(m.step for m in measured)
    values = [m.values[0] for m in measured if (m.step, m.split) == (last, "test")]
    return np.array(values)


def flat(rows: list[list[Tensor]]) -> Tensor:
    return torch.stack([torch.cat([g.flatten() for g in row]) for row in rows])


def cut(direction: Tensor, like: list[Tensor]) -> list[Tensor]:
    return list(torch.split(direction, [g.numel() for g in like]))


def whole(method: str, **hyper: object) -> Direction:
    return lambda rows, losses: cut(
        aggregate(method, flat(rows), torch.stack(losses), **hyper), rows[0]
    )


def shortest(rows: list[list[Tensor]]) -> list[float]:
    """MGDA's weights for two tasks in closed form."""
    first, second = flat(rows)
    gap = first - second
    share = float(((second - first) @ second / (gap @ gap)).clamp(0, 1))
    return [share, 1 - share]


def test_logarithms_are_trained_in_place_of_losses() -> None:
    expected = by_hand(
        one_step("mgda", {}), whole("mgda"), transform=lambda losses: [x.log() for x in losses]
    )
    np.testing.assert_allclose(trained(one_step("mgda", {"losses": "log"})), expected, rtol=1e-9)


def test_weights_of_a_method_without_any_multiply_the_losses() -> None:
    expected = by_hand(
        one_step("pcgrad", {}),
        whole("pcgrad"),
        transform=lambda losses: [0.2 * losses[0], 1.7 * losses[1]],
    )
    np.testing.assert_allclose(
        trained(one_step("pcgrad", {}, weights=(0.2, 1.7))), expected, rtol=1e-9
    )


def test_linear_on_log_losses_is_scale_invariant() -> None:
    logs = trained(one_step("linear", {"losses": "log"}, weights=(1.0, 1.0)))
    np.testing.assert_allclose(logs, trained(one_step("scale_invariant", {})), rtol=1e-9)


@pytest.mark.parametrize("method", ["mgda", "pcgrad", "nash_mtl"])
def test_every_tensor_gets_the_methods_answer_for_its_own_gradients(method: str) -> None:
    def tensor_by_tensor(rows: list[list[Tensor]], losses: Losses) -> list[Tensor]:
        return [
            aggregate(method, torch.stack([g.flatten() for g in column]))
            for column in zip(*rows, strict=True)
        ]

    run = one_step(method, {"granularity": "tensor"})
    np.testing.assert_allclose(trained(run), by_hand(run, tensor_by_tensor), rtol=1e-9)


def test_heads_follow_the_weights_where_asked() -> None:
    run = one_step("mgda", {"heads": "weighted"})
    np.testing.assert_allclose(trained(run), by_hand(run, whole("mgda"), heads=shortest), rtol=1e-9)


def test_scaled_heads_follow_weights_that_sum_to_the_number_of_tasks() -> None:
    run = one_step("nash_mtl", {"heads": "scaled"})

    def scaled(rows: list[list[Tensor]]) -> list[float]:
        # two tasks bargain for weights inversely proportional to their gradients' lengths
        inverse = 1 / flat(rows).norm(dim=1)
        return [float(share) for share in 2 * inverse / inverse.sum()]

    np.testing.assert_allclose(
        trained(run), by_hand(run, whole("nash_mtl"), heads=scaled), rtol=1e-6
    )


def test_a_matched_update_is_as_long_as_the_mean_gradient() -> None:
    run = one_step("mgda", {"norm": "scalarization"})

    def matched(rows: list[list[Tensor]], losses: Losses) -> list[Tensor]:
        towards = aggregate("mgda", flat(rows))
        return cut(towards * flat(rows).mean(0).norm() / towards.norm(), rows[0])

    np.testing.assert_allclose(trained(run), by_hand(run, matched), rtol=1e-9)


def test_a_matched_direction_moves_the_trunk_as_far_as_the_mean_gradient() -> None:
    run = one_step("graddrop", {"norm": "scalarization"})
    problem = regression()
    module = fresh_module(problem, run)
    losses = losses_of(module, problem, problem.train.inputs, list(problem.train.targets))
    mean = torch.autograd.grad(
        (losses[0] + losses[1]) / 2,
        list(module.trunk.parameters()),  # type: ignore[union-attr]
    )
    net = network(problem, run)
    pack = start_pack(net, [run, run])
    before = {name: pack.params[name].detach().clone() for name in net.sharing.shared}
    train_epoch(net, pack, [run, run], 0)
    moved = flat([[pack.params[name][0].detach() - was[0] for name, was in before.items()]])
    assert float(moved.norm()) == pytest.approx(RATE * float(flat([list(mean)]).norm()), rel=1e-9)


def test_feature_level_takes_the_gradients_at_the_representation() -> None:
    run = one_step("mgda", {"level": "features"})
    problem = regression()
    module = fresh_module(problem, run)
    rows = minibatches([run], 64, 64, 0)[0, 0]
    features = module.trunk(problem.train.inputs[rows])  # type: ignore[operator]
    losses = [
        task.loss(head(features).squeeze(-1), target[rows])
        for task, head, target in zip(
            problem.tasks,
            module.heads,  # type: ignore[arg-type]
            problem.train.targets,
            strict=True,
        )
    ]
    jacobian = torch.stack(
        [torch.autograd.grad(x, features, retain_graph=True)[0].flatten() for x in losses]
    )
    share = aggregate("mgda", jacobian)
    trunk = list(module.trunk.parameters())  # type: ignore[union-attr]
    towards = torch.autograd.grad(features, trunk, share.view_as(features))
    expected = by_hand(run, lambda *_: [grad.flatten() for grad in towards])
    np.testing.assert_allclose(trained(run), expected, rtol=1e-9)


def test_feature_level_costs_one_pass_and_counts_so() -> None:
    run = one_step("cagrad", {"level": "features"})
    assert train_pack(regression(), [run]).backward_passes.tolist() == [1]
    assert train_pack(regression(), [one_step("cagrad", {})]).backward_passes.tolist() == [2]


class Counted(torch.autograd.Function):
    """The identity, whose backward passes are counted."""

    generate_vmap_rule = True
    passes = 0

    @staticmethod
    def forward(outputs: Tensor) -> Tensor:
        return outputs.clone()

    @staticmethod
    def setup_context(ctx: object, inputs: object, output: object) -> None:
        """Nothing is kept."""

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:  # type: ignore[override]
        Counted.passes += 1
        return gradient.clone()


@pytest.mark.parametrize("treatment", [{}, {"losses": "log"}, {"level": "features"}])
@pytest.mark.parametrize("weights", [None, (0.3, 0.7)])
def test_a_tasks_backward_pass_visits_its_own_head_only(
    treatment: dict[str, str], weights: tuple[float, ...] | None
) -> None:
    def loss(output: Tensor, target: Tensor) -> Tensor:
        return nn.functional.mse_loss(Counted.apply(output), target)  # type: ignore[no-untyped-call]

    problem = regression()
    problem = replace(problem, tasks=tuple(replace(task, loss=loss) for task in problem.tasks))
    runs = [one_step("pcgrad", treatment, seed=seed, weights=weights) for seed in range(2)]
    net = network(problem, runs[0])
    assert net.batched
    pack = start_pack(net, runs)
    Counted.passes = 0
    train_epoch(net, pack, runs, 0)
    assert Counted.passes == len(problem.tasks)


def test_graddrop_at_the_representation_leaves_agreeing_coordinates_alone() -> None:
    """With two equal tasks all signs agree, so the update is the sum of the gradients."""
    base = regression()
    same = replace(base, train=replace(base.train, targets=(base.train.targets[0],) * 2))
    run = one_step("graddrop", {"level": "features"})

    class Alike(Twin):
        def __init__(self) -> None:
            super().__init__()
            self.heads[1].load_state_dict(self.heads[0].state_dict())

    problem = replace(same, model=Alike)
    drop = train_pack(problem, [run])
    total = train_pack(problem, [one_step("linear", {}, weights=(1.0, 1.0))])
    ends = [
        [m.values[0] for m in t.measurements if m.step == 1 and m.split == "train"]
        for t in (drop, total)
    ]
    np.testing.assert_allclose(ends[0], ends[1], rtol=1e-9)


def test_clipping_is_torchs_own_for_every_run_by_itself() -> None:
    problem = regression()
    run = one_step("linear", {}, weights=(30.0, 70.0))
    run = replace(run, optimizer=settings("sgd", clip=0.5))
    module = fresh_module(problem, run)
    rows = minibatches([run], 64, 64, 0)[0, 0]
    losses = losses_of(
        module, problem, problem.train.inputs[rows], [t[rows] for t in problem.train.targets]
    )
    (30 * losses[0] + 70 * losses[1]).backward()
    assert nn.utils.clip_grad_norm_(module.parameters(), 0.5) > 0.5
    torch.optim.SGD(module.parameters(), lr=RATE).step()
    after = losses_of(module, problem, problem.test.inputs, list(problem.test.targets))
    other = replace(run, weights=(0.01, 0.01), seed=3)
    pack = train_pack(problem, [run, other])
    values = [m.values[0] for m in pack.measurements if (m.step, m.split) == (1, "test")]
    np.testing.assert_allclose(values, [x.item() for x in after], rtol=1e-9)


def test_methods_with_two_samples_see_the_halves_of_the_minibatch() -> None:
    run = one_step("sdmgrad", {})
    problem = regression()
    module = fresh_module(problem, run)
    rows = minibatches([run], 64, 64, 0)[0, 0]
    trunk = list(module.trunk.parameters())  # type: ignore[union-attr]
    jacobians = []
    for half in (rows[:32], rows[32:]):
        targets = [t[half] for t in problem.train.targets]
        losses = losses_of(module, problem, problem.train.inputs[half], targets)
        grads = [list(torch.autograd.grad(x, trunk, retain_graph=True)) for x in losses]
        jacobians.append(flat(grads))
    whole_rows = (jacobians[0] + jacobians[1]) / 2

    def direction(shared: list[list[Tensor]], losses: Losses) -> list[Tensor]:
        method = make("sdmgrad")
        signals = Signals(
            losses=torch.stack(losses).detach(),
            noise=torch.empty(0, dtype=torch.float64),
            gramian=whole_rows @ whole_rows.mT,
            independent=jacobians[0] @ jacobians[1].mT,
        )
        state = method.method.init(torch.zeros(2, dtype=torch.float64))
        weights, _ = method.method.step(signals, state, values_for(method, 2))
        return cut(weights @ whole_rows, shared[0])

    np.testing.assert_allclose(trained(run), by_hand(run, direction), rtol=1e-9)


ALL = [
    ("pcgrad", {"losses": "log"}),
    ("nash_mtl", {"level": "features"}),
    ("graddrop", {"level": "features"}),
    ("gradvac", {"granularity": "tensor"}),
    ("graddrop", {"granularity": "tensor"}),
    ("cagrad", {"heads": "scaled", "norm": "scalarization"}),
]


@pytest.mark.parametrize(("method", "treatment"), ALL, ids=str)
def test_a_treated_run_is_bit_for_bit_the_same_in_any_pack(
    method: str, treatment: dict[str, str]
) -> None:
    problem = regression()
    specs = [
        replace(run, treatment=treatment, optimizer=settings("adam", clip=1.0))
        for run in runs_of(method, 5)
    ]
    pack = final_losses(train_pack(problem, specs))
    parts = [final_losses(train_pack(problem, specs[a:b])) for a, b in pairwise((0, 1, 3, 5))]
    assert np.array_equal(pack, np.concatenate(parts))


WRONG = [
    ("pcgrad", {"heads": "double"}, "own, weighted, scaled"),
    ("linear", {"level": "features"}, "one backward pass for all"),
    ("gradnorm", {"norm": "scalarization"}, "one backward pass for all"),
    ("graddrop", {"heads": "weighted"}, "answers with a direction"),
    ("pcgrad", {"level": "features", "granularity": "tensor"}, "one tensor"),
    ("mgda", {"heads": "weighted", "granularity": "tensor"}, "one weight a tensor"),
    ("mgda", {"granularty": "tensor"}, "did you mean 'granularity'"),
]


@pytest.mark.parametrize(("method", "given", "words"), WRONG, ids=str)
def test_a_treatment_without_meaning_is_refused(
    method: str, given: dict[str, str], words: str
) -> None:
    with pytest.raises(HyperError, match=words):
        treatment_of(METHODS[method], given)


def test_defaults_leave_no_trace_in_a_spec() -> None:
    assert Treatment(losses="raw", heads="own").as_dict() == {}
    assert Treatment(heads="weighted").as_dict() == {"heads": "weighted"}


class Skip(Twin):
    """A shared parameter that acts past the trunk."""

    def __init__(self) -> None:
        super().__init__()
        self.late = nn.Parameter(torch.ones(1, dtype=torch.float64))

    def forward(self, inputs: Tensor) -> list[Tensor]:
        return [self.late * output for output in super().forward(inputs)]


def test_a_network_without_one_representation_is_refused_by_name() -> None:
    problem = regression(Skip)
    with pytest.raises(ProblemError, match="reaches late past the output of module 'trunk'"):
        train_pack(problem, [one_step("mgda", {"level": "features"})])


def test_the_representation_can_be_named_and_a_wrong_name_is_refused() -> None:
    run = one_step("mgda", {"level": "features"})
    named = replace(regression(), features="trunk.0")
    assert train_pack(named, [run]).backward_passes.tolist() == [1]
    with pytest.raises(ProblemError, match="must name a submodule of the network; found 'body'"):
        train_pack(replace(regression(), features="body"), [run])
