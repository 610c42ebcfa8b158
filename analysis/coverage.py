"""How much of a plan has been run: expected, done, stopped, diverged, failed, missing, per arm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from .errors import RecordsError
from .records import DIVERGED, STOPPED, UNSOLVED, load, load_manifest

STATES = ("done", "stopped", "diverged", "failed", "missing")
"""What a planned run can be, for whoever looks at the folder afterwards."""


def coverage(folder: str | Path) -> pd.DataFrame:
    """Return one row an arm: arm, expected, done, stopped, diverged, failed, missing.

    done: finished with numbers to the end. stopped: ended early by the scheduler, with numbers to
    that point. diverged: finished, with NaN or inf on the way. failed:
    no records, but a failure report. missing: neither, or not planned yet, in a round of an
    adaptive arm or as a control. The five sum to expected. Arms are in the order of the manifest.

    Raises RecordsError as `load` does, and for an unreadable failure report.
    """
    states = run_states(folder)
    counts = pd.crosstab(states["arm"], states["state"])
    manifest = load_manifest(folder)
    controls = manifest.get("controls", {})
    arms = dict.fromkeys([*states["arm"].unique(), *controls])
    counts = counts.reindex(index=list(arms), columns=list(STATES), fill_value=0)
    for arm, search in manifest.get("searches", {}).items():
        counts.loc[arm, "missing"] += search["runs"] - int((states["arm"] == arm).sum())
    for name, control in controls.items():
        if control["packs"] is None:
            counts.loc[name, "missing"] = control["runs"]
    counts.insert(0, "expected", counts.sum(axis=1))
    counts.columns.name = None
    return counts.rename_axis("arm").reset_index()


def solver_misses(frame: pd.DataFrame) -> pd.DataFrame:
    """Return one row an arm whose method solves equations by iteration.

    Columns: arm, runs, runs_with_misses, missed_steps: in how many steps of all its runs together
    a solver missed its tolerance. The method then used what it had. No rows if no arm has one.
    """
    counts = frame[frame["measure"] == UNSOLVED]
    groups = counts.groupby("arm", sort=False)["value"]
    return pd.DataFrame(
        {
            "runs": groups.size(),
            "runs_with_misses": groups.agg(lambda misses: int((misses > 0).sum())),
            "missed_steps": groups.sum(),
        }
    ).reset_index(names="arm")


def run_states(folder: str | Path) -> pd.DataFrame:
    """Return one row a planned run: run, arm, state (one of STATES)."""
    manifest = load_manifest(folder)
    arms = {run: spec["arm"] for run, spec in manifest["runs"].items()}
    frame = load(folder)
    done = set(frame["run"].unique())
    diverged = set(frame.loc[frame["measure"] == DIVERGED, "run"].unique())
    stopped = set(frame.loc[frame["measure"] == STOPPED, "run"].unique())
    failed = {run for report in failures(folder) for run in report["runs"]}

    def state(run: str) -> str:
        if run in diverged:
            return "diverged"
        if run in stopped:
            return "stopped"
        if run in done:
            return "done"
        return "failed" if run in failed else "missing"

    rows = {"run": list(arms), "arm": list(arms.values()), "state": [state(run) for run in arms]}
    return pd.DataFrame(rows)


def failures(folder: str | Path) -> list[dict[str, Any]]:
    """Return the failure reports, oldest name first: runs, error, traceback."""
    reports = []
    for path in sorted((Path(folder) / "failures").glob("[!.]*.json")):
        try:
            reports.append(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise RecordsError(
                f"{path} cannot be read ({error}). Delete it, then `mtofront resume {folder}` "
                f"mends the folder"
            ) from error
    return reports
