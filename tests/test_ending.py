"""Packs whose runs do not all get to the end: diverged, stopped early, or too large for memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_engine import explode, regression, settings, spec

from mtofront.analysis import load
from mtofront.methods import METHODS
from mtofront.problems import Problem, Task
from mtofront.sweep import load_config, run
from mtofront.sweep import train as training
from mtofront.sweep.arms import default_values
from mtofront.sweep.ledger import Ledger
from mtofront.sweep.network import Network
from mtofront.sweep.records import record_table
from mtofront.sweep.train import is_out_of_memory, train_pack
from mtofront.sweep.trained import Trained

METHOD_SAMPLES = (
    "linear",
    "mgda",
    "gradnorm",
    "mtadam",
    "moco",
    "merge_average",
    "pareto_manifold",
)


def fragile() -> Problem:
    base = regression()
    return replace(base, tasks=tuple(Task(task.name, explode) for task in base.tasks))


def runs(method: str, rates: list[float]) -> list[Any]:
    weights = (0.5, 0.5) if "weights" in METHODS[method].hyper else None
    return [
        spec(
            method,
            lr=rate,
            seed=n,
            weights=weights,
            hyper=default_values(METHODS[method]),
            epochs=6,
            evaluations=6,
            optimizer=settings("momentum", momentum=0.9),
        )
        for n, rate in enumerate(rates)
    ]


def rows_of(done: Trained) -> list[list[dict[str, Any]]]:
    table = record_table(done, ["sine", "product"]).to_pandas().drop(columns=["run"])
    return [group.to_dict("records") for _, group in table.groupby("seed")]


def same(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> bool:
    return str(first) == str(second)


@pytest.mark.parametrize("method", METHOD_SAMPLES)
def test_survivors_of_a_compacted_pack_are_bit_for_bit_what_they_are_alone(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    original = Network.losses

    def counted(self: Network, params: Any, buffers: Any, split: Any, seeds: Any) -> Any:
        sizes.append(len(split.inputs))
        return original(self, params, buffers, split, seeds)

    monkeypatch.setattr(Network, "losses", counted)
    specs = runs(method, [0.001, 1e6, 0.002, 1e6, 0.003])
    together = train_pack(fragile(), specs)
    assert any(size % 5 == 0 for size in sizes)
    assert sizes[-1] % 3 == 0  # three runs are left, with one network, member or mixture or more
    assert (together.diverged_at >= 0).tolist() == [False, True, False, True, False]
    alone = [rows_of(train_pack(fragile(), [one]))[0] for one in specs]
    assert all(same(a, b) for a, b in zip(rows_of(together), alone, strict=True))


def test_a_last_survivor_keeps_company_and_its_digits() -> None:
    specs = runs("linear", [0.001, 1e6, 1e6])
    together, alone = train_pack(fragile(), specs), train_pack(fragile(), specs[:1])
    assert same(rows_of(together)[0], rows_of(alone)[0])


def test_a_run_that_stops_improving_ends_and_the_others_go_on() -> None:
    """A learning rate of 1e-300 moves nothing, so no loss ever falls."""
    specs = [replace(s, patience=2) for s in runs("linear", [0.001, 1e-300, 0.002])]
    done = train_pack(regression(), specs)
    assert done.steps.tolist() == [24, 8, 24]
    assert done.backward_passes.tolist() == [24, 8, 24]
    table = record_table(done, ["sine", "product"]).to_pandas()
    stopped = table[table["seed"] == 1]
    assert stopped["step"].max() == 8
    assert stopped["value"].notna().all()
    alone = [rows_of(train_pack(regression(), [one]))[0] for one in specs]
    assert all(same(a, b) for a, b in zip(rows_of(done), alone, strict=True))


def test_patience_counts_evaluations_in_a_row() -> None:
    ledger = Ledger([spec(patience=2)])
    history = [[1.0, 1.0], [1.0, 1.0], [0.9, 2.0], [0.9, 2.0], [0.9, 1.5]]
    ended = []
    for losses in history:
        ledger._wait(np.array([0]), np.array([losses]))
        ended.append(bool(ledger._ended[0]))
    assert ended == [False, False, False, False, True]


def limit_memory(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """From now on packs of more than two runs do not fit; the sizes that will be tried."""
    tried: list[int] = []
    original = training._train_together

    def limited(problem: Any, some: Any, listen: Any, checkpoints: Any, *rest: Any) -> Any:
        tried.append(len(some))
        if len(some) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return original(problem, some, listen, checkpoints, *rest)

    monkeypatch.setattr(training, "_train_together", limited)
    return tried


def test_a_pack_that_memory_does_not_hold_is_trained_in_halves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    specs = runs("mgda", [0.001, 0.002, 1e6, 0.003, 0.004])
    expected = rows_of(train_pack(fragile(), specs))
    tried = limit_memory(monkeypatch)
    done = train_pack(fragile(), specs)
    assert tried == [5, 2, 3, 2, 2]  # one run trains as twins
    assert all(same(a, b) for a, b in zip(rows_of(done), expected, strict=True))


def test_a_real_failed_allocation_counts_as_out_of_memory_and_other_errors_do_not() -> None:
    with pytest.raises(RuntimeError) as error:
        torch.empty(1 << 60)
    assert is_out_of_memory(error.value)
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_a_single_run_that_does_not_fit_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> Trained:
        raise MemoryError

    monkeypatch.setattr(training, "_train_together", full)
    with pytest.raises(MemoryError):
        train_pack(regression(), [spec(), spec(seed=1)])


CONFIG = """
name: patient
problem: quadratics
budget: {epochs: 8, batch_size: 16, evaluations: 8, patience: 2}
optimizer: {name: sgd, lr: [0.05, 1.0e-30]}
seeds: 2
arms: {scalarization: {method: linear, weights: [[0.5, 0.5], [0.2, 0.8]]}}
resources: {engine: inline}
"""


def test_a_sweep_with_patience_records_where_its_runs_ended(tmp_path: Path) -> None:
    path = tmp_path / "patient.yaml"
    path.write_text(CONFIG)
    frame = load(run(load_config(path), tmp_path / "out").folder)
    ends = frame.groupby("lr")["epoch"].max()
    assert ends.loc[1e-30] == 2
    assert ends.loc[0.05] > 2
