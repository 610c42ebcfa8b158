"""Experiment trackers: what they are told of a pack, what is refused, and what they then hold."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mtofront.analysis import load
from mtofront.sweep import Folder, RequestError, Tracker, load_config, run
from mtofront.sweep import logged as logged_module
from mtofront.sweep.job import News
from mtofront.sweep.logged import PACKAGES, Log, log_of, numbers_of

ROOT = Path(__file__).parents[1]
TIMEOUT = 300


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["logging=[tensorbord]"], ["logging", "did you mean 'tensorboard'"]),
        (["logging=[wandb,wandb]"], ["only once"]),
        (["logging=tensorboard"], ["resources.engine", "found inline", "logging=[]"]),
    ],
)
def test_wrong_logging_is_refused_before_anything_starts(
    bowls: Path, settings: list[str], words: list[str]
) -> None:
    with pytest.raises(RequestError) as error:
        run(load_config(bowls, settings), "out")
    assert all(word in str(error.value) for word in words), error.value
    assert not Path("out").exists()


@pytest.mark.parametrize("name", sorted(PACKAGES))
def test_a_missing_package_is_refused_with_the_command_that_installs_it(
    bowls: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(logged_module.importlib.util, "find_spec", lambda package: None)
    config = load_config(bowls, [f"logging=[{name}]", "resources.engine=ray"])
    with pytest.raises(RequestError, match=re.escape(f"pip install 'mtofront[{name}]'")):
        run(config, "out")
    assert not Path("out").exists()
    assert f"\n{name} =" in (ROOT / "setup.cfg").read_text()


def tracker_of(folder: Path) -> tuple[Tracker, dict[str, Any]]:
    run_ = {"arm": "x", "method": "linear", "problem": "bowls", "lr": 0.1, "epochs": 1}
    manifest = {
        "packs": [["a", "b", "c"]],
        "runs": {"a": run_, "b": {**run_, "lr": 0.3}, "c": run_},
        "arms": {"x": {"backward_passes_per_step": 1}},
        "tasks": ["the speed", "size%"],
    }
    return Tracker(Folder(folder), manifest, [0]), manifest


def test_numbers_of_a_pack_are_over_the_runs_that_go_on(tmp_path: Path) -> None:
    tracker, _ = tracker_of(tmp_path)
    tracker.hear(News(0, 3, points=((4.0, 8.0),) * 3))
    points = ((1.0, 6.0), (3.0, 2.0), (float("nan"), float("nan")))
    news = News(0, 3, epoch=5, epochs=9, diverged=1, points=points, steps=70, training=2.5)
    numbers = numbers_of(news, tracker)
    volume = numbers.pop("hypervolume")
    assert volume == pytest.approx((3 * 2 + 1 * 6 - 1 * 2) / 32)  # two boxes and what they share
    assert numbers == {
        "epoch": 5, "runs": 3, "diverged": 1, "steps": 70, "training_seconds": 2.5,
        "val/the speed/best": 1.0, "val/the speed/mean": 2.0,
        "val/size_/best": 2.0, "val/size_/mean": 4.0,
    }  # fmt: skip
    ended = numbers_of(News(0, 3, epoch=9, diverged=3, done=True), tracker)
    assert set(ended) == {"epoch", "runs", "diverged", "steps", "training_seconds"}


def test_a_pack_is_described_by_its_arm_and_learning_rates(bowls: Path, tmp_path: Path) -> None:
    tracker, manifest = tracker_of(tmp_path)
    config = load_config(bowls, ["logging=tensorboard", "resources.engine=ray"])
    log = log_of(config, manifest, tracker)
    assert log is not None and log.names == ("tensorboard",) and log.experiment == "bowls"
    assert log.about(0) == {
        "pack": 0, "arm": "x", "method": "linear", "problem": "bowls", "runs": 3,
        "lr_low": 0.1, "lr_high": 0.3,
    }  # fmt: skip
    assert log_of(load_config(bowls), manifest, tracker) is None


class Recorder:
    """Stands for one of Tune's logger callbacks; slow, and broken after some calls."""

    def __init__(self, good: int) -> None:
        self.calls: list[tuple[str, str]] = []
        self.good = good

    def _note(self, what: str, trial: Any) -> None:
        time.sleep(0.01)
        if len(self.calls) >= self.good:
            raise ConnectionError("the server is gone\nfor good")
        self.calls.append((what, str(trial)))

    def log_trial_start(self, trial: Any) -> None:
        self._note("start", trial)

    def log_trial_result(self, iteration: int, trial: Any, result: dict[str, float]) -> None:
        assert trial.config["arm"] == "x" and result["training_iteration"] == iteration
        self._note(f"epoch {iteration}", trial)

    def log_trial_end(self, trial: Any, failed: bool) -> None:
        self._note("failed" if failed else "end", trial)

    def on_experiment_end(self, trials: list[Any]) -> None:
        self._note("over", "")


