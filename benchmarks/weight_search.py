"""How much of a front a few runs show: the adaptive weight search beside grids and Optuna.

    pip install '.[bench]' && python benchmarks/weight_search.py

Every front's losses are known at once (closed forms, tables, MultiDigits trained once at 101
weights), so that a search costs nothing but its own thinking. Prints, for two tasks, 25 runs' share
of the hypervolume of the best 101-point log-odds grid; for three, the share of a 91-point lattice's
that a quarter of the runs shows. Losses that a search sees are means over 3 seeds of noise with the
given standard deviation, in units of the front's range; hypervolumes are those of the losses
without it. Means over repetitions with other noise and other seeds of the searches. `oracle` knows
the whole front and picks greedily, then by exchange: what no search can beat by much.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import warnings
from collections.abc import Callable

import numpy as np
from fronts import Known, Rows, curves, digits, quadratics, superellipse

from mtofront.sweep.edges import Front, divided, outwards, simplex, worth_it
from mtofront.sweep.front_search import (
    LOW,
    Proposal,
    Rule,
    batch_size,
    hypervolume_gain,
    propose,
    start_size,
)
from mtofront.sweep.weights import GRIDS, weight_grid

TARGET = 0.99
SEEDS = 3
Measure = Callable[[Rows], Rows]
"""Weights (T,) -> what S runs of them measure (S, T)."""
Search = Callable[[Known, Measure, int, int], Rows]
"""Front, what it may look at, runs and a seed -> the weights (n, T) that it chose."""


def measure(front: Known, noise: float, seed: int) -> Measure:
    """What runs of a weight vector show: real seeds where there are some, else disturbed losses."""
    if front.seeds is not None:
        return front.seeds
    generator = np.random.default_rng(seed)

    def disturbed(weights: Rows) -> Rows:
        noises = noise * generator.standard_normal((SEEDS, front.tasks))
        return front.losses(weights) + front.span * noises

    return disturbed


def chord_gain(front: Front) -> list[Proposal]:
    """How far the front may lie below the chord: non-inferior set estimation."""
    pairs, weights, losses = divided(front)
    middles = front.losses[pairs].mean(axis=1)
    return [
        Proposal(weights[k], losses[k], float((middles[k] - losses[k])[0]))
        for k in np.flatnonzero(worth_it(front, pairs))
    ]


def length_gain(front: Front) -> list[Proposal]:
    """The distance between neighbours' losses: equal arcs, divided in the middle of log-odds."""
    pairs, _, losses = divided(front)
    middles = simplex(front.ratios[pairs].mean(axis=1))
    found = []
    for share, (ends, weights, expected) in (
        (1.0, (pairs, middles, losses)),
        (0.5, outwards(front)),
    ):
        length = np.linalg.norm(np.diff(front.losses[ends], axis=1)[:, 0], axis=1)
        found += [
            Proposal(weights[k], expected[k], share * float(length[k]))
            for k in np.flatnonzero(worth_it(front, ends))
        ]
    return found


RULES: dict[str, Rule] = {
    "hypervolume": hypervolume_gain,
    "chord": chord_gain,
    "length": length_gain,
}
"""What was compared: the first is what the sweep uses."""


def by_front(rule: str, front: Known, look: Measure, runs: int, seed: int) -> Rows:
    """The adaptive search of `weights: {search: front}`, with its defaults."""
    chosen = weight_grid("log_odds", start_size(runs, front.tasks), front.tasks, LOW)
    tries = [look(np.array(row)) for row in chosen]
    batch = batch_size(runs, len(chosen))
    while len(chosen) < runs:
        count = min(batch, runs - len(chosen))
        counts = [len(one) for one in tries]
        weights = np.repeat(chosen, counts, axis=0)
        seeds = np.concatenate([np.arange(count) for count in counts])
        new = propose(weights, np.concatenate(tries), count, seeds=seeds, rule=RULES[rule])
        tries += [look(np.array(row)) for row in new]
        chosen += new
    return np.array(chosen)


def by_grid(grid: str, front: Known, look: Measure, runs: int, seed: int) -> Rows:
    """A grid, laid out before anything is seen."""
    return np.array(weight_grid(grid, runs, front.tasks))


