"""What front halving saves and what hypervolume it costs, beside full budget and ASHA.

    python benchmarks/scheduler.py                        # five problems, 10 seeds
    python benchmarks/scheduler.py --keep results/curves  # keep full sweeps, use those found there

Each problem's scalarization sweep is trained once with full budget. A run does not depend on the
others, so every scheduler is replayed on the recorded curves exactly: a run that it stops keeps its
measurements up to that epoch. Front halving's own function decides at its rungs. ASHA is Tune's
`AsyncHyperBandScheduler` itself, asked in the order in which 8 trials at once would report to it,
with the mean validation loss, its grace period at the first rung and a reduction factor of 2.

Epochs: the share of the full sweep's that is trained. Hypervolume: the share of the full sweep's,
as the report counts it: each run at its best checkpoint by validation, non-dominated on validation,
measured on test, in the units of the full sweep. Medians over seeds, with the smallest.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

from mtofront.analysis import hypervolume, load
from mtofront.analysis.normalisation import fit, reported_on
from mtofront.analysis.selection import (
    attained_losses,
    evaluations,
    last_losses,
    points,
    run_table,
    select,
    tasks_of,
)
from mtofront.sweep import load_config, run
from mtofront.sweep.halving import cut, survivors

RUNGS, KEEP = (0.2, 0.4), 0.5
"""The defaults of a config."""
SEEDS = 10
EPOCHS_TARGET, HYPERVOLUME_TARGET = 0.5, 0.99
CONCURRENT = 8

Curves = Mapping[str, NDArray[np.float64]]
"""Run -> its validation losses after each evaluation, (E, T); NaN where it has ended."""
Rule = Callable[[Curves, list[int], int], dict[str, int]]
"""Curves of one seed's runs, the epochs of evaluations, a seed -> the epoch at which each ends."""

SWEEPS: dict[str, dict[str, object]] = {
    "multidigits": {  # the baseline of configs/quickstart.yaml
        "problem": "multidigits",
        "budget": {"epochs": 20, "batch_size": 128, "evaluations": 20},
        "optimizer": {"name": "adam", "lr": [3e-3, 1e-2, 3e-2]},
        "arms": {"scalarization": {
            "method": "linear", "weights": {"grid": "log_odds", "points": 15, "low": 0.02},
        }},
    },
    "census": {  # configs/census.yaml on fewer rows; first: mtofront data get census
        "problem": "census",
        "problem_options": {"tasks": ["income", "never_married"], "train": 20_000, "test": 10_000},
        "budget": {"epochs": 10, "batch_size": 256, "evaluations": 10},
        "optimizer": {"name": "adam", "lr": [1e-3, 3e-3, 1e-2]},
        "arms": {"scalarization": {
            "method": "linear", "weights": {"grid": "log_odds", "points": 15, "low": 0.02},
        }},
    },
    "quadratics": {  # the baseline of configs/quadratics.yaml
        "problem": "quadratics",
        "budget": {"epochs": 100, "batch_size": 16, "evaluations": 20},
        "optimizer": {"name": "sgd", "lr": [3e-2, 8e-2], "schedule": "linear"},
        "arms": {"scalarization": {
            "method": "linear", "weights": {"grid": "log_odds", "points": 41, "low": 0.002},
        }},
    },
    "linear_bottleneck": {  # an arm of configs/linear_bottleneck.yaml
        "problem": "linear_bottleneck",
        "problem_options": {"cosines": [-0.3, -0.3, -0.3]},
        "budget": {"epochs": 300, "batch_size": 3, "evaluations": 20},
        "optimizer": {"name": "adam", "lr": [3e-2, 1.0], "schedule": "linear"},
        "arms": {"scalarization": {
            "method": "tchebycheff", "weights": {"grid": "lattice", "points": 55},
        }},
    },
    "dtlz2": {
        "problem": "dtlz2:dtlz2",
        "budget": {"epochs": 100, "batch_size": 16, "evaluations": 20},
        "optimizer": {"name": "adam", "lr": [1e-2, 3e-2, 1e-1], "schedule": "linear"},
        "arms": {"scalarization": {
            "method": "tchebycheff", "weights": {"grid": "lattice", "points": 28},
        }},
    },
}  # fmt: skip


@dataclass(frozen=True)
class Cost:
    """Shares of the full sweep's, one a seed: epochs trained and hypervolume kept."""

    epochs: NDArray[np.float64]
    hypervolume: NDArray[np.float64]


def front_halving(rungs: tuple[float, ...] = RUNGS, keep: float = KEEP) -> Rule:
    """The rule of `scheduler: {name: front_halving}`."""

    def ends(curves: Curves, epochs: list[int], seed: int) -> dict[str, int]:
        going, found = dict(curves), dict.fromkeys(curves, epochs[-1])
        for rung in (round(share * epochs[-1]) for share in rungs):
            now = {name: curve[epochs.index(rung)] for name, curve in going.items()}
            alive = {name: losses for name, losses in now.items() if np.isfinite(losses).all()}
            for name in cut({n: tuple(map(float, x)) for n, x in alive.items()}, keep).stopped:
                found[name] = rung
                del going[name]
        return found

    return ends


