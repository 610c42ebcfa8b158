"""Clusters: what goes to the nodes, what is refused, and the ready files for KubeRay and Slurm."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from mtofront.analysis import load
from mtofront.sweep import Folder, RequestError, load_config, run
from mtofront.sweep.config import Resources
from mtofront.sweep.ray_cluster import can_train, carried, check_shared, is_carried
from mtofront.sweep.work import Work

ROOT = Path(__file__).parents[1]
TIMEOUT = 300
OWN = """\
from mtofront.problems import PROBLEMS
import my_sizes

def make():
    return PROBLEMS["multidigits"](**my_sizes.SIZES)
"""
CONFIG = """\
name: own
problem: my_problem:make
budget: {epochs: 1, batch_size: 32, evaluations: 1}
optimizer: {lr: 0.01}
seeds: 1
arms:
  scalarization: {method: linear, weights: {grid: log_odds, points: 2}}
resources: {pack: 2}
"""


def test_a_node_can_train_if_it_has_what_a_pack_takes() -> None:
    assert can_train({"CPU": 1.0}, 0.0) and can_train({"CPU": 4.0, "GPU": 1.0}, 0.25)
    assert not can_train({"GPU": 8.0}, 0.25)
    assert not can_train({"CPU": 64.0}, 0.25) and not can_train({"CPU": 64.0, "GPU": 1.0}, 2)


def test_a_folder_that_a_node_does_not_see_is_refused_and_left_tidy(tmp_path: Path) -> None:
    nodes = {"1": "head", "2": "far", "3": "gone"}
    seen: list[str] = []

    def look(ids: object, marker: Path) -> dict[str, bool]:
        assert marker.read_text() == "by every node"
        seen.append(marker.name)
        return {"1": True, "2": False}

    with pytest.raises(RequestError, match=r"2 of 3 do not \(far, gone\).*docs/cluster\.md"):
        check_shared(Folder(tmp_path), nodes, look)
    check_shared(Folder(tmp_path), {"1": "head"}, look)
    assert len(set(seen)) == 2 and list(tmp_path.iterdir()) == []


def work_of(problem: str, home: Path, address: str | None) -> Work:
    folder = Folder(home / "out")
    folder.root.mkdir(exist_ok=True)
    folder.manifest.write_text(f'{{"format": 2, "problem": "{problem}"}}')
    return Work(folder, [], Resources(), home, address)


def test_only_the_users_own_module_is_sent_to_a_cluster(
    workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    Path("my_problem.py").write_text(OWN)
    assert is_carried(work_of("my_problem:make", workdir, "auto"))
    assert not is_carried(work_of("my_problem:make", workdir, None))
    assert not is_carried(work_of("multidigits", workdir, "auto"))
    assert not is_carried(work_of("json:loads", workdir, "auto"))  # installed, not in the folder
    sent = carried(work_of("my_problem:make", workdir, "auto"))
    assert sent["working_dir"] == str(workdir.resolve())
    assert {"/out", ".git", ".venv", "results"} <= set(sent["excludes"])
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")  # a submitted job brought its own
    assert not is_carried(work_of("my_problem:make", workdir, "auto"))


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_gpus_that_a_machine_has_not_are_refused_instead_of_waited_for(bowls: Path) -> None:
    settings = ["resources.engine=ray", "resources.gpus_per_pack=512", "resources.cpus=1"]
    with pytest.raises(RequestError, match="a pack is to have 512 GPUs; this machine has"):
        run(load_config(bowls, settings), "out")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def can_hide() -> bool:
    """Whether this user may give a process a view of the file system of its own."""
    try:
        return subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode == 0
    except OSError:
        return False


@contextmanager
def head_and_blind_node(env: dict[str, str], hidden: Path, cwd: Path) -> Iterator[int]:
    """A head that trains nothing and a node with one CPU for which a folder is empty: the port."""
    port, ray = free_port(), str(Path(sys.executable).with_name("ray"))
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": env, "cwd": cwd}
    head = f"{ray} start --head --block --num-cpus=0 --include-dashboard=false --port={port}"
    node = (
        f"mount -t tmpfs none {hidden} && exec {ray} start --block --num-cpus=1 "
        f"--address=127.0.0.1:{port}"
    )
    nodes = [subprocess.Popen(head.split(), **quiet)]  # type: ignore[call-overload]
    try:
        wait_for(lambda: is_open(port))
        nodes.append(subprocess.Popen(["unshare", "-m", "sh", "-c", node], **quiet))  # type: ignore[call-overload]
        yield port
    finally:
        for process in reversed(nodes):
            process.terminate()
            process.wait(timeout=TIMEOUT)


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
@pytest.mark.skipif(not can_hide(), reason="needs the right to unshare the mount namespace")
def test_a_node_gets_the_users_modules_but_must_see_the_results(tmp_path: Path) -> None:
    home, shared, nowhere = (tmp_path / name for name in ("home", "shared", "nowhere"))
    for folder in (home, shared, nowhere):
        folder.mkdir()
    (home / "my_problem.py").write_text(OWN)
    (home / "my_sizes.py").write_text("SIZES = {'train': 64, 'val': 40, 'test': 40}\n")
    (home / "own.yaml").write_text(CONFIG)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    env |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}

    def mtofront(out: Path, storage: str = "null") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "mtofront", "run", "own.yaml", "--out", str(out)]
        address = ["--address", f"127.0.0.1:{port}", "--set", f"resources.storage={storage}"]
        return subprocess.run(
            [*command, *address], cwd=home, env=env, capture_output=True, text=True, timeout=TIMEOUT
        )

    with head_and_blind_node(env, home, nowhere) as port:
        done = mtofront(shared / "out")
        refused = mtofront(home / "out")
        stored = mtofront(home / "copy", f"file://{shared}/store")
        apart = mtofront(home / "apart", f"file://{home}/store")
    assert done.returncode in (0, 1) and "packs failed" not in done.stderr, done.stderr
    assert load(shared / "out")["run"].nunique() == 2
    assert refused.returncode == 2, refused.stderr
    assert "every node of the cluster must see the sweep's folder; 1 of 1" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert "packs failed" not in stored.stderr, stored.stderr
    assert load(home / "copy").equals(load(shared / "out"))  # the node saw nothing of the folder
    assert apart.returncode == 2, apart.stderr
    assert "every node of the cluster must reach resources.storage; 1 of 1" in apart.stderr
    assert "is it the same storage?" in apart.stderr and "Traceback" not in apart.stderr


CLUSTER = ROOT / "docs" / "cluster"


def test_the_slurm_script_is_valid_and_asks_for_what_it_uses() -> None:
    script = CLUSTER / "slurm.sbatch"
    subprocess.run(["bash", "-n", script], check=True)
    text = script.read_text()
    asked = dict(
        line.removeprefix("#SBATCH --").partition("=")[::2]
        for line in text.splitlines()
        if line.startswith("#SBATCH --")
    )
    assert {"nodes", "cpus-per-task", "time", "exclusive", "requeue"} <= asked.keys()
    assert asked["ntasks-per-node"] == "1"  # one Ray a node
    assert asked["signal"] == "B:USR1@300" and "USR1" in text.partition("set -euo")[2]


STUBS = {
    "srun": 'while [[ $1 == --* ]]; do shift; done\nexec "$@"',
    "scontrol": 'if [[ $1 == show ]]; then hostname; else echo "$*" >> requeued; fi',
    "mtofront": f'exec {sys.executable} -m mtofront "$@"',
    "ray": f'exec {Path(sys.executable).with_name("ray")} "$@"',
}


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_the_slurm_script_trains_a_sweep_with_stand_ins_for_slurms_commands(workdir: Path) -> None:
    Path("bin").mkdir()
    for name, body in STUBS.items():
        Path("bin", name).write_text(f"#!/usr/bin/env bash\n{body}\n")
        Path("bin", name).chmod(0o755)
    sizes = "problem_options: {train: 64, val: 40, test: 40}"
    Path("own.yaml").write_text(CONFIG.replace("my_problem:make", f"multidigits\n{sizes}"))
    job = {
        "SLURM_JOB_ID": str(secrets.randbelow(10**6)),
        "SLURM_CPUS_PER_TASK": "1",
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_JOB_NODELIST": "n1",
        "PATH": f"{workdir / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        ["bash", CLUSTER / "slurm.sbatch", "own.yaml", "out"],
        env={**os.environ, **job},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT,
    )
    assert load("out")["run"].nunique() == 2, done.stdout
    assert not Path("requeued").exists()


def test_the_rayjob_is_what_kuberay_takes_and_all_its_pods_share_the_folder() -> None:
    """Its fields were checked against KubeRay's CRD once; this holds what ties them together."""
    volume, job = yaml.safe_load_all((CLUSTER / "rayjob.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert volume["spec"]["accessModes"] == ["ReadWriteMany"]
    spec = job["spec"]
    assert set(spec) <= {
        "entrypoint", "backoffLimit", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished",
        "rayClusterSpec",
    }  # fmt: skip
    cluster = spec["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    images = set()
    for group in groups:
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        images.add(container["image"])
        (mount,) = container["volumeMounts"]
        (source,) = pod["volumes"]
        assert mount["name"] == source["name"]
        assert source["persistentVolumeClaim"]["claimName"] == volume["metadata"]["name"]
        assert f"--out {mount['mountPath']}/" in spec["entrypoint"]
        assert container["resources"]["limits"] == container["resources"]["requests"]
        assert {"name": "RAY_memory_monitor_refresh_ms", "value": "0"} in container["env"]
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        assert all(isinstance(one["value"], str) for one in container["env"])
    assert len(images) == 1
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert f"rayproject/ray:{cluster['rayVersion']}-" in (CLUSTER / "Dockerfile").read_text()
    for group in cluster["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
