"""Gradients and weights that runs record: against numpy, and without a trace in anything else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from test_engine import Twin, regression, runs_of, settings, spec
from torch import nn

from mtofront.analysis import load
from mtofront.methods import METHODS
from mtofront.problems import Problem, Task
from mtofront.sweep import RequestError, chunks, diagnostics, load_config, plan, run
from mtofront.sweep.checkpoint import Checkpoints
from mtofront.sweep.diagnostics import MEASURES
from mtofront.sweep.network import fresh_module
from mtofront.sweep.records import record_table
from mtofront.sweep.spec import RunSpec
from mtofront.sweep.train import train_pack

TASKS = ("sine", "product")


def records(problem: Problem, specs: list[RunSpec], diagnostics: bool = True) -> pd.DataFrame:
    trained = train_pack(problem, specs, diagnostics=diagnostics)
    return record_table(trained, [task.name for task in problem.tasks]).to_pandas()


def values(frame: pd.DataFrame, measure: str, task: str = "", epoch: int = 0) -> np.ndarray:
    """One number a run, in the order of the records."""
    chosen = (frame["measure"] == measure) & (frame["task"] == task) & (frame["epoch"] == epoch)
    return frame.loc[chosen, "value"].to_numpy()


def without(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[~frame["measure"].isin(MEASURES)].reset_index(drop=True)


class Trio(Twin):
    """Three heads on the trunk."""

    def __init__(self) -> None:
        super().__init__()
        self.heads.append(nn.Linear(8, 1).double())


def three() -> Problem:
    two = regression()

    def more(split: object) -> object:
        third = split.inputs[:, 1].cos()  # type: ignore[attr-defined]
        return replace(split, targets=(*split.targets, third))  # type: ignore[type-var, attr-defined]

    parts = {name: more(part) for name, part in two.splits().items()}
    tasks = (*two.tasks, Task("cosine", nn.functional.mse_loss))
    return replace(two, tasks=tasks, model=Trio, **parts)  # type: ignore[arg-type]


def numpy_gradients(problem: Problem, module: nn.Module) -> np.ndarray:
    """(T, P) gradients of the trunk on all training rows, task by task."""
    rows = []
    for k, task in enumerate(problem.tasks):
        module.zero_grad()
        outputs = module(problem.train.inputs)
        task.loss(outputs[k], problem.train.targets[k]).backward()
        trunk = module.trunk.parameters()
        rows.append(np.concatenate([p.grad.numpy().ravel() for p in trunk]))
    return np.array(rows)


def test_gradients_are_compared_as_numpy_compares_them_before_and_after_training() -> None:
    problem = three()
    rows = len(problem.train)
    one = spec(weights=(0.2, 0.5, 0.3), batch_size=rows, epochs=4, optimizer=settings("sgd"))
    specs = [replace(one, seed=n, lr=0.2) for n in range(3)]
    frame = records(problem, specs)
    for epoch in (0, 4):
        for n, run_spec in enumerate(specs):
            module = fresh_module(problem, run_spec)
            for _ in range(epoch):
                module.zero_grad()
                outputs = module(problem.train.inputs)
                losses = [
                    task.loss(output, target)
                    for task, output, target in zip(
                        problem.tasks, outputs, problem.train.targets, strict=True
                    )
                ]
                sum(w * loss for w, loss in zip(one.weights, losses, strict=True)).backward()
                with torch.no_grad():
                    for parameter in module.parameters():
                        parameter -= 0.2 * parameter.grad
            found = numpy_gradients(problem, module)
            lengths = np.linalg.norm(found, axis=1)
            pairs = list(combinations(range(3), 2))
            cosines = [found[i] @ found[j] / lengths[i] / lengths[j] for i, j in pairs]
            alike = [2 * lengths[i] * lengths[j] / (lengths**2)[[i, j]].sum() for i, j in pairs]
            expected = {
                "conflict_rate": np.mean(np.array(cosines) < 0),
                "gradient_cosine": np.mean(cosines),
                "magnitude_similarity": np.mean(alike),
            }
            for measure, value in expected.items():
                np.testing.assert_allclose(values(frame, measure, epoch=epoch)[n], value, rtol=1e-9)
            for task, length in zip(problem.tasks, lengths, strict=True):
                own = values(frame, "gradient_norm", task.name, epoch)
                np.testing.assert_allclose(own[n], length, rtol=1e-9)
    assert 0 < values(frame, "conflict_rate").mean() < 1


def test_several_minibatches_are_averaged() -> None:
    problem, one = regression(), spec(batch_size=20, epochs=1)  # three minibatches of 64 rows
    whole = record_table(train_pack(problem, [one], diagnostics=True), TASKS).to_pandas()
    module = fresh_module(problem, one)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    cosines = []
    for k in range(3):
        part = replace(problem, train=problem.train.rows(order[20 * k : 20 * k + 20]))
        first, second = numpy_gradients(part, module)
        cosines.append(first @ second / np.linalg.norm(first) / np.linalg.norm(second))
    np.testing.assert_allclose(values(whole, "gradient_cosine"), np.mean(cosines), rtol=1e-9)
    np.testing.assert_allclose(values(whole, "conflict_rate"), np.mean(np.array(cosines) < 0))


@pytest.mark.parametrize("method", sorted(METHODS))
def test_nothing_else_changes_and_a_run_records_the_same_in_any_pack(method: str) -> None:
    specs = runs_of(method, 3)
    frame = records(regression(), specs)
    plain = records(regression(), specs, diagnostics=False)
    pd.testing.assert_frame_equal(without(frame), plain, check_exact=True)
    assert set(MEASURES[:4]) <= set(frame["measure"])
    alone = pd.concat([records(regression(), [one]) for one in specs], ignore_index=True)
    pd.testing.assert_frame_equal(frame, alone, check_exact=True)
    weighs = METHODS[method].answers != "step" and not METHODS[method].scheme
    assert ("task_weight" in set(frame["measure"])) == weighs


@pytest.mark.parametrize(
    "layer",
    [
        partial(nn.BatchNorm1d, 8),
        partial(nn.Dropout, 0.5),
        # draws in its own way, so that runs train one by one
        partial(nn.AlphaDropout, 0.5),
    ],
)
def test_running_statistics_and_dropout_stay_as_they_are(layer: Callable[[], nn.Module]) -> None:
    problem = regression(lambda: Twin(layer()))
    specs = runs_of("linear", 3)
    frame = records(problem, specs)
    plain = records(problem, specs, diagnostics=False)
    pd.testing.assert_frame_equal(without(frame), plain, check_exact=True)
    pd.testing.assert_frame_equal(frame, records(problem, specs), check_exact=True)


def test_the_weights_are_the_mean_over_the_steps_since_the_last_evaluation() -> None:
    # one step an epoch, on all rows: its losses are the training losses after the epoch before
    one = spec("scale_invariant", batch_size=64, epochs=4, evaluations=4, lr=0.05)
    every = records(regression(), [one])
    twice = records(regression(), [replace(one, evaluations=2)])
    for task in TASKS:
        losses = np.array([values(every, "loss", task, epoch)[0] for epoch in range(5)])
        for epoch, steps in ((2, slice(0, 2)), (4, slice(2, 4))):
            found = values(twice, "task_weight", task, epoch)
            np.testing.assert_allclose(found, (1 / losses[steps]).mean(), rtol=1e-9)
        assert len(values(twice, "task_weight", task, 0)) == 0


def test_weights_and_logarithms_before_the_method_count() -> None:
    still = {"batch_size": 64, "epochs": 1, "lr": 1e-12}
    fixed = records(regression(), [spec("linear", weights=(0.3, 0.7), **still)])
    before = records(regression(), [spec("uncertainty", weights=(0.2, 0.8), **still)])
    equal = values(records(regression(), [spec("uncertainty", **still)]), "task_weight", "sine", 1)
    logs = records(regression(), [spec("linear", treatment={"losses": "log"}, **still)])
    for task, weight, own in zip(TASKS, (0.3, 0.7), (0.2, 0.8), strict=True):
        loss = values(logs, "loss", task)[0]
        np.testing.assert_allclose(values(fixed, "task_weight", task, 1), weight)
        np.testing.assert_allclose(values(logs, "task_weight", task, 1), weight / loss, rtol=1e-6)
        # uncertainty weighting starts from equal weights on the losses that it sees
        np.testing.assert_allclose(values(before, "task_weight", task, 1) / equal, own, rtol=1e-6)


def test_a_diverged_run_records_numbers_only_and_harms_no_neighbour() -> None:
    often = {"epochs": 30, "evaluations": 30, "optimizer": settings("sgd")}
    wild = [spec("pcgrad", lr=lr, **often) for lr in (1e9, 0.01, 0.02)]
    frame = records(regression(), wild)
    assert np.isfinite(frame["value"]).all()
    assert frame.loc[frame["measure"] == "diverged", "run"].nunique() == 1
    calm = records(regression(), wild[1:])
    kept = frame[frame["run"] != wild[0].id].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, calm, check_exact=True)


def test_a_killed_pack_goes_on_to_the_same_records(tmp_path: Path) -> None:
    specs = [replace(one, epochs=6, evaluations=3) for one in runs_of("uncertainty", 3)]

    class Killed(Exception):
        pass

    seen: set[int] = set()

    def listen(progress: object) -> None:
        epoch = progress.epoch  # type: ignore[attr-defined]
        if epoch not in seen:
            seen.add(epoch)
            raise Killed

    for _ in range(10):
        checkpoints = Checkpoints(tmp_path / "p.ckpt", 0.0)
        try:
            done = train_pack(regression(), specs, listen, checkpoints, diagnostics=True)
        except Killed:
            assert checkpoints.notices == []
            continue
        break
    assert len(seen) == 4
    found = record_table(done, TASKS).to_pandas()
    pd.testing.assert_frame_equal(found, records(regression(), specs), check_exact=True)


def test_little_memory_changes_no_digit_and_few_gradients_at_once_only_rounding(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    problem = three()
    specs = [replace(one, weights=(0.2, 0.3, 0.5)) for one in runs_of("linear", 5)]
    expected = records(problem, specs)
    monkeypatch.setattr(chunks, "PROCESSOR_BYTES", 1)
    pd.testing.assert_frame_equal(records(problem, specs), expected, check_exact=True)
    monkeypatch.setattr(diagnostics, "HELD", 1)
    pd.testing.assert_frame_equal(records(problem, specs), expected, rtol=1e-9)


def test_a_config_asks_for_them_without_another_run_id_or_result(bowls: Path) -> None:
    plain, more = load_config(bowls), load_config(bowls, ["diagnostics=true"])
    assert list(plan(plain).runs) == list(plan(more).runs)
    run(plain, "plain")
    run(more, "more")
    keys = ["run", "step", "split", "task", "measure"]
    frame, expected = (load(name).sort_values(keys) for name in ("more", "plain"))
    own = frame[frame["measure"].isin(MEASURES)]
    assert set(own["measure"]) == set(MEASURES)
    assert set(own["split"]) == {"train"}
    pd.testing.assert_frame_equal(without(frame), expected.reset_index(drop=True), check_exact=True)
    linear = own[(own["arm"] == "scalarization") & (own["measure"] == "task_weight")]
    for task in ("bowl1", "bowl2"):
        mine = linear[linear["task"] == task]
        np.testing.assert_allclose(mine["value"], mine[f"w_{task}"])


def test_a_folder_keeps_to_what_it_began_with(bowls: Path) -> None:
    run(load_config(bowls, ["seeds=1"]), "out")
    with pytest.raises(RequestError, match=r"began with diagnostics: false; found true"):
        run(load_config(bowls, ["seeds=1", "diagnostics=true"]), "out")
