"""A sweep with front halving: what is decided, what is spent, and what survives being killed."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from test_ending import fragile, runs
from test_ray_engine import VICTIMS, children, command_of, two_raylets, wait_for

from mtofront.analysis import coverage, load
from mtofront.sweep import Interrupted, RequestError, Tracker, load_config, plan, resume, run
from mtofront.sweep import train as training
from mtofront.sweep.checkpoint import Checkpoints
from mtofront.sweep.course import StepByStep
from mtofront.sweep.decisions import Decision, read_decision
from mtofront.sweep.train import train_pack
from mtofront.sweep.trained import Trained, Waiting

ROOT = Path(__file__).parents[1]
CONFIG = """\
name: halved
problem: quadratics
problem_options: {rows: 80}
budget: {epochs: 8, batch_size: 16, evaluations: 8}
optimizer: {name: sgd, lr: [0.003, 0.01, 1.0e+30]}
seeds: 2
scheduler: {name: front_halving, rungs: [0.25, 0.5], keep: 0.5}
arms:
  scalarization: {method: linear, weights: {grid: log_odds, points: 4}}
  pcgrad: {weights: {grid: log_odds, points: 4}}
resources: {engine: inline, pack: 5, cpus: 2}
"""


DIGITS = ["problem=multidigits", "problem_options={train: 80, val: 40, test: 40}"]
"""A problem with linear layers, whose last digits the size of a pack could touch."""


@pytest.fixture
def halved(workdir: Path) -> Path:
    path = workdir / "halved.yaml"
    path.write_text(CONFIG)
    return path


def rows(folder: Path | str, *left_out: str) -> pd.DataFrame:
    frame = load(folder).drop(columns=list(left_out))
    return frame.sort_values(list(frame.columns)).reset_index(drop=True)


def settings_of(frame: pd.DataFrame) -> list[tuple[object, ...]]:
    """Each run's id, arm, seed, learning rate and weights."""
    weights = [name for name in frame.columns if name.startswith("w_")]
    first = frame.drop_duplicates("run")[["run", "arm", "seed", "lr", *weights]]
    return list(first.itertuples(index=False, name=None))


def decisions(folder: Path | str) -> dict[str, Decision]:
    found = {}
    for path in sorted(Path(folder, "rungs").iterdir()):
        arm, _, epoch = path.stem.partition("-epoch-")
        decision = read_decision(Path(folder), arm, int(epoch))
        assert decision is not None
        found[path.name] = decision
    return found


def test_survivors_end_as_ever_and_stopped_runs_keep_what_they_had(halved: Path) -> None:
    run(load_config(halved, DIGITS), "halved")
    run(load_config(halved, [*DIGITS, "scheduler=null"]), "full")
    ours, whole = load("halved"), load("full")
    full = {tuple(row[1:]): row[0] for row in settings_of(whole)}
    to_full = {row[0]: full[tuple(row[1:])] for row in settings_of(ours)}
    ended = dict.fromkeys(decisions("halved")["scalarization-epoch-00002.json"].stopped, 2)
    ended |= dict.fromkeys(decisions("halved")["pcgrad-epoch-00002.json"].stopped, 2)
    for name in ("scalarization", "pcgrad"):
        late = decisions("halved")[f"{name}-epoch-00004.json"]
        ended |= dict.fromkeys(late.stopped, 4)
    assert len(ended) == 2 * 2 * (4 + 2)  # of 8 that do not diverge, two arms, two seeds
    for name in to_full:
        own = ours[ours["run"] == name]
        other = whole[(whole["run"] == to_full[name]) & (whole["epoch"] <= ended.get(name, 8))]
        measured = ~own["measure"].isin(["backward_passes", "stopped"])
        expected = ~other["measure"].isin(["backward_passes"])
        pd.testing.assert_frame_equal(
            own[measured].drop(columns="run").reset_index(drop=True),
            other[expected].drop(columns="run").reset_index(drop=True),
            check_exact=True,
        )
        passes = own.loc[own["measure"] == "backward_passes", "value"].item()
        diverged = bool((own["measure"] == "diverged").any())
        cost = 1 if own["arm"].iloc[0] == "scalarization" else 2
        if name in ended:
            assert passes == cost * ended[name] * 5
            said = own[own["measure"] == "stopped"]
            assert said["epoch"].tolist() == [ended[name]] and said["step"].item() == passes / cost
        elif not diverged:
            assert passes == cost * 8 * 5
    table = coverage("halved").set_index("arm")
    assert table["stopped"].tolist() == [12, 12] and table["diverged"].tolist() == [8, 8]
    assert table["done"].tolist() == [4, 4]


