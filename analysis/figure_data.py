"""What the figures show, computed before anything is drawn."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .front import front
from .selection import Runs, attained_by_seed, evaluations, points_apart
from .verdict import Comparison

Floats = NDArray[np.float64]

LOG_FROM, LOG_TO = 3.0, 1e6
"""An axis is logarithmic where its largest shown loss is so many times its smallest: extreme
weights stretch a front, and its middle, where the methods lie, would be squeezed into a corner.
Beyond a million times, the smallest loss is zero but for rounding, and the axis is linear."""
FRONT_SHOWN = 3.0
"""The baseline's front is followed as far as this many times the range of the other arms' losses;
the ends of its sweep, where a task is all but ignored, would squeeze everything else."""
ALL_PAIRS_UP_TO = 4
"""With more tasks than this, only neighbouring pairs are drawn: pairs grow with the square."""


@dataclass(frozen=True)
class Axis:
    """One task's axis: the losses shown, low to high; what lies beyond counts in Panel.outside."""

    label: str
    low: float
    high: float
    log: bool


@dataclass(frozen=True)
class Panel:
    """One scatter of two tasks.

    clouds: arm -> (n, 2), baseline included. members: (m, 2) the baseline's non-dominated runs, all
    seeds. stairs: the attained front of each seed, (k, 2) in ascending first task. median: the
    front that half of the seeds attain. Both are empty with three or more tasks, where a projection
    of a front is not a staircase. marked: arm -> (s, 2), its selected run of each seed. outside:
    how many runs lie beyond the axes.
    """

    title: str
    x: Axis
    y: Axis
    clouds: dict[str, Floats]
    members: Floats
    stairs: tuple[Floats, ...]
    median: Floats
    marked: dict[str, Floats]
    outside: int


@dataclass(frozen=True)
class Grid:
    """Panels of one figure, row by row, and the arms for the legend."""

    panels: tuple[tuple[Panel, ...], ...]
    arms: tuple[str, ...]
    baseline: str


@dataclass(frozen=True)
class MarginData:
    """The forest plot: one entry an arm. seeds: arm -> (s,) margins."""

    arms: tuple[str, ...]
    margin: Floats
    low: Floats
    high: Floats
    verdicts: tuple[str, ...]
    seeds: dict[str, Floats]
    equivalence: float
    confidence: float


def front_data(comparison: Comparison, frame: pd.DataFrame) -> Grid:
    """Return training fronts (last evaluation) beside reported ones, a row a pair of tasks."""
    settings, runs = comparison.settings, comparison.runs
    train = last_train(runs, frame, settings.objective)
    sides = (
        (train, "Training: last evaluation"),
        (runs, f"{_capital(settings.report_on)}: chosen on {settings.select_on}"),
    )
    rows = tuple(
        tuple(_panel(side, pair, comparison, title) for side, title in sides)
        for pair in pairs(len(runs.tasks))
    )
    return Grid(rows, _arms(comparison), settings.baseline)


def arms_data(comparison: Comparison) -> Grid:
    """Return one panel an arm and pair of tasks: its reported losses over the baseline's."""
    runs, baseline = comparison.runs, comparison.settings.baseline
    words = dict(zip(comparison.rows["arm"], comparison.rows["verdict"], strict=True))
    common = [_panel(runs, pair, comparison, "") for pair in pairs(len(runs.tasks))]
    rows = tuple(
        tuple(_only(panel, arm, f"{arm}: {word}", comparison) for panel in common)
        for arm, word in words.items()
        if arm in common[0].clouds
    )
    return Grid(rows, _arms(comparison), baseline)


def margin_data(comparison: Comparison) -> MarginData:
    """Return the verdict rows and the seeds behind them, for the forest plot."""
    rows, seeds = comparison.rows, comparison.margins
    return MarginData(
        arms=tuple(rows["arm"]),
        margin=rows["margin"].to_numpy(np.float64),
        low=rows["low"].to_numpy(np.float64),
        high=rows["high"].to_numpy(np.float64),
        verdicts=tuple(rows["verdict"]),
        seeds={
            arm: seeds.loc[seeds["arm"] == arm, "margin"].to_numpy(np.float64)
            for arm in rows["arm"]
        },
        equivalence=comparison.settings.equivalence,
        confidence=comparison.settings.confidence,
    )


def pairs(tasks: int) -> list[tuple[int, int]]:
    """Return the pairs of tasks to draw: all of them for few tasks, else neighbours."""
    if tasks == 1:
        return [(0, 0)]
    if tasks <= ALL_PAIRS_UP_TO:
        return list(itertools.combinations(range(tasks), 2))
    return [(i, i + 1) for i in range(tasks - 1)]


def last_train(runs: Runs, frame: pd.DataFrame, objective: str) -> Runs:
    """Return the runs with their training losses at the last evaluation on both sides."""
    wide = evaluations(points_apart(frame), objective, ["train"], list(runs.run))["train"]
    losses = wide.groupby(level="run").tail(1).droplevel("step").loc[list(runs.run)]
    values = losses.to_numpy(np.float64)
    return replace(runs, select=values, report=values)


