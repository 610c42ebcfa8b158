"""Adaptive arms: rounds that follow from records alone, whatever stops, fails or diverges."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from stops import stopped_after_each_pack

from mtofront.analysis import coverage, load
from mtofront.sweep import Folder, RequestError, load_config, plan, resume, run, status
from mtofront.sweep import job as job_module
from mtofront.sweep.rounds import judged
from mtofront.sweep.spec import spec_from_dict

ROOT = Path(__file__).parents[1]
TIMEOUT = 300
ADAPTIVE = """\
name: bends
problem: quadratics
problem_options: {scale: 30}
budget: {epochs: 6, batch_size: 16, evaluations: 2}
optimizer: {name: sgd, lr: [0.003, 0.01]}
seeds: 2
arms:
  scalarization: {method: linear, weights: {search: front, points: 11, start: 4, batch: 3}}
  pcgrad: {weights: {search: front, points: 8}}
  cagrad:
resources: {engine: inline, pack: 7, cpus: 2}
"""


@pytest.fixture
def bends(workdir: Path) -> Path:
    path = workdir / "bends.yaml"
    path.write_text(ADAPTIVE)
    return path


def sorted_frame(folder: str) -> pd.DataFrame:
    frame = load(folder)
    return frame.sort_values(list(frame.columns)).reset_index(drop=True)


def test_a_plan_counts_later_rounds_and_a_sweep_trains_them(bends: Path) -> None:
    config = load_config(bends)
    planned = plan(config)
    assert planned.arm_runs() == {"scalarization": 44, "pcgrad": 44, "cagrad": 44}
    assert planned.rounds["scalarization"].sizes == (4, 3, 3, 1)
    assert len(planned.runs) == 4 * 4 + planned.rounds["pcgrad"].sizes[0] * 6 + 44
    outcome = run(config, "out")
    assert (outcome.runs, outcome.diverged, outcome.failed) == (132, 0, {})
    manifest = json.loads(Path("out/manifest.json").read_text())
    assert len(manifest["packs"]) == sum(planned.arm_packs().values())
    frame = load("out")
    assert frame["run"].nunique() == 132
    for arm, points in (("scalarization", 11), ("pcgrad", 8)):
        own = frame[frame["arm"] == arm]
        runs = own.drop_duplicates("run").groupby(["w_bowl1", "w_bowl2"]).size()
        assert len(runs) == points
        assert runs.min() >= 4  # both seeds at both learning rates or finer ones
        assert np.allclose(own["w_bowl1"] + own["w_bowl2"], 1)
    before = {path: path.stat().st_mtime_ns for path in Path("out/records").iterdir()}
    run(config, "out")
    assert before == {path: path.stat().st_mtime_ns for path in Path("out/records").iterdir()}


def test_later_weights_lie_where_the_front_bends(bends: Path) -> None:
    bends.write_text(ADAPTIVE.split("  pcgrad:")[0] + "resources: {engine: inline}\n")
    run(load_config(bends, ["budget.epochs=40", "optimizer.lr=0.01", "seeds=1"]), "out")
    frame = load("out")
    linear = frame[frame["arm"] == "scalarization"]
    # the second task weighs 30 times as much: equal pulls need 30 times the weight on the first
    first = np.sort(linear["w_bowl1"].unique())
    assert ((first > 0.9) & (first < 0.995)).sum() >= 5


@pytest.mark.parametrize("pack", [4, 64])
def test_rounds_do_not_depend_on_packs(bends: Path, pack: int) -> None:
    run(load_config(bends), "out")
    run(load_config(bends, [f"resources.pack={pack}"]), "other")
    pd.testing.assert_frame_equal(sorted_frame("out"), sorted_frame("other"))


def test_stopped_after_any_pack_it_resumes_to_the_same_table(
    bends: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(bends, ["resources.pack=24"])
    run(config, "expected")

    def look(_: int) -> None:
        counts = status(Folder(Path("out")))
        assert all(count["expected"] == 44 for count in counts.values())
        assert sum(count["missing"] for count in counts.values()) > 0
        assert (coverage("out")["expected"] == 44).all()

    assert stopped_after_each_pack(config, "out", monkeypatch, look) >= 5
    pd.testing.assert_frame_equal(sorted_frame("out"), sorted_frame("expected"))


def test_a_round_waits_for_its_failed_packs_and_resume_goes_on(
    bends: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(load_config(bends), "expected")
    train, calls = job_module.train_pack, [0]

    def failing(*arguments: Any) -> Any:
        calls[0] += 1
        if calls[0] == 1:
            raise RuntimeError("the first pack is unlucky")
        return train(*arguments)

    monkeypatch.setattr(job_module, "train_pack", failing)
    outcome = run(load_config(bends), "out")
    assert list(outcome.failed.values()) == ["RuntimeError: the first pack is unlucky"]
    counts = status(Folder(Path("out")))
    first = plan(load_config(bends)).packs[0]
    assert counts["scalarization"]["failed"] == len(first)
    assert counts["scalarization"]["missing"] == 44 - 16
    assert counts["pcgrad"]["missing"] == 0
    assert resume("out").failed == {}
    pd.testing.assert_frame_equal(sorted_frame("out"), sorted_frame("expected"))


def test_diverged_runs_do_not_stop_the_search(bends: Path) -> None:
    outcome = run(load_config(bends, ["optimizer.lr=[0.01, 1.0e+30]"]), "out")
    assert outcome.diverged > 0 and outcome.failed == {}
    assert load("out")["run"].nunique() == 132
    outcome = run(load_config(bends, ["optimizer.lr=1.0e+30"]), "lost")
    assert outcome.diverged == outcome.runs == 66


def test_a_folder_with_another_search_is_refused(bends: Path) -> None:
    run(load_config(bends), "out")
    more = load_config(bends, ["arms.scalarization.weights.batch=2"])
    with pytest.raises(RequestError, match="another experiment"):
        run(more, "out")


def test_an_equal_number_of_passes_leaves_out_vectors_that_it_does_not_pay(bends: Path) -> None:
    settings = ["tuning.runs_per_arm=equal_backward_passes", "arms.pcgrad.weights.points=40"]
    planned = plan(load_config(bends, [*settings, "arms.scalarization.weights.points=20"]))
    # 40 vectors at 2 rates and 2 passes a step; scalarization's 20 get as many passes: 160 a seed
    assert planned.arm_runs() == {"scalarization": 320, "pcgrad": 160, "cagrad": 160}
    few = plan(
        load_config(bends, [*settings, "optimizer.lr=0.01", "arms.scalarization.weights.points=90"])
    )
    assert few.arm_runs()["pcgrad"] == 90
    assert sum(few.rounds["pcgrad"].sizes) == 40
    fewer = plan(
        load_config(
            bends,
            [
                *settings,
                "optimizer.lr=0.01",
                "arms.pcgrad.weights.points=80",
                "arms.scalarization.weights.points=90",
                "arms.cagrad={c: 0.2}",
            ],
        )
    )
    assert fewer.arm_runs()["pcgrad"] == 2 * sum(fewer.rounds["pcgrad"].sizes) == 160


WRONG = [
    ("search: fronts", r"weights\.search: unknown search 'fronts'.*'front'"),
    ("search: front, point: 9", r"weights\.point: unknown field 'point'.*'points'"),
    ("search: front", r"weights: `points` must be a whole number from 3; found None"),
    ("search: front, points: 2", r"weights\.points: .* from 3; found 2"),
    ("search: front, points: 9, start: 1", r"weights\.start: .* from 2; found 1"),
    ("search: front, points: 9, start: 10", r"weights\.start: .*its 9 points; found 10"),
    ("search: front, points: 9, batch: 0", r"weights\.batch: .* from 1; found 0"),
    ("search: front, points: 9, low: no", r"weights\.low: `low` must be a number"),
    ("search: front, points: 9, low: 0.6", r"weights: `low` must lie between 0 and 0.5"),
]


@pytest.mark.parametrize(("fields", "message"), WRONG)
def test_wrong_searches_are_refused_with_line_and_rule(
    bends: Path, fields: str, message: str
) -> None:
    text = ADAPTIVE.replace("search: front, points: 11, start: 4, batch: 3", fields)
    bends.write_text(text)
    with pytest.raises(RequestError, match=r"bends\.yaml:8: arms\.scalarization\." + message):
        plan(load_config(bends))


def test_a_method_that_shows_a_whole_front_is_not_searched(bends: Path) -> None:
    config = load_config(bends, ["arms.pareto_manifold.weights={search: front, points: 9}"])
    with pytest.raises(RequestError, match="shows a whole front"):
        plan(config)


def test_a_vector_is_judged_at_the_learning_rate_that_is_best_over_seeds(bends: Path) -> None:
    config = load_config(bends, ["seeds=3"])
    own = [s for s in plan(config).runs.values() if s.arm == "scalarization"]
    place = own[0].weights
    specs = [spec_from_dict(s.as_dict()) for s in own if s.weights == place]
    losses = {}
    for spec in specs:  # the higher rate is better on two seeds and much worse on one
        good = spec.lr == 0.01 and spec.seed < 2
        losses[spec.id] = [1.0, 1.0] if good else [9.0, 9.0] if spec.lr == 0.01 else [2.0, 2.0]
    weights, reached, seeds = judged(specs, losses)
    assert weights.tolist() == [list(place or ())] * 3
    assert reached.tolist() == [[2.0, 2.0]] * 3
    assert seeds.tolist() == [0, 1, 2]
    worse = {k: v for k, v in losses.items() if v != [9.0, 9.0]} | {
        spec.id: [0.0, 0.0] for spec in specs if spec.lr == 0.01 and spec.seed == 2
    }
    assert judged(specs[::-1], worse)[1].tolist() == [[1.0, 1.0], [1.0, 1.0], [0.0, 0.0]]
    diverged = {k: v for k, v in worse.items() if v != [0.0, 0.0]}
    assert judged(specs, diverged)[1].tolist() == [[2.0, 2.0]] * 3


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT])
def test_under_ray_a_stopped_search_resumes_to_the_inline_table(
    bends: Path, stop: signal.Signals
) -> None:
    bends.write_text(
        ADAPTIVE.replace("engine: inline", "engine: ray").replace("epochs: 6", "epochs: 30")
    )
    run(load_config(bends, ["resources.engine=inline"]), "expected")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "mtofront"]
    driver = subprocess.Popen(
        [*command, "run", "bends.yaml", "--out", "out"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + TIMEOUT
    planned = len(plan(load_config(bends)).packs)

    def in_a_later_round() -> bool:
        manifest = Path("out/manifest.json")
        return manifest.exists() and len(json.loads(manifest.read_text())["packs"]) > planned

    while time.monotonic() < deadline and not in_a_later_round():
        time.sleep(0.02)
    driver.send_signal(stop)
    driver.wait(timeout=TIMEOUT)
    assert driver.returncode in (-signal.SIGKILL, 130)
    assert load("out")["run"].nunique() < 132
    done = subprocess.run(
        [*command, "resume", "out"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert done.returncode == 0, done.stderr
    pd.testing.assert_frame_equal(sorted_frame("out"), sorted_frame("expected"))