def asha(curves: Curves, epochs: list[int], seed: int) -> dict[str, int]:
    """Tune's ASHA on the mean loss, trials started in a random order."""
    from ray.tune.schedulers import AsyncHyperBandScheduler

    rule = AsyncHyperBandScheduler(
        time_attr="epoch", metric="loss", mode="min", max_t=epochs[-1], reduction_factor=2,
        grace_period=round(RUNGS[0] * epochs[-1]),
    )  # fmt: skip
    waiting = [str(name) for name in np.random.default_rng(seed).permutation(sorted(curves))]
    running: dict[str, int] = {}
    found: dict[str, int] = {}
    while waiting or running:
        while waiting and len(running) < CONCURRENT:
            running[waiting.pop(0)] = 0
            rule.on_trial_add(None, SimpleNamespace(trial_id=list(running)[-1]))
        for name, k in list(running.items()):
            loss = float(curves[name][k].mean())
            told = {"epoch": epochs[k], "loss": loss if np.isfinite(loss) else 1e9}
            action = rule.on_trial_result(None, SimpleNamespace(trial_id=name), told)
            running[name] = k + 1
            if action == "STOP" or k + 1 == len(epochs):
                found[name] = epochs[k]
                del running[name]
    return found


def chance(curves: Curves, epochs: list[int], seed: int) -> dict[str, int]:
    """As many runs at the same rungs as front halving, drawn at random: what ranking is worth."""
    random = np.random.default_rng(seed)
    going, found = sorted(curves), dict.fromkeys(curves, epochs[-1])
    for rung in (round(share * epochs[-1]) for share in RUNGS):
        going = [str(name) for name in random.permutation(going)]
        count = survivors(len(going), KEEP)
        found |= dict.fromkeys(going[count:], rung)
        going = sorted(going[:count])
    return found


def full(curves: Curves, epochs: list[int], seed: int) -> dict[str, int]:
    """Every run to its end."""
    return dict.fromkeys(curves, epochs[-1])


RULES: dict[str, Rule] = {
    "full budget": full,
    "front_halving": front_halving(),
    "ASHA, mean": asha,
    "random halving": chance,
}


def records(name: str, seeds: int, folder: Path) -> pd.DataFrame:
    """The full sweep's records, trained unless they are there."""
    config = folder / f"{name}.yaml"
    folder.mkdir(parents=True, exist_ok=True)
    resources = {"engine": "inline", "pack": 64}
    config.write_text(
        yaml.safe_dump({"name": name, "seeds": seeds, "resources": resources, **SWEEPS[name]})
    )
    return load(run(load_config(config), folder / name).folder)


def replayed(frame: pd.DataFrame, rules: Mapping[str, Rule]) -> dict[str, Cost]:
    """What each rule makes of the recorded curves."""
    last = int(frame["epoch"].max())
    ends = {name: _ends(frame, rule) for name, rule in rules.items()}
    table = run_table(frame)
    table = table[~table["diverged"]]
    wide = evaluations(frame, "loss", ["val", "test"], table.index)
    own = last_losses(wide, "val").loc[table.index]
    unit = fit(tasks_of(frame), own.to_numpy(), table["seed"].to_numpy())
    whole = points(wide, select(wide, unit, "val", "best"), table, "val", "test")
    unit = reported_on(unit, whole.select, whole.report)
    epoch_of = frame.drop_duplicates(["run", "step"]).set_index(["run", "step"])["epoch"]
    seeds = frame.drop_duplicates("run").set_index("run")["seed"]
    volumes, epochs = {}, {}
    for name, end in ends.items():
        within = epoch_of.loc[wide.index].to_numpy() <= end.loc[wide.index.get_level_values(0)]
        part = wide[within.to_numpy()]
        found = points(part, select(part, unit, "val", "best"), table, "val", "test")
        found = found.normalised(unit)
        volumes[name] = np.array([
            hypervolume(attained_losses(one), unit.reference)
            for seed in sorted(seeds.unique())
            for one in [found.where(found.seed == seed)]
        ])  # fmt: skip
        epochs[name] = end.groupby(seeds).mean().to_numpy() / last
    return {n: Cost(epochs[n], volumes[n] / volumes["full budget"]) for n in ends}


def _ends(frame: pd.DataFrame, rule: Rule) -> pd.Series:
    """Run -> the epoch at which the rule ends it; a diverged one ends where it diverged."""
    losses = frame[(frame["split"] == "val") & (frame["measure"] == "loss") & (frame["epoch"] > 0)]
    tasks = list(tasks_of(frame))
    found: dict[str, int] = {}
    for seed, group in losses.groupby("seed"):
        epochs = sorted(int(epoch) for epoch in group["epoch"].unique())
        wide = group.pivot_table(index=["run", "epoch"], columns="task", values="value")[tasks]
        curves = {
            str(name): wide.loc[name].reindex(epochs).to_numpy()
            for name in wide.index.get_level_values(0).unique()
        }
        ends = rule(curves, epochs, int(seed))
        found |= {
            name: min(end, epochs[max(0, int(np.isfinite(curves[name]).all(axis=1).sum()) - 1)])
            for name, end in ends.items()
        }
    return pd.Series(found)


def main() -> None:
    """Train, replay, print a table and whether the target is met."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("problems", nargs="*", help=f"of {', '.join(SWEEPS)}; all")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the full sweeps here")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    print(f"{'problem':<18} {'scheduler':<14} {'epochs':>7} {'hypervolume':>12} {'worst seed':>11}")
    with tempfile.TemporaryDirectory() as scratch:
        for name in options.problems or SWEEPS:
            frame = records(name, options.seeds, options.keep or Path(scratch))
            for rule, cost in replayed(frame, RULES).items():
                epochs, volume = np.median(cost.epochs), np.median(cost.hypervolume)
                met = epochs <= EPOCHS_TARGET and volume >= HYPERVOLUME_TARGET
                says = "" if rule == "full budget" else ("met" if met else "missed")
                print(
                    f"{name:<18} {rule:<14} {epochs:>7.1%} {volume:>12.2%} "
                    f"{cost.hypervolume.min():>11.2%} {says}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
