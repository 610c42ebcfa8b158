"""Sweeps end to end in this process: records, resume, refusal, divergence, failure, full disks."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mtofront.analysis import load
from mtofront.sweep import (
    Folder,
    Interrupted,
    RequestError,
    StorageError,
    Tracker,
    load_config,
    plan,
    resume,
    run,
    status,
)
from mtofront.sweep import folder as folder_module

COLUMNS = "run arm method problem seed lr w_bowl1 w_bowl2 step epoch split task measure value"

UNSTABLE = """\
import torch
from mtofront.problems import PROBLEMS, Problem, Task
from dataclasses import replace

def problem(broken=False) -> Problem:
    base = PROBLEMS["quadratics"]()
    def loss(output, target):
        if broken:
            raise RuntimeError("the loss is broken")
        value = (output - target).square().mean()
        return torch.where(value > 100, torch.nan, value)
    return replace(base, name="unstable", tasks=tuple(Task(t.name, loss) for t in base.tasks))
"""


def sorted_frame(folder: Path) -> pd.DataFrame:
    frame = load(folder)
    return frame.sort_values(list(frame.columns)).reset_index(drop=True)


def test_records_hold_every_run_split_task_and_measure(bowls: Path) -> None:
    config = load_config(bowls)
    outcome = run(config, "out")
    frame = load("out")
    assert list(frame.columns) == COLUMNS.split()
    assert set(frame["run"]) == set(plan(config).runs)
    assert (outcome.runs, outcome.diverged, outcome.failed) == (60, 0, {})
    losses = frame[frame["measure"] == "loss"]
    assert (losses.groupby("run").size() == 3 * 3 * 2).all()
    assert sorted(losses["epoch"].unique()) == [0, 1, 2]
    linear = frame[frame["arm"] == "scalarization"]
    assert np.allclose(linear["w_bowl1"] + linear["w_bowl2"], 1)
    assert frame.loc[frame["arm"] == "pcgrad", "w_bowl1"].isna().all()


def test_the_same_config_again_does_nothing_and_another_is_refused(bowls: Path) -> None:
    run(load_config(bowls), "out")
    files = {p: p.stat().st_mtime_ns for p in sorted(Path("out").rglob("*")) if p.is_file()}
    run(load_config(bowls), "out")
    with pytest.raises(RequestError, match="another experiment"):
        run(load_config(bowls, ["seeds=3"]), "out")
    again = {p: p.stat().st_mtime_ns for p in sorted(Path("out").rglob("*")) if p.is_file()}
    assert {p: t for p, t in again.items() if p.name != "lock"} == {
        p: t for p, t in files.items() if p.name != "lock"
    }


def test_a_folder_with_something_else_in_it_is_refused_untouched(bowls: Path) -> None:
    Path("out").mkdir()
    Path("out/thesis.tex").write_text("x")
    with pytest.raises(RequestError, match=r"thesis\.tex"):
        run(load_config(bowls), "out")
    assert [p.name for p in Path("out").iterdir()] == ["thesis.tex"]


def test_nothing_is_written_for_a_wrong_request(bowls: Path) -> None:
    before = set(Path.cwd().iterdir())
    with pytest.raises(RequestError):
        run(load_config(bowls, ["arms.pcgrad={c: 1}"]), "out")
    assert set(Path.cwd().iterdir()) == before


def test_an_interrupted_sweep_resumed_gives_the_same_table(bowls: Path) -> None:
    run(load_config(bowls), "whole")

    def stop(tracker: Tracker) -> None:
        if tracker.done >= 25:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        run(load_config(bowls), "cut", listen=stop)
    partial = load("cut")["run"].nunique()
    assert 25 <= partial < 60
    resume("cut")
    pd.testing.assert_frame_equal(sorted_frame(Path("cut")), sorted_frame(Path("whole")))


def test_resume_trains_again_what_is_damaged_and_nothing_else(bowls: Path) -> None:
    run(load_config(bowls), "out")
    before = sorted_frame(Path("out"))
    records = sorted(Path("out/records").iterdir())
    records[0].write_bytes(records[0].read_bytes()[:100])
    records[1].unlink()
    kept = records[2].stat().st_mtime_ns
    resume("out")
    assert records[2].stat().st_mtime_ns == kept
    pd.testing.assert_frame_equal(sorted_frame(Path("out")), before)


def test_a_run_whose_loss_becomes_nan_is_a_result_and_the_others_finish(bowls: Path) -> None:
    Path("unstable_one.py").write_text(UNSTABLE)
    settings = ["problem=unstable_one:problem", "optimizer.lr=[0.01,1000.0]"]
    outcome = run(load_config(bowls, [*settings, "tuning.runs_per_arm=as_given"]), "out")
    frame = load("out")
    diverged = frame[frame["measure"] == "diverged"]
    assert outcome.diverged == diverged["run"].nunique() == outcome.runs // 2
    assert outcome.failed == {}
    assert set(diverged["lr"]) == {1000.0}
    assert (diverged["step"] > 0).all()
    losses = frame[frame["measure"] == "loss"]
    assert np.isfinite(losses["value"]).all()
    assert (losses[losses["lr"] == 0.01].groupby("run").size() == 18).all()


def test_a_problem_that_raises_is_a_failure_with_its_reason_and_is_tried_again(
    bowls: Path,
) -> None:
    Path("unstable_two.py").write_text(UNSTABLE)
    settings = ["problem=unstable_two:problem", "seeds=1", "problem_options={broken: true}"]
    outcome = run(load_config(bowls, settings), "out")
    assert set(outcome.failed.values()) == {"RuntimeError: the loss is broken"}
    failure = json.loads(sorted(Path("out/failures").iterdir())[0].read_text())
    assert "the loss is broken" in failure["traceback"]
    states = status(Folder(Path("out")))
    assert states["pcgrad"] == {"expected": 10, "failed": 10}
    assert len(resume("out").failed) == len(outcome.failed)


def test_a_full_disk_stops_the_sweep_with_a_clear_error_and_keeps_what_is_done(
    bowls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[object] = []
    real = folder_module.pq.write_table

    def write(table: object, file: object, **options: bool) -> None:
        if len(written) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(real(table, file, **options))

    monkeypatch.setattr(folder_module.pq, "write_table", write)
    with pytest.raises(StorageError, match="no space left"):
        run(load_config(bowls), "out")
    names = [p.name for p in Path("out/records").iterdir()]
    assert len(names) == 3 and not [n for n in names if "partial" in n]
    monkeypatch.setattr(folder_module.pq, "write_table", real)
    assert resume("out").failed == {}
    assert load("out")["run"].nunique() == 60


def test_a_folder_that_cannot_be_made_is_a_clear_error(bowls: Path) -> None:
    Path("file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot write"):
        run(load_config(bowls), "file/out")


def test_two_drivers_in_one_folder_are_refused(bowls: Path) -> None:
    config = load_config(bowls)
    refusals: list[str] = []

    def listen(tracker: Tracker) -> None:
        if not refusals:
            with pytest.raises(RequestError, match="another mtofront") as caught:
                run(config, "out")
            refusals.append(str(caught.value))
            assert status(Folder(Path("out")))["scalarization"]["missing"] > 0

    run(config, "out", listen=listen)
    assert len(refusals) == 1


def test_status_of_a_finished_sweep(bowls: Path) -> None:
    run(load_config(bowls), "out")
    states = status(Folder(Path("out")))
    assert states["cagrad"] == {"expected": 20, "recorded": 20}
    with pytest.raises(RequestError, match="no sweep"):
        status(Folder(Path("nowhere")))
