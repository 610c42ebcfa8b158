"""Ray Tune as the engine: the same records as in this process, whatever is killed."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest

from mtofront.analysis import load
from mtofront.sweep import load_config, run

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ray")]

ROOT = Path(__file__).parents[1]
TIMEOUT = 300
"""Seconds that a sweep of a few seconds may take on a busy machine."""
DIGITS = """\
name: digits
problem: multidigits
problem_options: {train: 320, val: 100, test: 100}
budget: {epochs: 20, batch_size: 32, evaluations: 2}
optimizer: {name: adam, lr: [0.003, 0.01]}
seeds: 2
arms:
  scalarization: {method: linear, weights: {grid: log_odds, points: 4}}
  pcgrad:
resources: {cpus: 2, pack: 4}
"""


def mtofront(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "mtofront", *arguments]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def sorted_frame(folder: Path) -> pd.DataFrame:
    frame = load(folder)
    return frame.sort_values(list(frame.columns)).reset_index(drop=True)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the sweep as this process trains it."""
    home = tmp_path_factory.mktemp("trained")
    (home / "digits.yaml").write_text(DIGITS)
    config = load_config(home / "digits.yaml", ["resources.engine=inline"])
    return run(config, home / "expected").folder


@pytest.fixture
def digits(trained: Path, workdir: Path) -> Path:
    (workdir / "digits.yaml").write_text(DIGITS)
    (workdir / "expected").symlink_to(trained)
    return workdir


def children(parent: int) -> list[int]:
    """All descendants of a process that are alive."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True)
    pairs = [tuple(map(int, line.split())) for line in listed.stdout.splitlines()]
    found, border = [], {parent}
    while border:
        border = {pid for pid, above in pairs if above in border}
        found += sorted(border)
    return found


def command_of(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text()
    return ""


def test_ray_tune_writes_what_the_inline_engine_writes_and_keeps_the_screen_clean(
    digits: Path,
) -> None:
    done = subprocess.run(
        mtofront("run", "digits.yaml", "--out", "out"),
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
        timeout=TIMEOUT,
    )
    pd.testing.assert_frame_equal(sorted_frame(Path("out")), sorted_frame(Path("expected")))
    assert "pcgrad" in done.stdout and "index.html" in done.stdout
    for noise in ("ray", "tune", "warning", "╭"):
        assert noise not in done.stderr.lower().replace("results", ""), done.stderr


VICTIMS = {"driver": "-m\0mtofront", "worker": "ray::ImplicitFunc", "raylet": "raylet/raylet"}
"""What the command line of each kind of process holds, as /proc shows it."""


@pytest.mark.parametrize("victim", sorted(VICTIMS))
def test_nothing_is_lost_or_done_twice_when_a_process_is_killed(digits: Path, victim: str) -> None:
    driver = subprocess.Popen(
        mtofront("run", "digits.yaml", "--out", "out"),
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline and not list(Path("out").glob("records/*.parquet")):
        time.sleep(0.02)
    family = [driver.pid, *children(driver.pid)]
    target = next(pid for pid in family if VICTIMS[victim] in command_of(pid))
    with contextlib.suppress(ProcessLookupError):
        os.kill(target, signal.SIGKILL)
    driver.wait(timeout=TIMEOUT)
    subprocess.run(
        mtofront("resume", "out"),
        env=environment(),
        capture_output=True,
        check=True,
        timeout=TIMEOUT,
    )
    pd.testing.assert_frame_equal(sorted_frame(Path("out")), sorted_frame(Path("expected")))


def test_a_killed_driver_is_followed_on_another_machine_by_the_storage_alone(digits: Path) -> None:
    uri = f"file://{digits}/store"
    driver = subprocess.Popen(
        mtofront("run", "digits.yaml", "--out", "out", "--set", f"resources.storage={uri}"),
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for(lambda: any(Path("store").glob("records/*.parquet")))
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait(timeout=TIMEOUT)
    there = {p: p.stat().st_mtime_ns for p in Path("store/records").glob("*.parquet")}
    done = subprocess.run(
        mtofront("resume", "elsewhere", "--from", uri),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert done.returncode == 0, done.stderr
    assert {path: path.stat().st_mtime_ns for path in there} == there
    pd.testing.assert_frame_equal(sorted_frame(Path("elsewhere")), sorted_frame(Path("expected")))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_sweep_joins_a_cluster_and_leaves_it_running(digits: Path) -> None:
    port = free_port()
    command = f"start --head --block --num-cpus=2 --include-dashboard=false --port={port}"
    ray = Path(sys.executable).with_name("ray")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    cluster = subprocess.Popen([ray, *command.split()], env=environment(), **quiet)
    try:
        deadline = time.monotonic() + TIMEOUT
        while time.monotonic() < deadline and not is_open(port):
            time.sleep(0.2)
        done = subprocess.run(
            mtofront("run", "digits.yaml", "--out", "out", "--address", f"127.0.0.1:{port}"),
            env=environment(),
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
        assert done.returncode == 0, done.stderr
        assert cluster.poll() is None and is_open(port)
    finally:
        cluster.terminate()
        cluster.wait(timeout=TIMEOUT)
    pd.testing.assert_frame_equal(sorted_frame(Path("out")), sorted_frame(Path("expected")))


@contextlib.contextmanager
def two_raylets(env: dict[str, str]) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """A cluster of two nodes of one core each: the port to join, and the second node's process."""
    port = free_port()
    ray = str(Path(sys.executable).with_name("ray"))
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": env}
    common = ["--block", "--num-cpus=1"]
    head = [ray, "start", "--head", *common, "--include-dashboard=false", f"--port={port}"]
    nodes = [subprocess.Popen(head, **quiet)]  # type: ignore[call-overload]
    try:
        wait_for(lambda: is_open(port))
        second = [ray, "start", *common, f"--address=127.0.0.1:{port}"]
        nodes.append(subprocess.Popen(second, **quiet))  # type: ignore[call-overload]
        wait_for(lambda: raylet_of(nodes[1].pid) is not None)
        yield port, nodes[1]
    finally:
        for node in reversed(nodes):
            node.terminate()
            node.wait(timeout=TIMEOUT)


