"""Whole-run schemes: merged networks and Pareto manifolds, against plain loops and closed forms."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_engine import final_losses, regression, settings, spec
from torch import Tensor, nn

from mtofront.analysis import load, write_report
from mtofront.methods import METHODS, Balancer, Signals, aggregate, make, values_for
from mtofront.methods.merge_doge import _learned, _shared_subspace
from mtofront.problems import PROBLEMS, Problem
from mtofront.sweep import load_config, plan, run
from mtofront.sweep.arms import default_values
from mtofront.sweep.manifold import out_of_order
from mtofront.sweep.network import fresh_module
from mtofront.sweep.records import record_table
from mtofront.sweep.spec import RunSpec
from mtofront.sweep.streams import minibatches
from mtofront.sweep.train import train_pack

SCHEMES = [name for name, method in METHODS.items() if method.scheme]


def scheme(name: str, **changes: Any) -> RunSpec:
    hyper = {**default_values(METHODS[name]), **changes.pop("hyper", {})}
    if name == "merge_doge":
        hyper["steps"] = 5
    return spec(name, hyper=hyper, **changes)


def trained_alone(
    problem: Problem, run: RunSpec, module: nn.Module, weights: Tensor, epochs: range
) -> None:
    """Plain SGD on Σ w_i L_i over the run's own minibatches."""
    optimizer = torch.optim.SGD(module.parameters(), lr=run.lr)
    for epoch in epochs:
        for rows in minibatches([run], len(problem.train), run.batch_size, epoch)[:, 0]:
            outputs = module(problem.train.inputs[rows])
            losses = [
                task.loss(output, target[rows])
                for task, output, target in zip(
                    problem.tasks, outputs, problem.train.targets, strict=True
                )
            ]
            optimizer.zero_grad()
            (weights * torch.stack(losses)).sum().backward()
            optimizer.step()


def test_a_merged_run_is_a_common_start_and_the_mean_of_single_task_copies() -> None:
    problem = regression()
    one = scheme("merge_average", optimizer=settings("sgd"), epochs=4, evaluations=1, lr=0.05)
    start = fresh_module(problem, one)
    trained_alone(problem, one, start, torch.tensor([0.5, 0.5]), range(2))
    copies = []
    for task in range(2):
        member = copy.deepcopy(start)
        trained_alone(problem, one, member, torch.eye(2)[task], range(2, 4))
        copies.append(member)
    merged = copy.deepcopy(start)
    with torch.no_grad():
        for own, *theirs in zip(
            merged.trunk.parameters(),  # type: ignore[union-attr]
            *(member.trunk.parameters() for member in copies),  # type: ignore[union-attr]
            strict=True,
        ):
            own.copy_(torch.stack(theirs).mean(0))
        for task, member in enumerate(copies):
            merged.heads[task].load_state_dict(member.heads[task].state_dict())  # type: ignore
        outputs = merged(problem.test.inputs)
        expected = [
            task.loss(output, target).item()
            for task, output, target in zip(
                problem.tasks, outputs, problem.test.targets, strict=True
            )
        ]
    measured = train_pack(problem, [one]).measurements
    last = [m.values[0] for m in measured if m.epoch == 4 and m.split == "test"]
    np.testing.assert_allclose(last, expected, rtol=1e-9)


def test_task_arithmetic_with_one_over_t_is_averaging() -> None:
    problem = regression()
    average = final_losses(train_pack(problem, [scheme("merge_average")]))
    arithmetic = train_pack(problem, [scheme("merge_task_arithmetic", hyper={"scale": 0.5})])
    np.testing.assert_allclose(final_losses(arithmetic), average, rtol=1e-9)


