"""Sweeps end to end in this process: records, resume, refusal, divergence, failure, full disks."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import random
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mtofront import __version__
from mtofront.analysis import RecordsWarning, load
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
from mtofront.sweep import tracker as tracker_module
from mtofront.sweep.job import News
from mtofront.sweep.spec import FORMAT

COLUMNS = "run arm method problem seed lr w_bowl1 w_bowl2 step epoch split task measure value"

UNSTABLE = """\
import torch
from mtofront.problems import PROBLEMS, Problem, Task
from dataclasses import replace

def problem(broken=False) -> Problem:
    base = PROBLEMS["quadratics"]()
    def loss(output, target):
        if broken and len(output) == 16:  # a minibatch, not what is tried before
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
    with pytest.warns(RecordsWarning, match="damaged or half-written: its runs count as missing"):
        load("out")
    assert status(Folder(Path("out")))["scalarization"]["missing"] > 0
    outcome = resume("out")
    assert len(outcome.notices) == 1
    assert str(records[0]) in outcome.notices[0] and "trained again" in outcome.notices[0]
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
            for again in (lambda: run(config, "out"), lambda: resume("out")):
                with pytest.raises(RequestError, match="another mtofront") as caught:
                    again()
                assert f"process {os.getpid()} on {platform.node()}" in str(caught.value)
                refusals.append(str(caught.value))
            assert status(Folder(Path("out")))["scalarization"]["missing"] > 0

    run(config, "out", listen=listen)
    assert len(refusals) == 2


HOLD = """
import os, signal, sys
from mtofront.sweep.folder import Folder, locked
with locked(Folder(__import__("pathlib").Path("out"))):
    print("held", flush=True)
    signal.pause()
"""


def test_a_killed_driver_holds_nothing(bowls: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
    with pytest.raises(RequestError, match=f"process {holder.pid} on "):
        run(load_config(bowls), "out")
    holder.kill()
    holder.wait()
    holder.stdout.close()
    assert run(load_config(bowls), "out").runs == 60


@pytest.mark.parametrize("found", [1, 99, None])
def test_a_folder_of_another_format_is_refused_untouched(bowls: Path, found: int | None) -> None:
    run(load_config(bowls), "out")
    path = Path("out/manifest.json")
    manifest = json.loads(path.read_text())
    manifest["format"], manifest["versions"]["mtofront"] = found, "7.8.9"
    path.write_text(json.dumps(manifest))
    next(Path("out/records").iterdir()).unlink()
    before = {p: p.stat().st_mtime_ns for p in Path("out").rglob("*")}
    for request in (
        lambda: resume("out"),
        lambda: run(load_config(bowls), "out"),
        lambda: status(Folder(Path("out"))),
    ):
        with pytest.raises(RequestError, match=rf"format {FORMAT}; found format {found}.*7\.8\.9"):
            request()
    assert {p: p.stat().st_mtime_ns for p in Path("out").rglob("*")} == before


def test_a_folder_that_an_older_version_left_goes_on_without_its_checkpoints(bowls: Path) -> None:
    """Records of one format are good whoever wrote them; half-trained packs say that they begin."""
    run(load_config(bowls), "whole")

    def stop(tracker: Tracker) -> None:
        training = [news for news in tracker.latest.values() if not news.done]
        if tracker.done >= 25 and training and training[0].epoch == 1:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        run(load_config(bowls, ["resources.checkpoint_seconds=0"]), "old", listen=stop)
    path = Path("old/manifest.json")
    manifest = json.loads(path.read_text())
    manifest["versions"]["mtofront"] = "0.0.1"
    path.write_text(json.dumps(manifest))
    (checkpoint,) = Path("old/checkpoints").iterdir()
    body = checkpoint.read_bytes()[:-32].replace(__version__.encode(), b"0.0.1", 1)
    checkpoint.write_bytes(body + hashlib.sha256(body).digest())
    kept = {p: p.stat().st_mtime_ns for p in Path("old/records").iterdir()}
    outcome = resume("old")
    assert len(outcome.notices) == 1
    assert "is of version of mtofront 0.0.1" in outcome.notices[0]
    assert "its runs start from the beginning" in outcome.notices[0]
    assert {p: p.stat().st_mtime_ns for p in kept} == kept
    pd.testing.assert_frame_equal(sorted_frame(Path("old")), sorted_frame(Path("whole")))


def test_any_damage_to_a_records_file_makes_it_missing_to_all_who_read_it(bowls: Path) -> None:
    """Whatever byte is hit, the file is refused, or what it says is what it said."""
    run(load_config(bowls), "out")
    whole, packs = load("out"), Folder(Path("out")).read_manifest()["packs"]
    path = Folder(Path("out")).records(0)
    content, random_ = path.read_bytes(), random.Random(0)
    refused = 0
    for _ in range(120):
        damaged, place = bytearray(content), random_.randrange(len(content))
        for k in range(place, min(place + random_.choice((1, 1, 16)), len(content))):
            damaged[k] ^= random_.randrange(1, 256)
        path.write_bytes(damaged)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            frame = load("out")
        flaw = Folder(Path("out")).flaws({0: tuple(packs[0])})[0]
        assert bool(flaw) == bool(told)
        if told:
            refused += 1
            assert len(told) == 1 and "mtofront resume out" in str(told[0].message)
            frame = pd.concat([whole[whole["run"].isin(packs[0])], frame], ignore_index=True)
        pd.testing.assert_frame_equal(frame, whole, check_exact=True)
    assert refused > 80


def test_records_of_other_runs_are_told_and_trained_again(bowls: Path) -> None:
    run(load_config(bowls), "out")
    before = sorted_frame(Path("out"))
    folder = Folder(Path("out"))
    folder.records(0).write_bytes(folder.records(1).read_bytes())
    outcome = resume("out")
    assert [str(folder.records(0)) in line for line in outcome.notices] == [True]
    assert "about other runs" in outcome.notices[0]
    pd.testing.assert_frame_equal(sorted_frame(Path("out")), before)


def test_status_of_a_finished_sweep(bowls: Path) -> None:
    run(load_config(bowls), "out")
    states = status(Folder(Path("out")))
    assert states["cagrad"] == {"expected": 20, "recorded": 20}
    with pytest.raises(RequestError, match="no sweep"):
        status(Folder(Path("nowhere")))


def test_the_time_left_does_not_count_what_checkpoints_had_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(tracker_module.time, "monotonic", lambda: now)
    manifest = {
        "packs": [["a"], ["b"]],
        "runs": {"a": {"arm": "x", "epochs": 1}, "b": {"arm": "x", "epochs": 1}},
        "arms": {"x": {"backward_passes_per_step": 1}},
    }
    tracker = Tracker(Folder(tmp_path), manifest, [0, 1])
    tracker.hear(News(0, 1, epoch=8, epochs=10))  # taken up where it was
    assert tracker.seconds_left() is None
    now = 110.0
    tracker.hear(News(0, 1, epoch=9, epochs=10))  # one of twenty epochs in ten seconds
    assert tracker.seconds_left() == pytest.approx(110.0)  # eleven are left
