"""From a config to records: make the folder, train what is missing, say how it went."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import yaml

from mtofront import __version__

from .arms import arm_method, arm_passes_per_step
from .config import Config, validated
from .document import read_document
from .engines import ENGINES
from .errors import Interrupted, RequestError
from .folder import Folder, Pack, locked, write_json, write_whole
from .job import News
from .logged import check_logging, log_of
from .planning import Plan, plan
from .rounds import first_rounds, next_packs, unplanned
from .rungs import Rungs, heal
from .spec import FORMAT
from .tracker import Tracker
from .work import Work

OWN_FILES = frozenset({"lock", "config.yaml"})
"""What a start that was cut off may leave in a folder before its manifest."""
PACKAGES = ("torch", "ray", "numpy", "pandas", "pyarrow", "pymoo", "moocore")


@dataclass(frozen=True)
class Outcome:
    """How a sweep ended. failed: pack -> what went wrong. notices: told once, for the user.

    evaluation_share: of the workers' time, None if nothing was trained.
    """

    folder: Path
    runs: int
    diverged: int
    failed: dict[int, str]
    notices: tuple[str, ...]
    evaluation_share: float | None = None


def run(
    config: Config,
    out: str | Path | None = None,
    *,
    address: str | None = None,
    listen: Callable[[Tracker], None] | None = None,
) -> Outcome:
    """Train every run of a config that has no records yet in folder `out` (default results/NAME).

    address: of a Ray cluster. listen: called with the tracker whenever a pack tells something.
    Raises RequestError if the config is wrong or the folder holds something else (nothing is
    touched then), StorageError if it cannot be written, Interrupted if stopped from outside.
    """
    check_logging(config)
    planned = plan(config)
    folder = Folder(Path(out) if out is not None else Path("results") / config.name)
    _check_folder(folder, planned)
    with locked(folder):
        if not folder.manifest.exists():
            text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
            write_whole(folder.config, lambda file: file.write(text.encode()))
            write_json(folder.manifest, _manifest(planned))
        outcome = _train(folder, config, address, listen)
    return replace(outcome, notices=(*planned.notes, *outcome.notices))


def resume(
    directory: str | Path,
    *,
    address: str | None = None,
    listen: Callable[[Tracker], None] | None = None,
) -> Outcome:
    """Train what a sweep's folder misses; what is done is not done again. Raises as `run` does."""
    folder = Folder(Path(directory))
    folder.read_manifest()
    config = validated(read_document(folder.config))
    check_logging(config)
    with locked(folder):
        return _train(folder, config, address, listen)


def _check_folder(folder: Folder, planned: Plan) -> None:
    """Refuse a folder that holds anything but this experiment, before anything is written."""
    if folder.manifest.exists():
        manifest = folder.read_manifest()
        known = first_rounds(manifest)
        asked = {arm: list(rounds.sizes) for arm, rounds in planned.rounds.items()}
        found = {arm: one["sizes"] for arm, one in manifest.get("searches", {}).items()}
        if known != set(planned.runs) or asked != found:
            raise RequestError(
                f"{folder.root}: this folder holds another experiment ({len(known)} runs, "
                f"{len(known & set(planned.runs))} of them among the {len(planned.runs)} asked "
                "for); choose another --out, or remove the folder if its results are not needed"
            )
    elif folder.root.is_dir():
        foreign = sorted({entry.name for entry in folder.root.iterdir()} - OWN_FILES)
        if foreign:
            raise RequestError(
                f"{folder.root}: this folder holds something that is no sweep ({foreign[0]}); "
                "choose an empty or new folder with --out"
            )


def _train(
    folder: Folder,
    config: Config,
    address: str | None,
    listen: Callable[[Tracker], None] | None,
) -> Outcome:
    next_packs(folder)  # what a driver that died had no time to plan
    manifest = folder.read_manifest()
    packs: dict[int, Pack] = {n: tuple(runs) for n, runs in enumerate(manifest["packs"])}
    flaws = folder.flaws(packs)
    todo = [number for number, flaw in flaws.items() if flaw != ""]
    folder.tidy(packs.keys() - todo)
    tracker = Tracker(folder, manifest, todo)

    def tell(news: News) -> None:
        tracker.hear(news)
        if listen:
            listen(tracker)

    def grow() -> list[int]:
        new = next_packs(folder)
        if new:
            tracker.extend(folder.read_manifest(), new)
        return new

    def say(line: str) -> None:
        tracker.say(line)
        if listen:
            listen(tracker)

    if listen:
        listen(tracker)
    mended: list[str] = []
    if todo:
        rungs = None
        if _is_scheduled(manifest):
            mended = heal(folder, manifest, todo)
            rungs = Rungs(folder, manifest, todo)
        work = Work(
            folder,
            todo,
            config.resources,
            Path.cwd(),
            address,
            grow if any(unplanned(manifest).values()) else None,
            rungs,
            say,
            log_of(config, manifest, tracker),
        )
        try:
            with tracker.saving():
                ENGINES[config.resources.engine](work, tell)
        except KeyboardInterrupt:  # at any moment, also when a first one is being seen to
            raise Interrupted(str(folder.root)) from None
    return Outcome(
        folder.root,
        sum(tracker.sizes.values()),
        tracker.diverged,
        tracker.failed,
        (*_retrained(folder, flaws), *mended, *tracker.notices),
        tracker.evaluation_share,
    )


def _is_scheduled(manifest: Mapping[str, Any]) -> bool:
    return any("scheduler" in run for run in manifest["runs"].values())


def _retrained(folder: Folder, flaws: Mapping[int, str | None]) -> list[str]:
    """One line for each records file that was there and of no use."""
    return [
        f"{folder.records(number)} was {flaw}; its runs were trained again"
        for number, flaw in flaws.items()
        if flaw
    ]


def _manifest(planned: Plan) -> dict[str, Any]:
    config = planned.config
    return {
        "format": FORMAT,
        "name": config.name,
        "problem": config.problem,
        "tasks": planned.tasks,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "versions": {"mtofront": __version__, "python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in PACKAGES},
        "machine": {
            "cpu": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "platform": platform.platform(),
        },
        "report": config.report.model_dump(),
        "arms": {arm: _arm(planned, arm) for arm in config.arms},
        "runs": {identity: spec.as_dict() for identity, spec in planned.runs.items()},
        "packs": planned.packs,
        "pack_limit": planned.pack_size.limit,
        "searches": {arm: _search(planned, arm) for arm in planned.rounds},
    }


def _search(planned: Plan, arm: str) -> dict[str, Any]:
    """An adaptive arm: vectors of each round, runs of all rounds, packs of the planned rounds."""
    packs = [n for n, pack in enumerate(planned.packs) if planned.runs[pack[0]].arm == arm]
    return {
        "sizes": planned.rounds[arm].sizes,
        "runs": planned.arm_runs()[arm],
        "rounds": [packs],
    }


def _arm(planned: Plan, arm: str) -> dict[str, Any]:
    method = arm_method(planned.config, arm)
    return {
        "method": method.name,
        "backward_passes_per_step": arm_passes_per_step(planned.config, arm, len(planned.tasks)),
    }