@pytest.mark.parametrize("name", SCHEMES)
def test_a_run_is_bit_for_bit_the_same_in_any_pack(name: str) -> None:
    problem = regression()
    runs = [scheme(name, seed=n // 2, lr=0.003 * (1 + n % 3)) for n in range(5)]
    pack = final_losses(train_pack(problem, runs))
    parts = [final_losses(train_pack(problem, runs[a:b])) for a, b in pairwise((0, 1, 3, 5))]
    assert np.array_equal(pack, np.concatenate(parts))


@pytest.mark.parametrize(
    ("name", "hyper", "passes"),
    [
        ("merge_ties", {}, 4 * (1 + 2)),
        ("merge_average", {"pretrain_percent": 0}, 4 * (2 + 2)),
        ("pareto_manifold", {"windows": 3}, 4 * (3 + 3)),
    ],
)
def test_records_say_what_was_paid_for(name: str, hyper: dict[str, Any], passes: int) -> None:
    done = train_pack(regression(), [scheme(name, hyper=hyper)])  # 2 epochs of 4 steps, 2 tasks
    assert done.backward_passes.tolist() == [passes]
    table = record_table(done, ["sine", "product"]).to_pandas()
    assert table.loc[table["measure"] == "members", "value"].tolist() == [2.0]
    assert table.loc[table["measure"] == "backward_passes", "value"].tolist() == [float(passes)]


def test_every_member_moves_by_its_share_of_the_mixtures_gradient() -> None:
    """With one mixture a step, ∂L(θ(α))/∂θ_k = α_k ∇L, so equal members stay on one line."""
    problem = regression()
    one = scheme(
        "pareto_manifold",
        hyper={"windows": 1, "points": 3},
        optimizer=settings("sgd"),
        epochs=1,
        batch_size=64,
        evaluations=1,
    )
    measured = train_pack(problem, [one]).measurements
    ends = {
        m.weights: m.values[0]
        for m in measured
        if (m.step, m.split, m.task) == (1, "train", "sine")
    }
    before = next(
        m.values[0] for m in measured if (m.step, m.split, m.task) == (0, "train", "sine")
    )
    assert set(ends) == {(0.0, 1.0), (0.5, 0.5), (1.0, 0.0)}
    assert len({before, *ends.values()}) == 4
    assert (
        min(ends[0.0, 1.0], ends[1.0, 0.0]) < ends[0.5, 0.5] < max(ends[0.0, 1.0], ends[1.0, 0.0])
    )


def test_a_manifold_over_convex_bowls_is_their_front() -> None:
    """For bowls of one scale the best point is linear in the weights, as mixtures are."""
    problem = PROBLEMS["quadratics"](scale=1.0)
    one = scheme(
        "pareto_manifold",
        hyper={"windows": 8},
        optimizer=settings("adam", schedule="cosine"),
        lr=0.05,
        epochs=300,
        batch_size=len(problem.train),
        evaluations=1,
    )
    linear = [
        spec(weights=(w, 1 - w), lr=0.05, epochs=300, batch_size=len(problem.train), evaluations=1,
             optimizer=settings("adam", schedule="cosine"))
        for w in (0.2, 0.5, 0.8)
    ]  # fmt: skip
    shown = [
        m for m in train_pack(problem, [one]).measurements if m.epoch == 300 and m.split == "test"
    ]
    swept = final_losses(train_pack(problem, linear))
    for n, weights in enumerate((0.2, 0.5, 0.8)):
        point = [m.values[0] for m in shown if m.weights and abs(m.weights[0] - weights) < 1e-9]
        reached = [float(v) for v in swept[n][-len(point) :]]
        assert point == pytest.approx(reached, rel=0.05, abs=0.02)


def test_losses_out_of_order_are_measured_between_neighbours() -> None:
    mixtures = torch.tensor([[[0.2, 0.8], [0.6, 0.4]]])
    falling = torch.tensor([[[3.0, 1.0], [1.0, 3.0]]])  # each task's loss falls as its share grows
    assert out_of_order(falling, mixtures).item() == pytest.approx(0.0)
    rising = torch.tensor([[[1.0, 1.0], [3.0, 3.0]]])  # the first task's loss rises by 2
    assert out_of_order(rising, mixtures).item() == pytest.approx(2.0)
    assert out_of_order(falling[:, :1], mixtures[:, :1]).item() == 0


def test_mixtures_are_dirichlet() -> None:
    noise = torch.rand(20_000, 24, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for concentration in (1, 4):
        method = make("pareto_manifold", p=concentration)
        values = values_for(method, 3, (20_000,))
        signals = Signals(torch.zeros(20_000, 3, dtype=torch.float64), noise)
        drawn, _ = method.method.step(signals, {}, values)
        assert torch.allclose(drawn.sum(-1), torch.ones(20_000, dtype=torch.float64))
        assert drawn.mean(0).tolist() == pytest.approx([1 / 3] * 3, abs=0.01)
        # the variance of a symmetric Dirichlet share: (1/T)(1 − 1/T) / (pT + 1)
        assert drawn.var(0).tolist() == pytest.approx(
            [2 / 9 / (3 * concentration + 1)] * 3, rel=0.05
        )


def test_doge_without_steps_is_masked_scaled_task_arithmetic() -> None:
    vectors = torch.tensor([[3.0, 0, 4, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0, 5, 12]])
    merged = aggregate("merge_doge", vectors, steps=0, density=0.2, eta=1.0)
    expected = torch.tensor([0.6, 0, 0.8, 0, 0, 0, 0, 0, 5 / 13, 12 / 13])
    torch.testing.assert_close(merged, expected)


def test_doges_change_leaves_the_shared_subspace_alone_and_lowers_its_objective() -> None:
    generator = torch.Generator().manual_seed(1)
    matrices = torch.randn(3, 24, 20, generator=generator, dtype=torch.float64)
    scales = torch.full((3, 1, 1), 0.2, dtype=torch.float64)
    basis = _shared_subspace(matrices)
    assert basis.shape == (24, 20 // 6)
    torch.testing.assert_close(basis.mT @ basis, torch.eye(3, dtype=torch.float64))

    def objective(delta: Tensor) -> float:
        residual = matrices * (matrices - (scales * (matrices + delta)).sum(0))
        return float(residual.sum(-1).square().sum())

    delta = _learned(matrices, scales, 100)
    assert 0 < float(delta.abs().max()) <= 100 * 1.1e-4
    assert objective(delta) < objective(torch.zeros_like(delta))


def test_a_balancer_refuses_what_needs_several_networks() -> None:
    trunk = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="several networks a run"):
        Balancer("merge_ties", tasks=2, shared=trunk.parameters())


CONFIG = """
name: schemes
problem: quadratics
budget: {epochs: 3, batch_size: 8, evaluations: 1}
optimizer: {name: adam, lr: [0.05, 0.1]}
seeds: 3
arms:
  scalarization: {method: linear, weights: {grid: log_odds, points: 5}}
  pareto_manifold: {windows: 2, points: 5}
  merge_average: {}
tuning: {runs_per_arm: RUNS}
resources: {engine: inline}
"""


def test_a_sweep_with_schemes_counts_trainings_and_reports_every_point(tmp_path: Path) -> None:
    path = tmp_path / "schemes.yaml"
    path.write_text(CONFIG.replace("RUNS", "as_given"))
    outcome = run(load_config(path), tmp_path / "out")
    frame = load(outcome.folder)
    own = frame[(frame["arm"] == "pareto_manifold") & (frame["measure"] == "loss")]
    assert own["run"].nunique() == 6
    weights = [name for name in own.columns if name.startswith("w_")]
    assert own.drop_duplicates(["run", *weights]).groupby("run").size().eq(5).all()
    write_report(outcome.folder)
    verdicts = {
        row["arm"]: row for row in json.loads((outcome.folder / "report/verdicts.json").read_text())
    }
    assert verdicts["pareto_manifold"]["runs"] == 6
    steps = frame["step"].max()
    assert verdicts["pareto_manifold"]["backward_passes"] == 6 * 2 * steps


def test_equal_passes_give_schemes_fewer_runs(tmp_path: Path) -> None:
    path = tmp_path / "schemes.yaml"
    path.write_text(CONFIG.replace("RUNS", "equal_backward_passes"))
    planned = plan(load_config(path))
    counts = planned.arm_runs()
    assert counts["scalarization"] == 30
    assert counts["pareto_manifold"] == 15
    # three epochs: round(1.5) = 2 in common, 1 with two members
    assert counts["merge_average"] == 3 * int(10 / (4 / 3))
    passes = planned.arm_passes()
    assert passes["pareto_manifold"] == passes["scalarization"]


def test_a_scheme_takes_no_treatment(tmp_path: Path) -> None:
    path = tmp_path / "schemes.yaml"
    path.write_text(CONFIG.replace("merge_average: {}", "merge_average: {heads: weighted}"))
    with pytest.raises(Exception, match="it trains several networks"):
        plan(load_config(path.with_suffix(".yaml"), ["tuning.runs_per_arm=equal"]))


def test_one_diverging_member_is_a_diverged_run() -> None:
    problem = regression()
    wild = replace(scheme("merge_average", lr=1e30), optimizer=settings("sgd"))
    calm = scheme("merge_average", optimizer=settings("sgd"))
    done = train_pack(problem, [wild, calm])
    assert done.diverged_at[0] > 0
    assert done.diverged_at[1] == -1
