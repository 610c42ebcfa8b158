"""How often the verdict cries wolf, how often its intervals hold the truth, what it can see.

    python benchmarks/calibration.py alarms     # arms without any difference: false beats and worse
    python benchmarks/calibration.py coverage   # arms with a known gain: intervals that hold it
    python benchmarks/calibration.py power      # the smallest gain that is found in 80 %
    python benchmarks/calibration.py real       # MultiDigits, scalarization against scalarization
    python benchmarks/calibration.py size       # 1,000,000 records: seconds and memory

Tables are printed in Markdown; docs/calibration.md keeps them. The first three keep each finished
experiment in `--results`; the same command goes on after a cut, and `--minutes` ends one early.
"""

from __future__ import annotations

import argparse
import bisect
import itertools
import math
import os
import resource
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from experiments import Log
from scipy import stats
from simulated import KINDS, SHAPES, Cell

from mtofront.analysis import Settings, judge, load
from mtofront.sweep import load_config, run

NOISES = (0.003, 0.01, 0.03, 0.06)
SEEDS = (3, 5, 10)
GAINS = (0.0, 0.02, 0.05, 0.1)
STEPS = (0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.08, 0.12, 0.16, 0.24, 0.32)


def share(found: int, total: int) -> str:
    """A share with its Clopper-Pearson interval of 95 %."""
    low, high = stats.binomtest(found, total).proportion_ci(0.95, "exact")
    return f"{found / total:.1%} ({low:.1%} to {high:.1%})"


def table(found: pd.DataFrame, by: str, seen: Mapping[str, pd.Series[bool]]) -> None:
    """Print shares of the experiments for which something was seen, by one column and over all."""
    print(f"\n| {by} | experiments | {' | '.join(seen)} |")
    print(f"|---|---|{'---|' * len(seen)}")
    groups = [(name, found[by] == name) for name in sorted(found[by].unique())]
    for name, mine in (*groups, ("all", found[by].notna())):
        shares = [share(int(true[mine].sum()), int(mine.sum())) for true in seen.values()]
        print(f"| {name} | {mine.sum()} | {' | '.join(shares)} |", flush=True)


def alarms(repeats: int, tasks: Sequence[int], log: Log) -> None:
    """Arms of the baseline's own quality."""
    cells = [Cell(*each) for each in itertools.product(tasks, SHAPES, KINDS, NOISES, SEEDS)]
    found = log.answers(cells, repeats)
    seen = {word: found["verdict"] == word for word in ("beats", "worse", "matches")}
    for by in ("tasks", "shape", "kind", "noise", "seeds"):
        table(found, by, seen)


def coverage(repeats: int, tasks: Sequence[int], log: Log) -> None:
    """Arms that are better in every task by a known gain."""
    cells = [Cell(*each) for each in itertools.product(tasks, SHAPES, KINDS, NOISES, SEEDS, GAINS)]
    found = log.answers(cells, repeats)
    above, below = found["low"] > found["truth"], found["high"] < found["truth"]
    seen = {"held": ~above & ~below, "too high": above, "too low": below}
    for by in ("tasks", "shape", "kind", "noise", "seeds", "gain"):
        table(found, by, seen)
    error = found["margin"] - found["truth"]
    print(f"\nThe margin is off by {error.mean():+.4f} in the mean, {error.std():.4f} around it.")


def power(repeats: int, tasks: Sequence[int], log: Log) -> None:
    """The smallest gain that is found in 80 % of experiments, by seeds and noise."""
    for count in tasks:
        print(f"\n| T = {count}, noise | {' | '.join(f'{seeds} seeds' for seeds in SEEDS)} |")
        print(f"|---|{'---|' * len(SEEDS)}")
        for noise in NOISES:
            least = [_least(count, noise, seeds, repeats, log) for seeds in SEEDS]
            print(f"| {noise} | {' | '.join(least)} |", flush=True)