def by_optuna(sampler: str, front: Known, look: Measure, runs: int, seed: int) -> Rows:
    """Optuna's multi-objective samplers over log-ratios of weights, each within LOW … 1 − LOW."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    samplers = {
        "tpe": lambda: optuna.samplers.TPESampler(seed=seed, n_startup_trials=runs // 3),
        "nsga2": lambda: optuna.samplers.NSGAIISampler(seed=seed, population_size=runs // 3),
    }
    study = optuna.create_study(directions=["minimize"] * front.tasks, sampler=samplers[sampler]())
    end = np.log(1 / LOW - (front.tasks - 1))
    chosen = []
    for _ in range(runs):
        trial = study.ask()
        ratios = [trial.suggest_float(f"r{k}", -end, end) for k in range(front.tasks - 1)]
        powers = np.exp([*ratios, 0.0])
        chosen.append(powers / powers.sum())
        study.tell(trial, list(map(float, look(chosen[-1]).mean(axis=0))))
    return np.array(chosen)


def by_oracle(dense: Rows, front: Known, look: Measure, runs: int, seed: int) -> Rows:
    """The best that was found when the front is known: greedy, then 2,000 exchanges."""
    points = front.points(dense)
    generator = np.random.default_rng(0)
    samples = 1.1 * generator.random((20_000, front.tasks))
    covers = np.stack([(point <= samples).all(axis=1) for point in points])
    left = np.ones(len(samples), dtype=bool)
    chosen = []
    for _ in range(runs):
        chosen.append(int((covers & left).sum(axis=1).argmax()))
        left &= ~covers[chosen[-1]]
    best = front.hypervolume(points[chosen])
    for _ in range(2000):
        other = list(chosen)
        other[generator.integers(runs)] = int(generator.integers(len(points)))
        found = front.hypervolume(points[other])
        if found > best:
            best, chosen = found, other
    return dense[chosen]


def contenders(dense: Rows) -> dict[str, Search]:
    """Name -> search; Optuna's only where it is installed."""
    searches: dict[str, Search] = {
        **{f"front: {rule}": functools.partial(by_front, rule) for rule in RULES},
        **{g: functools.partial(by_grid, g) for g in GRIDS if g != "uniform"},
        "oracle": functools.partial(by_oracle, dense),
    }
    if importlib.util.find_spec("optuna"):
        for sampler in ("tpe", "nsga2"):
            searches[f"optuna {sampler}"] = functools.partial(by_optuna, sampler)
    else:
        print("optuna is not installed: its rows are left out")
    return searches


def table(
    title: str,
    fronts: list[Known],
    whole: Callable[[Known], float],
    runs: int,
    dense: Rows,
    noise: float,
    repetitions: int,
) -> None:
    """Print a row a search and a column a front, and which fronts the search's target is met on."""
    print(f"\n{title}, {runs} runs, noise {noise:g}")
    print(f"{'':20s}" + "".join(f"{front.name:>17s}" for front in fronts))
    targets = [whole(front) for front in fronts]
    for name, search in contenders(dense).items():
        fixed = name in GRIDS or name == "oracle"
        cells = []
        for front, target in zip(fronts, targets, strict=True):
            found = [
                front.hypervolume(front.points(search(front, measure(front, noise, n), runs, n)))
                for n in range(1 if fixed else repetitions)
            ]
            cells.append(float(np.mean(found)) / target)
        print(f"{name:20s}" + "".join(f"{cell:17.4f}" for cell in cells), flush=True)
        if name == f"front: {next(iter(RULES))}":
            ours = cells
    for front, cell in zip(fronts, ours, strict=True):
        print(f"target 0.99 {'met' if cell >= TARGET else 'MISSED'}: {front.name} {cell:.4f}")


def best_of_101(front: Known) -> float:
    """The hypervolume of 101 points, evenly spaced in log-odds, with the best of three ends."""
    grids = [weight_grid("log_odds", 101, 2, low) for low in (1e-2, 1e-3, 1e-4)]
    return max(front.hypervolume(front.points(grid)) for grid in grids)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument("--noise", type=float, nargs="*", default=[0.0, 0.01, 0.03])
    parser.add_argument("--skip-digits", action="store_true", help="train nothing")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # Optuna calls its samplers experimental
    line = np.array(weight_grid("log_odds", 1001, 2, 1e-4))
    two = [
        *(quadratics(scale, line) for scale in (1, 10, 100)),
        superellipse(0.2, np.array(weight_grid("log_odds", 1001, 2))),
        *curves(line),
        *([] if options.skip_digits else [digits()]),
    ]
    plane = np.concatenate(
        [weight_grid("log_odds", 1200, 3, 1e-4), weight_grid("lattice", 1200, 3)]
    )
    three = [
        *(quadratics(scale, plane) for scale in (1, 10, 100)),
        # beyond these weights its losses, and so its units, grow without bound
        *(superellipse(power, np.array(weight_grid("log_odds", 1200, 3))) for power in (0.5, 0.2)),
    ]
    lattice = weight_grid("lattice", 91, 3)
    for noise in options.noise:
        repetitions = options.repetitions if noise else min(options.repetitions, 3)
        title = "Two tasks: share of the best 101-point grid's hypervolume"
        table(title, two, best_of_101, 25, line, noise, repetitions)
        title = "Three tasks: share of a 91-point lattice's hypervolume"
        table(
            title,
            three,
            lambda front: front.hypervolume(front.points(lattice)),
            len(lattice) // 4,
            plane,
            noise,
            repetitions,
        )


if __name__ == "__main__":
    main()
