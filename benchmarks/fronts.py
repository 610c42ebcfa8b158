"""Fronts whose losses at given weights are known: closed forms, tables, trained networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import moocore
import numpy as np
from numpy.typing import ArrayLike, NDArray

from mtofront.sweep import Config, plan
from mtofront.sweep.provide import placed_problem
from mtofront.sweep.train import train_pack
from mtofront.sweep.weights import weight_grid

Rows = NDArray[np.float64]

REFERENCE = 1.1
"""The reference point, in units of the front's range."""


@dataclass(frozen=True)
class Known:
    """A front. losses: weights (T,) -> losses (T,) without noise.

    ideal, span: (T,) of its densest grid's front. seeds: weights (T,) -> losses (S, T) of single
    seeds, where networks were trained.
    """

    name: str
    losses: Callable[[Rows], Rows]
    ideal: Rows
    span: Rows
    seeds: Callable[[Rows], Rows] | None = None

    @property
    def tasks(self) -> int:
        """T."""
        return len(self.ideal)

    def points(self, rows: ArrayLike) -> Rows:
        """Noise-free losses (n, T) at weights (n, T), 0 at the ideal and 1 at the nadir."""
        found = np.stack([self.losses(row) for row in np.asarray(rows, dtype=float)])
        return (found - self.ideal) / self.span

    def hypervolume(self, points: Rows) -> float:
        """What points (n, T) dominate below 1.1 in each task."""
        corner = np.full(self.tasks, REFERENCE)
        inside = points[(points < corner).all(axis=1)]
        return float(moocore.hypervolume(inside, ref=corner)) if len(inside) else 0.0


def known(
    name: str,
    losses: Callable[[Rows], Rows],
    dense: Rows,
    seeds: Callable[[Rows], Rows] | None = None,
) -> Known:
    """A front in the units of a dense grid of weights."""
    points = np.stack([losses(row) for row in dense])
    best = points[moocore.is_nondominated(points)]
    return Known(name, losses, best.min(axis=0), np.ptp(best, axis=0), seeds)


def quadratics(scale: float, dense: Rows) -> Known:
    """The problem `quadratics` at its minimum: where weights w lead in closed form."""
    tasks = dense.shape[1]
    angles = 2 * np.pi * np.arange(tasks) / tasks
    centres = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    scales = scale ** np.arange(tasks)

    def losses(weights: Rows) -> Rows:
        pull = weights * scales
        place = pull @ centres / pull.sum()
        found: Rows = scales * (((place - centres) ** 2).sum(axis=1) + 0.02)
        return found

    return known(f"quadratics {scale:g}", losses, dense)


def superellipse(power: float, dense: Rows) -> Known:
    """sum y_i^q = 1 with 0 < q < 1, convex and the more bent the smaller q."""

    def losses(weights: Rows) -> Rows:
        logs = np.log(np.maximum(weights, 1e-12))
        own = -logs / (1 - power)
        # y_i = w_i^(-1/(1-q)) / (sum_j w_j^(-q/(1-q)))^(1/q)
        whole = np.logaddexp.reduce(power * own) / power
        found: Rows = np.exp(own - whole)
        return found

    return known(f"superellipse {power:g}", losses, dense)


def curve(name: str, first: Rows, second: Rows, dense: Rows) -> Known:
    """A front of two losses along a parameter, as a table; weights lead to the best entry."""
    points = np.stack([first, second], axis=1)

    def losses(weights: Rows) -> Rows:
        found: Rows = points[(points @ weights).argmin()]
        return found

    return known(name, losses, dense)


def curves(dense: Rows) -> list[Known]:
    """Two-task fronts: strong bends at either end, a knee, a straight middle and a bulge."""
    t = np.linspace(0, 1, 100_001)
    dips = np.linspace(-1.2, 1.2, 100_001)
    return [
        curve("hook", (1 - t) ** 2, t**8 + 0.1 * t, dense),
        curve("cosh", np.cosh(3 * (1 - t)), 30 * np.cosh(3 * t), dense),
        curve("knee", np.maximum(1 - 5 * t, 0.2 * (1 - t)) + 0.1 * (1 - t) ** 2, 5 * t**2, dense),
        curve("concave", 1 - np.exp(-((dips - 1) ** 2)), 1 - np.exp(-((dips + 1) ** 2)), dense),
    ]


def digits(epochs: int = 6, seeds: int = 3, points: int = 101, low: float = 1e-3) -> Known:
    """MultiDigits: validation losses of networks trained once at `points` weights, as a table.

    Between two trained weights losses are interpolated in log-odds.
    """
    rows = weight_grid("log_odds", points, 2, low)
    config = Config(
        name="digits",
        problem="multidigits",
        budget={"epochs": epochs, "batch_size": 64, "evaluations": 1},
        optimizer={"name": "adam", "lr": 0.003},
        seeds=seeds,
        arms={"scalarization": {"method": "linear", "weights": [list(row) for row in rows]}},
        resources={"pack": 101},
    )
    planned = plan(config)
    losses = {}
    for pack in planned.packs:
        specs = [planned.runs[identity] for identity in pack]
        trained = train_pack(placed_problem("multidigits", "{}", "cpu"), specs)
        last = [m for m in trained.measurements if m.split == "val" and m.measure == "loss"][-2:]
        for n, spec in enumerate(specs):
            losses[spec.weights, spec.seed] = [float(m.values[n]) for m in last]
    table = np.array([[losses[row, seed] for row in rows] for seed in range(seeds)])
    odds = np.array([np.log(row[0] / row[1]) for row in rows])

    def of_seeds(weights: Rows) -> Rows:
        here = np.log(weights[0] / weights[1])
        return np.array([[np.interp(here, odds, one) for one in seed.T] for seed in table])

    def mean(weights: Rows) -> Rows:
        found: Rows = of_seeds(weights).mean(axis=0)
        return found

    return known("multidigits", mean, np.array(rows), of_seeds)