def raylet_of(node: int) -> int | None:
    return next((p for p in children(node) if VICTIMS["raylet"] in command_of(p)), None)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_sweep_on_two_raylets_outlives_one_of_them(digits: Path) -> None:
    env = {**environment(), "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    with two_raylets(env) as (port, second):
        driver = subprocess.Popen(
            mtofront("run", "digits.yaml", "--out", "out", "--address", f"127.0.0.1:{port}"),
            env=env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_for(lambda: any(VICTIMS["worker"] in command_of(p) for p in children(second.pid)))
        wait_for(lambda: any(Path("out").glob("records/*.parquet")))
        raylet = raylet_of(second.pid)
        assert raylet is not None and driver.poll() is None
        os.kill(raylet, signal.SIGKILL)
        _, errors = driver.communicate(timeout=TIMEOUT)
        assert driver.returncode == 0, errors
    pd.testing.assert_frame_equal(sorted_frame(Path("out")), sorted_frame(Path("expected")))


def test_a_second_ctrl_c_ends_at_once_and_loses_nothing(digits: Path) -> None:
    changes = ["seeds=1", "budget.epochs=40", "budget.evaluations=20"]
    changes += ["resources.checkpoint_seconds=0"]
    settings = [part for change in changes for part in ("--set", change)]
    driver = subprocess.Popen(
        mtofront("run", "digits.yaml", "--out", "out", *settings),
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: any(Path("out").glob("records/*.parquet")))
    wait_for(lambda: any(Path("out").glob("checkpoints/*.ckpt")))
    driver.send_signal(signal.SIGINT)
    time.sleep(0.3)
    driver.send_signal(signal.SIGINT)
    _, errors = driver.communicate(timeout=TIMEOUT)
    assert driver.returncode == 130, errors
    assert "are kept" in errors and "Traceback" not in errors
    done = {path: path.stat().st_mtime_ns for path in Path("out/records").glob("*.parquet")}
    assert list(Path("out").glob("checkpoints/*.ckpt"))
    again = subprocess.run(
        mtofront("resume", "out"), env=environment(), capture_output=True, timeout=TIMEOUT
    )
    assert again.returncode == 0, again.stderr
    assert load("out")["run"].nunique() == 16
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert not list(Path("out").glob("checkpoints/*"))


def test_ctrl_c_stops_cleanly_and_resume_goes_on(digits: Path) -> None:
    longer = ("--set", "budget.epochs=50")
    driver = subprocess.Popen(
        mtofront("run", "digits.yaml", "--out", "out", "--set", "seeds=1", *longer),
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline and not list(Path("out").glob("records/*.parquet")):
        time.sleep(0.05)
    driver.send_signal(signal.SIGINT)
    _, errors = driver.communicate(timeout=TIMEOUT)
    assert driver.returncode == 130, errors
    assert "resume" in errors and "Traceback" not in errors
    done = subprocess.run(
        mtofront("resume", "out"),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert done.returncode == 0, done.stderr
    assert load("out")["run"].nunique() == 16
