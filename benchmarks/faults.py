"""Kills sweeps at random moments, resumes them, and counts what was lost, doubled or different.

    python benchmarks/faults.py --kills 10

Each round starts a sweep under Ray Tune in a new folder, kills its driver or, every other time, a
training worker with SIGKILL at a random moment, resumes it, and compares the records with those of
an uninterrupted sweep. Prints one line a round and a last line with the three counts.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from mtofront.analysis import load

CONFIG = """\
name: faults
problem: multidigits
problem_options: {train: 640, val: 200, test: 200}
budget: {epochs: 12, batch_size: 32, evaluations: 2}
optimizer: {name: adam, lr: [0.003, 0.01]}
seeds: 4
arms:
  scalarization: {method: linear, weights: {grid: log_odds, points: 8}}
  pcgrad:
  uncertainty:
resources: {cpus: 2, pack: 8}
"""


def mtofront(*arguments: str) -> list[str]:
    """The command line of this Python's mtofront."""
    return [sys.executable, "-m", "mtofront", *arguments]


def table(folder: Path) -> pd.DataFrame:
    """All records in a canonical order."""
    frame = load(folder)
    return frame.sort_values(list(frame.columns)).reset_index(drop=True)


def workers_of(driver: int) -> list[int]:
    """Processes below a driver that train packs (Tune's name for a function trial's actor)."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True)
    rows = [line.split(None, 2) for line in listed.stdout.splitlines()]
    below, border = set(), {driver}
    while border:
        border = {int(pid) for pid, parent, *_ in rows if int(parent) in border}
        below |= border
    return [int(row[0]) for row in rows if int(row[0]) in below and "ray::ImplicitFunc" in row[-1]]


def kill_one(folder: Path, victim: str, random_: random.Random, longest: float) -> str:
    """Start a sweep and kill its driver or a training worker; says what was done."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    driver = subprocess.Popen(mtofront("run", "faults.yaml", "--out", str(folder)), **quiet)
    start = time.monotonic()
    while victim == "worker" and driver.poll() is None and not workers_of(driver.pid):
        time.sleep(0.1)
    left = longest - (time.monotonic() - start)
    with contextlib.suppress(subprocess.TimeoutExpired):
        driver.wait(timeout=random_.uniform(0, max(left, 1.0)))
    workers = workers_of(driver.pid) if victim == "worker" else [driver.pid]
    moment = time.monotonic() - start
    if not workers or driver.poll() is not None:
        return f"{victim} had ended before its moment, {moment:.1f} s"
    os.kill(random_.choice(workers), signal.SIGKILL)
    code = driver.wait(timeout=300)
    return f"{victim} killed after {moment:4.1f} s, driver's status {code}"


def main() -> None:
    """Run the rounds in a temporary folder and print the counts; exit status 1 if any is not 0."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random_ = random.Random(options.seed)
    lost = doubled = different = 0
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        Path("faults.yaml").write_text(CONFIG)
        start = time.monotonic()
        subprocess.run(
            mtofront("run", "faults.yaml", "--out", "whole"), check=True, capture_output=True
        )
        longest = 0.7 * (time.monotonic() - start)  # the report at the end has nothing to lose
        whole = table(Path("whole"))
        keys = [name for name in whole.columns if name != "value"]
        for k in range(options.kills):
            folder = Path(f"cut{k}")
            done = kill_one(folder, ("driver", "worker")[k % 2], random_, longest)
            again = "resume" if (folder / "manifest.json").exists() else "run"
            arguments = (
                [str(folder)] if again == "resume" else ["faults.yaml", "--out", folder.name]
            )
            subprocess.run(mtofront(again, *arguments), check=True, capture_output=True)
            frame = table(folder)
            gone = len(set(whole["run"]) - set(frame["run"]))
            twice = int(frame.duplicated(keys).sum())
            other = int(not frame.equals(whole))
            print(
                f"{k + 1:3d}  {done}: lost {gone}, doubled {twice}, different {other}", flush=True
            )
            lost, doubled, different = lost + gone, doubled + twice, different + other
    print(f"{options.kills} kills: lost = {lost}, doubled = {doubled}, different = {different}")
    sys.exit(int(bool(lost or doubled or different)))


if __name__ == "__main__":
    main()