def _panel(runs: Runs, pair: tuple[int, int], comparison: Comparison, title: str) -> Panel:
    """All arms on one pair of tasks."""
    attained = _attained(runs, comparison)
    members = np.concatenate(attained)[:, pair]
    stairs = tuple(front(points) for points in attained) if len(runs.tasks) == 2 else ()
    clouds = _clouds(runs, pair, comparison)
    marked = _marked(runs, pair, comparison)
    everything = np.concatenate(list(clouds.values()))
    x, y = pair_axes(runs, pair, comparison)
    return Panel(
        title=title,
        x=x,
        y=y,
        clouds=clouds,
        members=members,
        stairs=stairs,
        median=median_front(stairs),
        marked=marked,
        outside=_outside(everything, x.high, y.high),
    )


def pair_axes(runs: Runs, pair: tuple[int, int], comparison: Comparison) -> list[Axis]:
    """Return the two axes on which all arms are shown for a pair of tasks, (x, y)."""
    baseline, objective = comparison.settings.baseline, comparison.settings.objective
    members = np.concatenate(_attained(runs, comparison))[:, pair]
    clouds, marked = _clouds(runs, pair, comparison), _marked(runs, pair, comparison)
    others = [cloud for arm, cloud in clouds.items() if arm != baseline]
    # The marked runs are always shown.
    others += [points.max(axis=0, keepdims=True) for points in marked.values() if len(points)]
    names = [f"{runs.tasks[task]} {objective}" for task in pair]
    return _axes(names, members, others, np.concatenate(list(clouds.values())))


def _attained(runs: Runs, comparison: Comparison) -> list[Floats]:
    """For each seed the baseline's losses (m, T) that are non-dominated on selection."""
    return attained_by_seed(runs.where(runs.arm == comparison.settings.baseline))


def _clouds(runs: Runs, pair: tuple[int, int], comparison: Comparison) -> dict[str, Floats]:
    """The losses (n, 2) of each arm that has runs."""
    clouds = {arm: runs.report[runs.arm == arm][:, pair] for arm in _arms(comparison)}
    return {arm: cloud for arm, cloud in clouds.items() if len(cloud)}


def _only(panel: Panel, arm: str, title: str, comparison: Comparison) -> Panel:
    """The panel with one arm besides the baseline, and the arm's selected runs marked."""
    own, baseline = panel.clouds[arm], panel.clouds[comparison.settings.baseline]
    return replace(
        panel,
        title=title,
        clouds={comparison.settings.baseline: baseline, arm: own},
        marked={arm: panel.marked[arm]},
        outside=_outside(own, panel.x.high, panel.y.high),
    )


def _marked(runs: Runs, pair: tuple[int, int], comparison: Comparison) -> dict[str, Floats]:
    """The runs that the verdicts rest on, per arm."""
    margins = comparison.margins
    chosen = {arm: set(margins.loc[margins["arm"] == arm, "run"]) for arm in comparison.rows["arm"]}
    return {
        arm: runs.report[np.array([run in names for run in runs.run], dtype=np.bool_)][:, pair]
        for arm, names in chosen.items()
    }


def _outside(cloud: Floats, *highest: float) -> int:
    """How many points lie beyond an upper limit; none lies below a lower one only."""
    return int((cloud > np.array(highest)).any(axis=1).sum())


def _axes(
    labels: Sequence[str], members: Floats, others: Sequence[Floats], everything: Floats
) -> list[Axis]:
    """Limits for most runs of the other arms and the part of the baseline's front near them."""
    low, high = everything.min(axis=0), members.max(axis=0)
    if others:
        most = np.max([np.quantile(cloud, 0.8, axis=0) for cloud in others], axis=0)
        high = np.maximum(most, np.minimum(high, low + FRONT_SHOWN * (most - low)))
    low = everything[(everything <= high).all(axis=1)].min(axis=0)
    return [_axis(label, float(low[i]), float(high[i])) for i, label in enumerate(labels)]


def _axis(label: str, low: float, high: float) -> Axis:
    """One axis a little wider than its losses, logarithmic if they are far apart."""
    if low > 0 and LOG_FROM < high / low < LOG_TO:
        pad = (high / low) ** 0.05
        return Axis(label, low / pad, high * pad, True)
    pad = 0.05 * (high - low) or max(abs(low), 1.0) * 0.05
    return Axis(label, low - pad, high + pad, False)


def median_front(stairs: Sequence[Floats]) -> Floats:
    """Return the front (k, 2) that at least half of the seeds attain.

    stairs: one front a seed, (m, 2) each, at least one point. The 50 % surface of the empirical
    attainment function (Grunert da Fonseca et al. 2001). No fronts give (0, 2).
    """
    if not stairs:
        return np.empty((0, 2))
    firsts = np.unique(np.concatenate([points[:, 0] for points in stairs]))
    # For each first loss, the best second loss of each seed; inf where it attains none.
    seconds = np.array(
        [
            np.where(points[:, 0] <= first, points[:, 1], np.inf).min()
            for first in firsts
            for points in stairs
        ]
    ).reshape(len(firsts), len(stairs))
    half = np.sort(seconds, axis=1)[:, (len(stairs) - 1) // 2]
    return front(np.column_stack([firsts, half])[np.isfinite(half)])


def _arms(comparison: Comparison) -> tuple[str, ...]:
    """The baseline first, then the arms in the order of the verdict rows."""
    return (comparison.settings.baseline, *comparison.rows["arm"])


def _capital(word: str) -> str:
    return word[:1].upper() + word[1:]
