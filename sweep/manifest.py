"""What a new sweep's manifest says: the plan, the versions and the machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any

from mtofront import __version__

from .arms import arm_method, arm_passes_per_step
from .planning import Plan
from .spec import FORMAT

PACKAGES = ("torch", "ray", "numpy", "pandas", "pyarrow", "pymoo", "moocore")


def manifest_of(planned: Plan) -> dict[str, Any]:
    """What a new sweep's manifest says."""
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
        "diagnostics": config.follows_weights,
        "arms": {arm: _arm(planned, arm) for arm in config.arms}
        | {name: _control_arm(planned, name) for name in planned.controls},
        "runs": {identity: spec.as_dict() for identity, spec in planned.runs.items()},
        "packs": planned.packs,
        "pack_limit": planned.pack_size.limit,
        "searches": {arm: _search(planned, arm) for arm in planned.rounds},
        "controls": {name: _control(planned, name) for name in planned.controls},
    }


def _control(planned: Plan, name: str) -> dict[str, Any]:
    """A control: what it is, how many runs it will have; the numbers of its packs are not known."""
    control, specs = planned.controls[name]
    return {**asdict(control), "runs": len({spec.id for spec in specs}), "packs": None}


def _control_arm(planned: Plan, name: str) -> dict[str, Any]:
    """What `_arm` says, of a control."""
    specs = planned.controls[name][1]
    passes = planned.arm_passes()[name] / sum(map(planned.steps_of, specs))
    return {"method": specs[0].method, "backward_passes_per_step": passes}


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