def _least(tasks: int, noise: float, seeds: int, repeats: int, log: Log) -> str:
    """The smallest of STEPS that is found often enough, by bisection."""

    def often(step: int) -> bool:
        cells = [
            Cell(tasks, shape, kind, noise, seeds, STEPS[step])
            for shape, kind in itertools.product(SHAPES, ("settled", "spread"))
        ]
        found = log.answers(cells, each := max(1, repeats // len(cells)))
        if len(found) < each * len(cells):
            raise SystemExit("the time is over; the same command without --minutes goes on")
        # A gain below the equivalence may be found real and still be called a match.
        return bool((found["low"] > 0).mean() >= 0.8)

    least = bisect.bisect_left(range(len(STEPS)), True, key=often)
    return f"{STEPS[least]:g}" if least < len(STEPS) else f"> {STEPS[-1]:g}"


POOL: dict[str, object] = {
    "name": "pool",
    "problem": "multidigits",
    "budget": {"epochs": 20, "batch_size": 128, "evaluations": 20},
    "optimizer": {"name": "adam", "lr": [3e-3, 1e-2, 3e-2]},
    "seeds": 20,
    "arms": {
        "scalarization": {
            "method": "linear", "weights": {"grid": "log_odds", "points": 30, "low": 0.02},
        },
    },
    "resources": {"pack": 64},
}  # fmt: skip


def real(repeats: int, keep: Path | None) -> None:
    """Scalarization against itself: weights and seeds of a big sweep dealt out at random."""
    import yaml

    with tempfile.TemporaryDirectory() as scratch:
        folder = keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "pool.yaml"
        path.write_text(yaml.safe_dump(POOL))
        frame = load(run(load_config(path), folder / "pool").folder)
    weights = np.sort(frame["w_left"].unique())
    for kind in ("half of the weights", "five neighbours"):
        words = []
        for repeat in range(repeats):
            random = np.random.default_rng([11, repeat])
            words.append(_dealt(frame, weights, kind, random))
        found = pd.Series(words)
        shares = [share(int((found == word).sum()), repeats) for word in ("beats", "worse")]
        print(f"| {kind} | {repeats} | {' | '.join(shares)} | {(found == 'matches').mean():.0%} |")


def _dealt(frame: pd.DataFrame, weights: np.ndarray, kind: str, random: np.random.Generator) -> str:
    """One experiment: five seeds, half of the weights the baseline, of the others the arm."""
    if kind == "half of the weights":
        arm = random.permutation(weights)[: len(weights) // 2]
        rest = np.setdiff1d(weights, arm)
    else:
        start = random.integers(len(weights) - 5)
        arm = weights[start : start + 5]
        rest = np.setdiff1d(weights, arm)[:: 2 if random.random() < 0.5 else 1]
    seeds = random.choice(frame["seed"].unique(), 5, replace=False)
    own = frame[frame["seed"].isin(seeds) & frame["w_left"].isin([*arm, *rest])]
    named = own.assign(arm=np.where(own["w_left"].isin(arm), "arm", "scalarization"))
    return str(judge(named, Settings(equivalence=0.05)).rows["verdict"].iloc[0])


def size() -> None:
    """A million records, loaded from Parquet and compared."""
    import sys

    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from tables import Run, write_folder

    random = np.random.default_rng(0)
    runs = []
    for seed in range(10):
        for arm in ("scalarization", *"abcdefg"):
            for k in range(300):
                t = (k % 100) / 99
                centre = np.array([t * t, (1 - t) ** 2])
                steps = tuple(
                    (10 * e, v, v)
                    for e in range(1, 5)
                    for v in [centre + random.normal(0, 0.02, 2)]
                )
                weights = (1 - t, t) if arm == "scalarization" else None
                runs.append(Run(f"{arm}{seed}-{k}", arm, seed, steps, weights))
    with tempfile.TemporaryDirectory() as scratch:
        folder = write_folder(Path(scratch) / "out", runs)
        begin, busy = time.perf_counter(), time.process_time()
        frame = load(folder)
        loaded = time.process_time() - busy
        judge(frame)
    seconds, busy = time.perf_counter() - begin, time.process_time() - busy
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{len(frame):,} records of {len(runs):,} runs: loaded in {loaded:.1f} s of processor "
        f"time, loaded and analysed in {busy:.1f} s ({seconds:.1f} s by the clock), peak "
        f"{memory:.1f} GiB"
    )


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("alarms", "coverage", "power", "real", "size"))
    parser.add_argument("--repeats", type=int, help="experiments a cell; of `real`, in all")
    parser.add_argument("--tasks", type=int, nargs="+", default=[2, 3], help="T; 2 and 3")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the sweep of `real` here")
    parser.add_argument(
        "--results", type=Path, metavar="CSV",
        help="finished experiments; results/calibration/WHAT.csv. Remove it if the verdict changed",
    )  # fmt: skip
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no more after these")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    if given.what == "size":
        size()
    elif given.what == "real":
        real(given.repeats or 200, given.keep)
    else:
        defaults = {"alarms": 2, "coverage": 2, "power": 80}
        chosen = {"alarms": alarms, "coverage": coverage, "power": power}[given.what]
        path = given.results or Path("results", "calibration", f"{given.what}.csv")
        log = Log(path, time.monotonic() + 60 * given.minutes, given.processes)
        chosen(given.repeats or defaults[given.what], given.tasks, log)


if __name__ == "__main__":
    main()
