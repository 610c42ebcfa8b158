"""Made-up experiments whose truth is known: fronts from formulas, runs with noise on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pymoo.util.ref_dirs import get_reference_directions

from mtofront.analysis import Comparison, Settings
from mtofront.analysis.distance import behind
from mtofront.analysis.normalisation import fit, reported_on
from mtofront.analysis.selection import Runs
from mtofront.analysis.verdict import judge_runs

Floats = NDArray[np.float64]
Front = Callable[[Floats], Floats]
"""Weights (n, T) -> the losses (n, T) that the weighted sum attains."""


def bowls(w: Floats) -> Floats:
    """Squared distances to the corners of a simplex: the minimiser is the weight vector itself."""
    return ((w[:, None, :] - np.eye(w.shape[1])) ** 2).sum(axis=2)


def skewed(w: Floats) -> Floats:
    """The bowls, each three times as steep as the one before: grids cover them unevenly."""
    steep = w * 3.0 ** np.arange(w.shape[1])
    return bowls(steep / steep.sum(axis=1, keepdims=True))


def sphere(w: Floats) -> Floats:
    """The convex side of a sphere, where its normal is the weight vector."""
    return 1 - w / np.linalg.norm(w, axis=1, keepdims=True)


def hyperbola(w: Floats) -> Floats:
    """A front whose product of losses is 1."""
    return np.asarray(np.exp(np.log(w).mean(axis=1, keepdims=True)) / w)


SHAPES: Mapping[str, Front] = {f.__name__: f for f in (bowls, skewed, sphere, hyperbola)}
LEARNING_RATES = (0.0, 0.02, 0.1)
"""What a learning rate adds to each loss: one is right, one nearly, one wrong."""
KINDS = ("settled", "spread", "single", "same grid")
"""An arm that settles in one place with all its runs, one with weights of its own, one with one run
a learning rate, and the baseline's own grid again."""


@dataclass(frozen=True)
class Cell:
    """One kind of experiment. noise: the standard deviation between runs, in units of the front's
    range; half as much again is added when a run is measured on a split. gain: by how much the
    arm's runs are better in every task, in the same units."""

    tasks: int
    shape: str
    kind: str
    noise: float
    seeds: int
    gain: float = 0.0


@dataclass(frozen=True)
class Answer:
    """What the comparison said, and the true margin in its units."""

    verdict: str
    low: float
    high: float
    margin: float
    truth: float


def grid(tasks: int) -> Floats:
    """15 weights even in log odds, or the lattice of 28."""
    if tasks == 2:
        first = 1 / (1 + np.exp(-np.linspace(-np.log(99), np.log(99), 15)))
        return np.column_stack([first, 1 - first])
    lattice = np.maximum(get_reference_directions("das-dennis", tasks, n_partitions=6), 0.01)
    return np.asarray(lattice / lattice.sum(axis=1, keepdims=True))


def own_weights(kind: str, tasks: int, random: np.random.Generator) -> Floats:
    """The weights at which the arm's runs lie."""
    every = grid(tasks)
    if kind == "same grid":
        return every
    count = 1 if kind == "single" else len(every)
    drawn = random.dirichlet(np.ones(tasks), count if kind == "spread" else 1)
    inner = np.clip(drawn, 0.03 if kind == "spread" else 0.1, None)
    inner /= inner.sum(axis=1, keepdims=True)
    return inner if len(inner) == count else np.repeat(inner, count, axis=0)


def experiment(cell: Cell, random: np.random.Generator) -> Answer:
    """Draw one experiment of this kind and compare its arm with the baseline."""
    places = SHAPES[cell.shape](grid(cell.tasks))
    low, span = places.min(axis=0), np.ptp(places, axis=0)
    arm = (SHAPES[cell.shape](own_weights(cell.kind, cell.tasks, random)) - low) / span - cell.gain
    found = compared({"scalarization": (places - low) / span, "arm": arm}, cell, random)
    unit = found.normalisation
    ranges = np.asarray(unit.nadir) - np.asarray(unit.ideal)
    row = found.rows.iloc[0]
    truth = float(behind(cell.gain / ranges))
    return Answer(row["verdict"], row["low"], row["high"], row["margin"], truth)


def compared(places: Mapping[str, Floats], cell: Cell, random: np.random.Generator) -> Comparison:
    """Compare arms whose runs are really at the given places, with fresh noise in every seed."""
    parts = []
    for seed in range(cell.seeds):
        for arm, true in places.items():
            losses = np.concatenate([true + extra for extra in LEARNING_RATES])
            weight = np.tile(np.arange(len(true)), len(LEARNING_RATES))
            real = losses + random.normal(0, cell.noise, losses.shape)
            val, test = (real + random.normal(0, cell.noise / 2, real.shape) for _ in range(2))
            group = [
                f"{arm}{k}" if arm == "scalarization" else f"{i}" for i, k in enumerate(weight)
            ]
            about = {"arm": arm, "seed": seed, "group": group}
            parts.append((pd.DataFrame(about), val, test))
    table = pd.concat([part[0] for part in parts], ignore_index=True)
    runs = Runs(
        tasks=tuple("abcdefgh"[: cell.tasks]),
        run=np.array([f"r{i}" for i in range(len(table))], dtype=object),
        arm=table["arm"].to_numpy(dtype=object),
        seed=table["seed"].to_numpy(dtype=np.int64),
        group=table["group"].to_numpy(dtype=object),
        step=np.zeros(len(table), dtype=np.int64),
        select=np.concatenate([part[1] for part in parts]),
        report=np.concatenate([part[2] for part in parts]),
    )
    own = runs.arm == "scalarization"
    unit = fit(runs.tasks, runs.select[own], runs.seed[own])
    unit = reported_on(unit, runs.select[own], runs.report[own])
    return judge_runs(runs, table.assign(backward_passes=1.0), unit, Settings())