def follow(logger: Recorder, said: list[str], news: list[News]) -> None:
    from mtofront.sweep.ray_logging import Aside

    log = Log(("t",), "e", lambda pack: {"arm": "x", "pack": pack}, lambda n: {"epoch": n.epoch})
    aside = Aside("t", logger, log, said.append)
    trial = SimpleNamespace(trial_id="1", config={"pack": 7}, init_local_path=lambda: None)
    begin = time.perf_counter()
    aside.on_trial_start(0, [], trial)  # type: ignore[arg-type]
    for one in news:
        aside.on_trial_result(0, [], trial, {"news": one.__dict__})  # type: ignore[arg-type]
    aside.on_trial_complete(0, [], trial)  # type: ignore[arg-type]
    assert time.perf_counter() - begin < 0.01 * len(news)  # nobody waited for the tracker
    aside.on_experiment_end([])
    assert not aside.thread.is_alive()


def test_a_tracker_is_told_in_order_and_nobody_waits_for_it() -> None:
    said: list[str] = []
    logger = Recorder(good=1000)
    follow(logger, said, [News(7, 1, epoch=e, epochs=40) for e in range(40)])
    told = ["start", *(f"epoch {e}" for e in range(40)), "end", "over"]
    assert [what for what, _ in logger.calls] == told
    assert {name for _, name in logger.calls} == {"x-pack-00007", ""}
    assert said == []


def test_a_pack_that_failed_is_told_as_failed() -> None:
    logger = Recorder(good=1000)
    follow(logger, [], [*(News(7, 1, epoch=e) for e in range(20)), News(7, 1, failed="broken")])
    assert [what for what, _ in logger.calls][-2:] == ["failed", "over"]


def test_a_tracker_that_fails_is_one_line_and_the_end_of_its_logging() -> None:
    said: list[str] = []
    logger = Recorder(good=3)
    follow(logger, said, [News(7, 1, epoch=e) for e in range(40)])
    assert len(logger.calls) == 3
    assert said == ["t: logging failed and ends here: the server is gone"]
    assert threading.active_count() < 50


AVAILABLE = [name for name, package in PACKAGES.items() if importlib.util.find_spec(package)]
needs_ray = [pytest.mark.slow, pytest.mark.xdist_group("ray")]
DIGITS = f"""\
name: logged
problem: multidigits
problem_options: {{train: 64, val: 40, test: 40}}
budget: {{epochs: 4, batch_size: 32, evaluations: 2}}
optimizer: {{lr: 0.01}}
seeds: 2
arms:
  scalarization: {{method: linear, weights: {{grid: log_odds, points: 3}}}}
  pcgrad:
resources: {{cpus: 1, pack: 6}}
logging: [{", ".join(AVAILABLE)}]
"""


