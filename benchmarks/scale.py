"""What a sweep costs besides its training, and how that grows with the number of runs.

    python benchmarks/scale.py                 # sweeps of 100, 1,000 and 10,000 runs
    python benchmarks/scale.py --figure F.png  # the same, cost a run drawn against their number
    python benchmarks/scale.py --sleepers      # packs that sleep, many at once

Each sweep is trained twice from the command line in new folders: by Ray Tune, as users do, and
pack after pack in one process. The second one's time, shared by the cores, is what training costs;
the rest is overhead. A driver's memory is the peak that the system kept for its process alone.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import yaml
from sleepers import sleep_through

SEEDS = 10
ROOT = Path(__file__).parents[1]
LOADING = """
import sys, time
from mtofront.analysis import load
begin = time.perf_counter()
frame = load(sys.argv[1])
print(time.perf_counter() - begin, frame["run"].nunique(), len(frame))
"""


@dataclass(frozen=True)
class Cost:
    """Seconds of wall time, and the peak memory of the driver in bytes."""

    seconds: float
    memory: int


def config(runs: int, cpus: int, engine: str) -> dict[str, object]:
    """A sweep of so many trivial runs: two convex bowls, 400 steps each."""
    weights = {"grid": "log_odds", "points": runs // SEEDS}
    return {
        "name": "scale",
        "problem": "quadratics",
        "budget": {"epochs": 100, "batch_size": 16, "evaluations": 1},
        "optimizer": {"name": "sgd", "lr": [0.05]},
        "seeds": SEEDS,
        "arms": {"scalarization": {"method": "linear", "weights": weights}},
        "resources": {"cpus": cpus, "pack": 64, "engine": engine},
    }


def cost(folder: Path, runs: int, cpus: int, engine: str) -> Cost:
    """Train a sweep from the command line, analysis and report included."""
    path = folder / f"{engine}-{runs}.yaml"
    path.write_text(yaml.safe_dump(config(runs, cpus, engine)))
    command = [sys.executable, "-m", "mtofront", "run", str(path), "--out", str(_out(path))]
    begin = time.perf_counter()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as driver:
        _, status, used = os.wait4(driver.pid, 0)
        driver.returncode = os.waitstatus_to_exitcode(status)
    if driver.returncode:
        sys.exit(f"{' '.join(command)} ended with {driver.returncode}")
    return Cost(time.perf_counter() - begin, used.ru_maxrss * 1024)


def _out(path: Path) -> Path:
    return path.with_suffix("")


def loading(folder: Path, runs: int) -> float:
    """Seconds that `load` takes in a new process, imports not counted."""
    out = _out(folder / f"ray-{runs}.yaml")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    answer = subprocess.run(
        [sys.executable, "-c", LOADING, str(out)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    seconds, found, _ = answer.stdout.split()
    if int(found) != runs:
        sys.exit(f"{found} runs were loaded, {runs} were trained")
    return float(seconds)


def sweeps(counts: list[int], cpus: int, figure: Path | None) -> None:
    """Print a line a sweep, then the targets, and draw the cost of a run."""
    print(f"{'runs':>8} {'wall':>9} {'training':>9} {'overhead':>12} {'driver':>9} {'load':>7}")
    last = (Cost(0, 0), 0.0, 0.0)
    each: list[tuple[int, float, float]] = []
    for runs in counts:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            swept = cost(folder, runs, cpus, "ray")
            alone = cost(folder, runs, cpus, "inline")
            overhead = max(0.0, swept.seconds - alone.seconds / cpus) / runs * 1000
            last = swept, overhead, loading(folder, runs)
            each.append((runs, swept.seconds / runs * 1000, overhead))
        print(
            f"{runs:8,} {swept.seconds:7.1f} s {alone.seconds / cpus:7.1f} s "
            f"{overhead:7.2f} ms/run {swept.memory / 2**20:5,.0f} MiB {last[2]:5.2f} s",
            flush=True,
        )
    swept, overhead, load = last
    for name, found, limit in (
        ("wall time, minutes", swept.seconds / 60, 15.0),
        ("driver's memory, GB", swept.memory / 1e9, 1.5),
        ("overhead a run, ms", overhead, 10.0),
        ("load, s", load, 5.0),
    ):
        print(f"{'met' if found < limit else 'missed':6} {name}: {found:.2f} < {limit:g}")
    if figure is not None:
        _draw(each, figure)


def _draw(each: list[tuple[int, float, float]], path: Path) -> None:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.use("agg")
    figure = Figure(figsize=(5.5, 3.2), layout="constrained")
    axes = figure.subplots()
    runs, whole, overhead = zip(*each, strict=True)
    axes.loglog(runs, whole, "o-", color="#0072b2", label="a run, wall time over runs")
    axes.loglog(runs, overhead, "s--", color="#d55e00", label="beyond its training")
    axes.axhline(10, color="#999999", linewidth=0.8)
    axes.text(runs[0], 10.5, "target: 10 ms beyond training", fontsize=8, color="#555555")
    axes.set_xlabel("runs in the sweep")
    axes.set_ylabel("ms a run")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


def simulated(counts: list[int], at_once: int) -> None:
    """Print what packs that sleep cost the driver."""
    print(f"{at_once} packs at once, each of 2 s and 10 reports; a further pack: beyond its sleep")
    print(f"{'packs':>8} {'wall':>9} {'asleep':>9} {'a further pack':>15} {'driver':>9}")
    earlier = (0, 0.0)
    for packs in counts:
        begin = time.perf_counter()
        sleep_through(packs, at_once, seconds=2.0, reports=10)
        wall = time.perf_counter() - begin
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        asleep = 2.0 * -(-packs // at_once)
        further = (wall - asleep - earlier[1]) / (packs - earlier[0]) * 1000
        print(
            f"{packs:8,} {wall:7.1f} s {asleep:7.1f} s {further:12.1f} ms "
            f"{memory / 2**10:5,.0f} MiB",
            flush=True,
        )
        earlier = packs, wall - asleep


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, nargs="+", default=[100, 1_000, 10_000])
    parser.add_argument("--cpus", type=int, default=os.cpu_count())
    parser.add_argument("--figure", type=Path, metavar="FILE", help="draw the cost of a run here")
    parser.add_argument("--sleepers", type=int, nargs="*", help="numbers of packs that sleep")
    parser.add_argument("--at-once", type=int, default=32, help="how many of them sleep at once")
    given = parser.parse_args()
    if given.sleepers is None:
        sweeps(given.runs, given.cpus, given.figure)
    else:
        simulated(given.sleepers or [64, 256, 1024], given.at_once)


if __name__ == "__main__":
    main()
