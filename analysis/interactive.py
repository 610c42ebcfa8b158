"""The numbers behind the page's interactive front: every run, what it was, what it reached."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .attainment import LEVELS, arm_surfaces
from .colours import styles
from .export import hyper_text, weights_text
from .figure_data import last_train, pair_axes
from .front import is_nondominated
from .selection import Runs, training_of
from .verdict import Comparison

SHOWN = 20_000
"""With more runs than this, those on no arm's front are thinned evenly: a page must stay light."""
DIGITS = 5
"""Significant digits of a loss on the page: more than a screen has pixels for."""
SYMBOLS = {
    "o": "circle", "s": "square", "^": "triangle-up", "D": "diamond", "v": "triangle-down",
    "P": "cross", "X": "x", "<": "triangle-left", ">": "triangle-right", "h": "hexagon",
}  # fmt: skip
"""The markers of `colours`, in the words of plotly."""


@dataclass(frozen=True)
class Split:
    """The runs seen on one split. label: for people; runs.report: the losses shown."""

    name: str
    label: str
    runs: Runs


def page_data(
    comparison: Comparison, frame: pd.DataFrame, specs: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return plain values for the page, ready for JSON.

    tasks, objective, left and right (the splits shown first); arms: name, colour, symbol, verdict,
    the baseline first; runs: columns of equal length, one entry a shown run, about `spec` and
    place; splits: for each its label, losses (one list a task), axes (an x and a y axis for
    "i,j", tasks i < j) and attainment surfaces per arm (two or three tasks); ideal and nadir a
    task, for parallel coordinates; total: how many finished runs there are.

    specs: the manifest's runs.
    """
    runs, settings = comparison.runs, comparison.settings
    kept = shown_runs(comparison)
    sides = _splits(comparison, frame)
    return {
        "tasks": list(runs.tasks),
        "objective": settings.objective,
        "left": sides[0].name,
        "right": settings.report_on,
        "arms": _arms(comparison),
        "runs": _about(comparison, kept, specs),
        "splits": {side.name: _losses(side, kept, comparison) for side in sides},
        "ideal": _short(comparison.normalisation.ideal),
        "nadir": _short(comparison.normalisation.nadir),
        "total": len(runs.run),
    }


def as_json(data: Mapping[str, Any]) -> str:
    """Return JSON that is safe inside a script element: no end tag can occur in it."""
    return json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def shown_runs(comparison: Comparison, most: int = SHOWN) -> NDArray[np.intp]:
    """Return the rows of the runs to show: fronts and selected runs always, others evenly."""
    runs = comparison.runs
    must = _on_front(runs) | np.isin(runs.run, list(set(comparison.margins["run"])))
    others = np.flatnonzero(~must)
    room = max(most - int(must.sum()), 0)
    if len(others) > room:
        others = others[np.linspace(0, len(others) - 1, room).astype(np.intp)]
    return np.sort(np.concatenate([np.flatnonzero(must), others]))


def _splits(comparison: Comparison, frame: pd.DataFrame) -> list[Split]:
    """Training losses at the last evaluation, the others at the checkpoint."""
    runs, settings = comparison.runs, comparison.settings
    train = last_train(runs, frame, settings.objective)
    found = [Split("train", "training, last evaluation", train)]
    # One entry a split, whichever of the three are the same.
    chosen = f"checkpoint chosen on {settings.select_on}"
    if settings.select_on != "train":
        found.append(Split(settings.select_on, f"{settings.select_on}, {chosen}", _selected(runs)))
    if settings.report_on not in ("train", settings.select_on):
        found.append(Split(settings.report_on, f"{settings.report_on}, {chosen}", runs))
    return found


def _selected(runs: Runs) -> Runs:
    return replace(runs, report=runs.select)


def _on_front(runs: Runs) -> NDArray[np.bool_]:
    """Which runs are non-dominated on selection among their arm's of the same seed, (n,)."""
    found = np.zeros(len(runs.run), dtype=np.bool_)
    groups = pd.DataFrame({"arm": runs.arm, "seed": runs.seed}).groupby(["arm", "seed"])
    for rows in groups.indices.values():
        found[rows] = is_nondominated(runs.select[rows])
    return found


def _arms(comparison: Comparison) -> list[dict[str, Any]]:
    baseline = comparison.settings.baseline
    words = dict(zip(comparison.rows["arm"], comparison.rows["verdict"], strict=True))
    found = styles([baseline, *words], baseline)
    return [
        {
            "name": arm,
            "colour": style.colour,
            "symbol": SYMBOLS[style.marker],
            "verdict": words.get(arm, "baseline"),
        }
        for arm, style in found.items()
    ]


def _about(
    comparison: Comparison, kept: NDArray[np.intp], specs: Mapping[str, Mapping[str, Any]]
) -> dict[str, list[Any]]:
    """What each shown run was: columns of equal length."""
    runs = comparison.runs
    arms = {arm["name"]: i for i, arm in enumerate(_arms(comparison))}
    chosen = set(comparison.margins["run"])
    names = [str(run) for run in runs.run[kept]]
    own = [specs.get(training_of(name), {}) for name in names]
    return {
        "id": names,
        "arm": [arms[str(arm)] for arm in runs.arm[kept]],
        "seed": [int(seed) for seed in runs.seed[kept]],
        "step": [int(step) for step in runs.step[kept]],
        "front": [int(flag) for flag in _on_front(runs)[kept]],
        "selected": [int(name in chosen) for name in names],
        "lr": [spec.get("lr") for spec in own],
        "weights": [weights_text(spec.get("weights")) for spec in own],
        "hyper": [hyper_text(spec.get("hyper")) for spec in own],
    }


def _losses(side: Split, kept: NDArray[np.intp], comparison: Comparison) -> dict[str, Any]:
    """One split: losses a task, axes a pair of tasks, attainment surfaces an arm."""
    tasks = range(len(side.runs.tasks))
    surfaces = {}
    for arm in np.unique(side.runs.arm.astype(str)):
        found = arm_surfaces(side.runs, str(arm))
        if found:
            surfaces[str(arm)] = {
                level: [_short(column) for column in getattr(found, level).T] for level in LEVELS
            }
    return {
        "label": side.label,
        "losses": [_short(side.runs.report[kept, task]) for task in tasks],
        "axes": {
            f"{i},{j}": [
                {"low": axis.low, "high": axis.high, "log": axis.log}
                for axis in pair_axes(side.runs, (i, j), comparison)
            ]
            for i, j in itertools.combinations(tasks, 2)
        }
        or {"0,0": [vars(axis) for axis in pair_axes(side.runs, (0, 0), comparison)]},
        "surfaces": surfaces,
    }


def _short(values: Any) -> list[float]:
    return [float(f"{value:.{DIGITS}g}") for value in values]