def test_a_decision_compares_the_runs_of_one_arm_and_seed(halved: Path) -> None:
    run(load_config(halved), "out")
    about = load("out").drop_duplicates("run").set_index("run")
    for name, found in decisions("out").items():
        compared = about.loc[[*found.kept, *found.stopped]]
        assert set(compared["arm"]) == {found.arm} and name.startswith(found.arm)
        kept = compared.loc[list(found.kept), "seed"].value_counts().to_dict()
        assert kept == ({0: 4, 1: 4} if found.epoch == 2 else {0: 2, 1: 2})
        assert found.epochs_saved == len(found.stopped) * (8 - found.epoch)
        assert all(0 < share <= 1 for share in found.hypervolume_share.values())


def test_packs_do_not_matter(halved: Path) -> None:
    few = [*DIGITS, "seeds=1"]
    run(load_config(halved, [*few, "resources.pack=24"]), "out")
    run(load_config(halved, [*few, "resources.pack=1"]), "other")
    assert decisions("other") == decisions("out")
    pd.testing.assert_frame_equal(rows("other"), rows("out"), check_exact=True)


class Killed(BaseException):
    """Stands for SIGKILL of this process: nothing may be saved any more."""


def test_a_sweep_killed_at_any_news_goes_on_to_the_same_table(halved: Path) -> None:
    """Killed once after every piece of news, one after another, each time taken up again."""
    config = load_config(halved)
    run(config, "whole")
    heard: set[Any] = set()

    def once(tracker: Tracker) -> None:
        key = {n: (x.epoch, x.done, x.waits) for n, x in tracker.latest.items()}
        state = frozenset(key.items()) if key else None
        if state and not heard & {state}:
            heard.add(state)
            raise Killed

    for _ in range(400):
        try:
            run(config, "cut", listen=once)
            break
        except Killed:
            continue
    assert len(heard) > 60
    assert decisions("cut") == decisions("whole")
    pd.testing.assert_frame_equal(rows("cut"), rows("whole"), check_exact=True)
    assert not list(Path("cut/checkpoints").iterdir())


def test_a_decision_that_was_taken_is_taken_for_good(halved: Path) -> None:
    """A driver that dies between decision and training does not decide again."""
    config = load_config(halved)

    def stop(tracker: Tracker) -> None:
        if Path("out/rungs/scalarization-epoch-00002.json").exists():
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        run(config, "out", listen=stop)
    path = Path("out/rungs/scalarization-epoch-00002.json")
    before = path.stat().st_mtime_ns
    resume("out")
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize(("rung", "text"), [(2, ""), (4, "[]")])
def test_a_damaged_decision_is_taken_again_and_is_the_same(
    halved: Path, text: str, rung: int
) -> None:
    """Some packs of the arm have their records by then, the others are beyond the rung."""
    config = load_config(halved, ["resources.checkpoint_seconds=0"])
    run(config, "whole")

    def stop(tracker: Tracker) -> None:
        done = [n for n in tracker.latest.values() if n.done]
        if done and any(n.epoch == 6 and not n.done for n in tracker.latest.values()):
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        run(config, "out", listen=stop)
    before = list(Path("out/records").iterdir())
    assert before and list(Path("out/checkpoints").iterdir())
    path = Path(f"out/rungs/scalarization-epoch-{rung:05d}.json")
    path.write_text(text)
    outcome = resume("out")
    assert any("was damaged; it was decided again" in line for line in outcome.notices)
    assert decisions("out") == decisions("whole")
    pd.testing.assert_frame_equal(rows("out"), rows("whole"), check_exact=True)


def test_a_pack_whose_runs_are_all_stopped_writes_its_records(halved: Path) -> None:
    config = load_config(halved, ["resources.pack=1", "scheduler.keep=0.1"])
    run(config, "out")
    assert load("out")["run"].nunique() == 48
    assert coverage("out").set_index("arm")["done"].tolist() == [2, 2]


def test_a_run_that_ends_by_itself_is_not_compared(halved: Path) -> None:
    settings = ["budget.patience=1", "optimizer.lr=[0.003,1.0e-30]"]
    run(load_config(halved, settings), "out")
    frame = load("out")
    still = set(frame.loc[frame["lr"] == 1e-30, "run"])
    for found in decisions("out").values():
        assert not still & {*found.kept, *found.stopped}
    assert frame[frame["lr"] == 1e-30]["epoch"].max() == 1


