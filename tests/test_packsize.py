"""The size of packs: measured where it pays, remembered, and never an obstacle."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
from test_engine import regression, spec

from mtofront.sweep import estimate, load_config, packsize, plan
from mtofront.sweep.packsize import (
    PackSize,
    best_size,
    fitting_pack,
    measured_rates,
    rule_of_thumb,
)
from mtofront.sweep.timing import seconds_of_epoch


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packsize, "is_busy", lambda: False)


def test_the_smallest_size_that_is_nearly_the_fastest_is_taken() -> None:
    assert best_size({2: 100, 4: 190, 8: 290, 16: 300, 32: 301}) == 8
    assert best_size({2: 100, 4: 90}) == 2
    assert best_size({2: 100}) == 2


def test_a_few_steps_are_timed_at_growing_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packsize, "SECONDS", 0.5)
    threads = torch.get_num_threads()
    rates = measured_rates(regression(), spec())
    assert list(rates)[:3] == [2, 4, 8]
    assert all(rate > 0 for rate in rates.values())
    assert torch.get_num_threads() == threads


def test_sizes_stop_where_nothing_more_is_gained(monkeypatch: pytest.MonkeyPatch) -> None:
    pretended = {2: 100.0, 4: 200.0, 8: 150.0, 16: 140.0}
    monkeypatch.setattr(packsize, "_rate", lambda problem, specs: pretended[len(specs)])
    assert measured_rates(regression(), spec()) == pretended


def test_sizes_stop_where_memory_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    def rate(problem: Any, specs: list[Any]) -> float:
        if len(specs) > 8:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return float(len(specs))

    monkeypatch.setattr(packsize, "_rate", rate)
    assert best_size(measured_rates(regression(), spec())) == 8


def test_a_short_sweep_is_not_measured_and_a_long_one_only_once(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def rate(problem: Any, specs: list[Any]) -> float:
        calls.append(len(specs))
        return float(min(len(specs), 16))

    monkeypatch.setattr(packsize, "_rate", rate)
    problem = regression()
    assert fitting_pack(problem, spec(), 100, "cpu") == PackSize(rule_of_thumb(problem), "rule")
    assert calls == []
    first = fitting_pack(problem, spec(), 10**6, "cpu")
    assert (first.limit, first.origin) == (16, "measured")
    counted = len(calls)
    again = fitting_pack(problem, spec(), 10**6, "cpu")
    assert (again.limit, again.origin, again.rates) == (16, "remembered", first.rates)
    assert len(calls) == counted
    assert "2: 2, 4: 4" in again.sentence()
    for file in own_cache.rglob("*.json"):
        file.write_text("{torn")
    assert fitting_pack(problem, spec(), 10**6, "cpu").origin == "measured"


def test_what_a_busy_machine_measured_is_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packsize, "_rate", lambda problem, specs: 1.0)
    monkeypatch.setattr(packsize, "is_busy", lambda: True)
    first = fitting_pack(regression(), spec(), 10**6, "cpu")
    assert "(measured on a busy machine, so not remembered;" in first.sentence()
    monkeypatch.setattr(packsize, "is_busy", lambda: False)
    assert fitting_pack(regression(), spec(), 10**6, "cpu").origin == "measured"
    assert fitting_pack(regression(), spec(), 10**6, "cpu").origin == "remembered"


@pytest.mark.parametrize(("load", "busy"), [(0.5, False), (2.5, True)])
def test_a_machine_is_busy_if_processes_wait(
    load: float, busy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr("os.getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    assert packsize.is_busy() is busy


class Epochs:
    """A course whose epochs take so many seconds each, the first to warm up."""

    def __init__(self, seconds: list[float]) -> None:
        self.seconds, self.clock = iter(seconds), 0.0

    def train(self, epoch: int) -> None:
        self.clock += next(self.seconds)


@pytest.mark.parametrize(
    ("seconds", "least"),
    [([9.0, 0.02, 0.5], 0.02), ([9.0, 0.9], 0.9), ([9.0, *[0.01] * 3, *[0.002] * 7], 0.002)],
)
def test_one_interrupted_epoch_does_not_decide(
    seconds: list[float], least: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    course: Any = Epochs(seconds)
    monkeypatch.setattr("mtofront.sweep.timing.settled_time", lambda course: course.clock)
    assert seconds_of_epoch(course, 0) == pytest.approx(least)
    assert list(course.seconds) == []


def test_a_home_that_cannot_be_written_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(packsize, "_rate", lambda problem, specs: 1.0)
    assert fitting_pack(regression(), spec(), 10**6, "cpu").limit == 2


def test_a_plan_says_why_its_packs_are_as_large_as_they_are(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(
        "name: c\nproblem: quadratics\nbudget: {epochs: 1, batch_size: 8}\n"
        "optimizer: {lr: 0.1}\nseeds: 2\narms: {scalarization: {method: linear}}\n"
    )
    assert plan(load_config(config)).pack_size.origin == "rule"
    given = plan(load_config(config, ["resources.pack=1"]))
    assert (given.pack_size.origin, len(given.packs)) == ("given", 2)
    assert "at most 1 run (as given)" in given.pack_size.sentence()


def test_a_plan_is_timed_with_one_thread_as_packs_train(
    bowls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []

    def seconds(course: Any, epoch: int) -> float:
        threads.append(torch.get_num_threads())
        return 1.0

    module = importlib.import_module("mtofront.sweep.estimate")  # the package's name is a function
    monkeypatch.setattr(module, "seconds_of_epoch", seconds)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found = estimate(plan(load_config(bowls)))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert set(threads) == {1} and found.seconds > 0
