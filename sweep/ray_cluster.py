"""Joining a Ray cluster: the user's modules go along, and every node must reach the results."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any, TypeVar

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from .errors import RequestError
from .folder import Folder, write_whole
from .stored_path import PROBE, check_storage, stored
from .work import Work

Answer = TypeVar("Answer")
PROBE_SECONDS = 60.0
"""How long a node may take to say whether it sees the results; workers start in a few."""
LEFT_AT_HOME = (
    ".git", ".venv", "venv", "env", "__pycache__", "results", "wandb", "mlruns", ".ruff_cache",
    ".mypy_cache", ".pytest_cache", "*.ckpt", "*.parquet", "*.pyc",
)  # fmt: skip
"""What of the user's folder is not sent to other nodes, beside what .gitignore names."""
JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Set by Ray in what `ray job submit` started: that brought its own working folder."""


def join(work: Work, address: str, quiet: Mapping[str, Any]) -> None:
    """Join the cluster at an address; say where its dashboard is.

    Raises RequestError if several nodes would train packs and not all of them see the folder, or if
    one cannot use the storage.
    """
    sent = {"runtime_env": carried(work)} if is_carried(work) else {}
    context = ray.init(address=address, **sent, **quiet)
    if context.dashboard_url:
        work.say(f"Ray's dashboard: http://{context.dashboard_url}")
    nodes = [node for node in ray.nodes() if node["Alive"]]
    able = [node for node in nodes if can_train(node["Resources"], work.resources.gpus_per_pack)]
    if not able:
        needs = "1 CPU"
        if work.resources.gpus_per_pack:
            needs += f" and {work.resources.gpus_per_pack:g} GPU"
        work.say(f"no node of the cluster can train a pack yet (it takes {needs}): waiting for one")
    names = {node["NodeID"]: str(node["NodeManagerHostname"]) for node in able}
    if work.resources.storage:
        check_reached(work.folder, work.resources.storage, names)
    elif len(nodes) > 1:
        check_shared(work.folder, names, sees)


def can_train(resources: Mapping[str, float], gpus_per_pack: float) -> bool:
    """Whether a node has what one pack takes: a CPU, and GPUs if packs ask for a share of them."""
    return resources.get("CPU", 0) >= 1 and resources.get("GPU", 0) >= gpus_per_pack


def is_carried(work: Work) -> bool:
    """Whether the problem is a module in the user's folder that must reach a cluster's nodes."""
    if not (work.address or os.environ.get("RAY_ADDRESS")):
        return False
    problem = str(work.folder.read_manifest()["problem"])
    if ":" not in problem or JOB in os.environ:
        return False
    top = problem.partition(":")[0].partition(".")[0]
    return PathFinder.find_spec(top, [str(work.home)]) is not None


def carried(work: Work) -> dict[str, Any]:
    """Ray's runtime environment: the working folder without results, environments and caches."""
    left = list(LEFT_AT_HOME)
    root, home = work.folder.root.resolve(), work.home.resolve()
    if root.is_relative_to(home) and root != home:
        left.append(f"/{root.relative_to(home)}")
    return {"working_dir": str(home), "excludes": left}


def check_shared(
    folder: Folder,
    nodes: Mapping[str, str],
    look: Callable[[Sequence[str], Path], Mapping[str, bool]],
) -> None:
    """Raise RequestError unless all nodes (id -> name) see what the driver writes in the folder.

    look: asks nodes, by id, whether a file is there.
    """
    marker = folder.root.resolve() / f".seen-{secrets.token_hex(8)}"
    write_whole(marker, lambda file: file.write(b"by every node"))
    try:
        seen = look(list(nodes), marker)
    finally:
        marker.unlink(missing_ok=True)
    blind = sorted({name for node, name in nodes.items() if not seen.get(node)})
    if blind:
        raise RequestError(
            f"{folder.root.resolve()}: every node of the cluster must see the sweep's folder; "
            f"{len(blind)} of {len(nodes)} do not ({', '.join(blind[:5])}). Give --out a folder on "
            "storage that all nodes mount at the same path, like NFS; see docs/cluster.md"
        )


def sees(nodes: Sequence[str], marker: Path) -> dict[str, bool]:
    """Node id -> whether a task on it finds the file; nodes that do not answer do not see it."""

    def finds() -> bool:
        # listing asks an NFS server anew; a bare look may answer from a cache
        return marker.parent.is_dir() and marker.name in os.listdir(marker.parent)

    return answers(nodes, finds, gone=True)


def check_reached(folder: Folder, uri: str, nodes: Mapping[str, str]) -> None:
    """Raise RequestError unless all nodes (id -> name) find in the storage what the driver writes.

    They must be able to write, read, list and remove files there, too.
    """
    assert folder.storage is not None
    name = f"{PROBE}driver-{secrets.token_hex(8)}"
    marker = folder.storage / name

    def fails() -> str:
        try:
            storage = stored(uri)
            check_storage(storage)
            seen = (storage / name).exists()
            return "" if seen else "what this one writes is not there: is it the same storage?"
        except (OSError, ValueError) as error:
            return str(getattr(error, "strerror", None) or error)

    write_whole(marker, lambda file: file.write(b"by every node"))
    try:
        found = answers(list(nodes), fails, gone="")
    finally:
        marker.unlink(missing_ok=True)
    why = {name: found.get(node, "it did not answer") for node, name in nodes.items()}
    failing = {name: line for name, line in why.items() if line}
    if failing:
        name, line = min(failing.items())
        raise RequestError(
            f"every node of the cluster must reach resources.storage; {len(failing)} of "
            f"{len(nodes)} do not ({', '.join(sorted(failing)[:5])}). {name}: {line}. Nodes need "
            "the same keys in their environment as this one; see docs/cluster.md"
        )


def answers(
    nodes: Sequence[str], question: Callable[[], Answer], gone: Answer
) -> dict[str, Answer]:
    """Node id -> what the question gives on it, `gone` if the node leaves meanwhile.

    Nodes that do not answer in time are missing.
    """
    task = ray.remote(num_cpus=0, max_retries=0)(question)
    asked = {
        task.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
        ).remote(): node
        for node in nodes
    }
    ready, _ = ray.wait(list(asked), num_returns=len(asked), timeout=PROBE_SECONDS)
    given = {}
    for future in ready:
        try:
            given[asked[future]] = ray.get(future)
        except ray.exceptions.RayError:  # it trains nothing
            given[asked[future]] = gone
    return given