def test_failed_packs_are_left_out_and_go_on_when_they_are_tried_again(
    halved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(halved, ["optimizer.lr=[0.003,0.01]"])
    original = training._train_together
    broken: list[str] = []

    def breaking(problem: Any, specs: Any, *rest: Any) -> Any:
        if not broken:
            broken.extend(spec.id for spec in specs)
        if specs[0].id == broken[0]:
            raise ZeroDivisionError("broken")
        return original(problem, specs, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(training, "_train_together", breaking)
        assert len(run(config, "out").failed) == 1
    for found in decisions("out").values():
        assert not set(broken) & {*found.kept, *found.stopped}
    assert resume("out").failed == {}
    frame = load("out")
    assert (frame[frame["run"].isin(broken)].groupby("run")["epoch"].max() == 8).all()


RULE = {"name": "front_halving", "rungs": [2, 4], "keep": 0.5}


def test_a_pack_in_halves_waits_at_rungs_and_goes_on_from_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = [replace(s, scheduler=RULE) for s in runs("mgda", [0.001, 0.002, 1e6, 0.003, 0.004])]
    stopped = {2: {specs[0].id}, 4: {specs[4].id}}
    expected = train_pack(fragile(), specs, ask=stopped.__getitem__)
    original = training._train_together

    def limited(problem: Any, some: Any, *rest: Any) -> Any:
        if len(some) > 2:
            raise MemoryError
        return original(problem, some, *rest)

    monkeypatch.setattr(training, "_train_together", limited)
    trained: list[int] = []
    step_by_step = StepByStep.train

    def noted(self: StepByStep, epoch: int) -> None:
        trained.append(epoch)
        step_by_step(self, epoch)

    monkeypatch.setattr(StepByStep, "train", noted)
    for decided in (0, 2, 4):
        known = {rung: ids for rung, ids in stopped.items() if rung <= decided}
        checkpoints = Checkpoints(tmp_path / "pack-00000.ckpt", 1e9)
        trained.clear()
        found = train_pack(fragile(), specs, checkpoints=checkpoints, ask=known.get)
        if decided < 4:
            assert isinstance(found, Waiting) and found.epoch == decided + 2
            going = [True, True, False, True, True]
            going[0] = decided < 2
            assert (found.points == found.points).all(axis=1).tolist() == going
        assert min(trained) == decided  # nothing is trained twice
    assert isinstance(found, Trained) and isinstance(expected, Trained)
    assert found.steps.tolist() == expected.steps.tolist()
    assert found.stopped.tolist() == expected.stopped.tolist() == [True, False, False, False, True]
    assert (found.backward_passes == expected.backward_passes).all()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["scheduler.rungs=[0.3]"], ["scheduler.rungs", "epochs 2 of 8", "0.25", "allowed"]),
        (["scheduler.rungs=[0.25,0.26]"], ["scheduler.rungs", "epochs 2, 2 of 8"]),
        (["budget.evaluations=1"], ["scheduler.rungs", "none of them"]),
        (["scheduler.rungs=[0.5,0.25]"], ["scheduler.rungs", "ascend"]),
        (["scheduler.rungs=[]"], ["scheduler.rungs", "at least one"]),
        (["scheduler.keep=1"], ["scheduler.keep", "less than 1"]),
        (["scheduler=hyperband"], ["scheduler.name", "front_halving", "hyperband"]),
        (["scheduler.rung=[0.5]"], ["scheduler.rung", "did you mean 'rungs'"]),
    ],
)
def test_a_wrong_scheduler_is_refused(halved: Path, settings: list[str], words: list[str]) -> None:
    if settings == ["scheduler.rungs=[0.3]"]:
        settings = ["scheduler.rungs=[0.3]", "budget.evaluations=4", "budget.epochs=10"]
        words = ["scheduler.rungs", "after epochs 3 of 10", "0.2, 0.5, 0.8", "allowed"]
    with pytest.raises(RequestError) as error:
        plan(load_config(halved, settings))
    for word in words:
        assert word in str(error.value), error.value


def test_another_scheduler_is_another_experiment(halved: Path) -> None:
    run(load_config(halved), "out")
    with pytest.raises(RequestError, match="another experiment"):
        run(load_config(halved, ["scheduler.keep=0.4"]), "out")