@pytest.fixture(scope="module")
def logged_sweep(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A sweep on Ray, told to every tracker that is installed here: its folder and messages."""
    folder = tmp_path_factory.mktemp("logged")
    (folder / "digits.yaml").write_text(DIGITS)
    env = {**os.environ, "PYTHONPATH": str(ROOT), "WANDB_MODE": "offline"}
    done = subprocess.run(
        [sys.executable, "-m", "mtofront", "run", "digits.yaml", "--out", "out"],
        cwd=folder,
        env={k: v for k, v in env.items() if k != "MLFLOW_TRACKING_URI"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr and "failed" not in done.stderr, done.stderr
    return folder / "out", done.stderr


def expected_best(folder: Path) -> dict[tuple[str, int], float]:
    """(arm, epoch) -> the best validation loss of the first task, from the records."""
    frame = load(folder)
    losses = frame[(frame["measure"] == "loss") & (frame["split"] == "val")]
    first = losses[losses["task"] == "left"]
    return first.groupby(["arm", "epoch"])["value"].min().to_dict()


def events(path: Path) -> list[Any]:
    """The events in a file of TensorBoard: each with its length, two checksums and its bytes."""
    from tensorboardX.proto.event_pb2 import Event

    data, found = path.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        found.append(Event.FromString(data[12 : 12 + length]))
        data = data[16 + length :]
    return found


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_tensorboard_holds_the_numbers_of_the_records(logged_sweep: tuple[Path, str]) -> None:
    pytest.importorskip("tensorboardX")
    folder, messages = logged_sweep
    assert f"tensorboard --logdir {Path('out') / 'tune'}" in messages
    found = {}
    for path in folder.glob("tune/*/events.out.tfevents.*"):
        arm = "pcgrad" if "pack-00001" in str(path) else "scalarization"
        for event in events(path):
            for value in event.summary.value:
                if value.tag == "ray/tune/val/left/best":
                    found[arm, event.step] = value.simple_value
    assert found == pytest.approx(expected_best(folder), rel=1e-6)


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_mlflow_holds_the_numbers_of_the_records(logged_sweep: tuple[Path, str]) -> None:
    pytest.importorskip("mlflow")
    folder, messages = logged_sweep
    assert "mlflow ui --backend-store-uri sqlite:///" in messages
    reading = (
        "import json, sys; from mlflow.tracking import MlflowClient\n"
        "client = MlflowClient(sys.argv[1]); found = []\n"
        "for e in client.search_experiments():\n"
        "    for r in client.search_runs([e.experiment_id]):\n"
        "        h = client.get_metric_history(r.info.run_id, 'val/left/best')\n"
        "        v = r.data.metrics.get('hypervolume')\n"
        "        found += [(r.data.params['arm'], m.step, m.value, r.info.status, v) for m in h]\n"
        "print(json.dumps(found))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", reading, f"sqlite:///{folder}/mlflow.db"],
        capture_output=True,
        text=True,
        check=True,
        timeout=TIMEOUT,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    best = {(arm, step): value for arm, step, value, _, _ in found}
    assert best == pytest.approx(expected_best(folder), rel=1e-6)
    assert {status for *_, status, _ in found} == {"FINISHED"}
    assert all(volume > 0 for *_, volume in found)


def chunks(data: bytes) -> Iterator[bytes]:
    """The records in a file of W&B: LevelDB's log format after seven bytes of its own."""
    at, parts = 7, b""
    while at + 7 <= len(data):
        room = 32768 - at % 32768
        if room < 7:  # too little for a header: the block is filled up
            at += room
            continue
        length, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_wandb_holds_the_numbers_of_the_records_offline(logged_sweep: tuple[Path, str]) -> None:
    pytest.importorskip("wandb")
    from wandb.proto import wandb_internal_pb2

    folder, messages = logged_sweep
    assert "wandb sync out/wandb/offline-run-*" in messages
    best = {}
    for path in folder.glob("wandb/offline-run-*/*.wandb"):
        arm, rows = "", []
        for data in chunks(path.read_bytes()):
            record = wandb_internal_pb2.Record.FromString(data)
            for item in record.run.config.update:
                if item.key == "arm":
                    arm = item.value_json.strip('"')
            items = {i.key or i.nested_key[0]: i.value_json for i in record.history.item}
            if "val/left/best" in items:
                rows.append((int(items["epoch"]), float(items["val/left/best"])))
        best |= {(arm, epoch): value for epoch, value in rows}
    assert best == pytest.approx(expected_best(folder), rel=1e-6)
    assert np.isfinite(list(best.values())).all()