def test_the_plan_counts_what_is_expected_to_be_trained(halved: Path) -> None:
    planned = plan(load_config(halved))
    share = (12 * 2 + 6 * 2 + 3 * 4) / (12 * 8)
    assert planned.arm_shares() == {"scalarization": share, "pcgrad": share}
    assert planned.arm_passes()["pcgrad"] == round(share * 24 * 8 * 5 * 2)
    finite = load_config(halved, ["optimizer.lr=[0.003,0.01,0.02]"])
    run(finite, "out")
    frame = load("out")
    spent = frame[frame["measure"] == "backward_passes"].groupby("arm")["value"].sum()
    assert spent.astype(int).to_dict() == plan(finite).arm_passes()


TIMEOUT = 300


@pytest.fixture
def expected(halved: Path) -> Path:
    digits = load_config(halved, DIGITS)
    run(digits, "expected")
    text = yaml.safe_dump(digits.model_dump(mode="json"))
    halved.write_text(text)
    return halved


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "mtofront", *arguments]


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    yield {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_ray_pauses_and_resumes_packs_with_the_same_decisions_and_records(
    expected: Path, environment: dict[str, str]
) -> None:
    arguments = ["run", "halved.yaml", "--out", "out", "--set", "resources.engine=ray"]
    done = subprocess.run(
        command(*arguments), env=environment, capture_output=True, text=True, timeout=TIMEOUT
    )
    assert done.returncode == 0, done.stderr
    assert decisions("out") == decisions("expected")
    pd.testing.assert_frame_equal(rows("out"), rows("expected"), check_exact=True)


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
@pytest.mark.parametrize("cut", ["rungs/*-epoch-00002.json", "records/*.parquet"])
def test_a_ray_sweep_killed_at_a_rung_goes_on_to_the_same_table(
    expected: Path, environment: dict[str, str], cut: str
) -> None:
    arguments = ["run", "halved.yaml", "--out", "out", "--set", "resources.engine=ray"]
    driver = subprocess.Popen(
        command(*arguments),
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline and not list(Path("out").glob(cut)):
        time.sleep(0.02)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait(timeout=TIMEOUT)
    taken = {path: path.read_bytes() for path in Path("out/rungs").glob("*.json")}
    assert taken
    done = subprocess.run(
        command("resume", "out"), env=environment, capture_output=True, text=True, timeout=TIMEOUT
    )
    assert done.returncode == 0, done.stderr
    assert all(path.read_bytes() == content for path, content in taken.items())
    assert decisions("out") == decisions("expected")
    pd.testing.assert_frame_equal(rows("out"), rows("expected"), check_exact=True)


def kill_after_the_first_decision(process: subprocess.Popen[str], victim: str, family: int) -> None:
    """Kill the first process of a kind, as soon as one arm has been cut."""
    wait_for(lambda: any(Path("out").glob("rungs/*-epoch-00002.json")))
    assert process.poll() is None
    found = next((pid for pid in children(family) if VICTIMS[victim] in command_of(pid)), None)
    assert found is not None
    os.kill(found, signal.SIGKILL)


def survives(victim: str, environment: dict[str, str], arguments: list[str], pid: int = 0) -> None:
    """Run the sweep, kill a process after the first decision, and compare with the expected one.

    pid: below which the victim is looked for; by default the driver's.
    """
    driver = subprocess.Popen(
        command("run", "halved.yaml", "--out", "out", "--set", "resources.engine=ray", *arguments),
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    kill_after_the_first_decision(driver, victim, pid or driver.pid)
    _, errors = driver.communicate(timeout=TIMEOUT)
    assert driver.returncode == 0, errors
    assert decisions("out") == decisions("expected")
    pd.testing.assert_frame_equal(rows("out"), rows("expected"), check_exact=True)


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
@pytest.mark.usefixtures("expected")
def test_a_worker_that_is_killed_between_rungs_changes_no_decision(
    environment: dict[str, str],
) -> None:
    survives("worker", environment, ["--set", "resources.checkpoint_seconds=0"])


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
@pytest.mark.usefixtures("expected")
def test_a_raylet_that_is_killed_between_rungs_changes_no_decision(
    environment: dict[str, str],
) -> None:
    env = {**environment, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    with two_raylets(env) as (port, second):
        survives("raylet", env, ["--address", f"127.0.0.1:{port}"], second.pid)
