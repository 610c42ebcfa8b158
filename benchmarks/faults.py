"""Strikes sweeps with random faults, resumes them, and counts what was lost, doubled or different.

    python benchmarks/faults.py --faults 100

Sweeps under Ray Tune run in new folders, one after the other. Each fault strikes the one that is
under way at a random moment: kill -9 of its driver, a training worker or a raylet; Ctrl-C twice; a
full disk; or, while no driver runs, a damaged records or checkpoint file. Then `mtofront resume`
goes on, until the next fault. The full disk is injected: while a file named FULL exists, `fsync`
raises ENOSPC in every Python process of the sweep, so that nothing of ours can be put in place.

Prints a line a fault, and at the end the counts against an uninterrupted sweep:
lost: runs without records at the end, and whole records that vanished on the way;
doubled: runs with records twice, and whole records that were written again;
different: runs whose records are not bit for bit the uninterrupted sweep's.
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
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

CONFIG = """\
name: faults
problem: multidigits
problem_options: {train: 640, val: 200, test: 200}
budget: {epochs: 24, batch_size: 32, evaluations: 12}
optimizer: {name: adam, lr: [0.003, 0.01]}
seeds: 2
arms:
  scalarization: {method: linear, weights: {grid: log_odds, points: 8}}
  pcgrad:
  famo:
resources: {cpus: 2, pack: 8, checkpoint_seconds: 0}
"""
FULL_DISK = """\
import errno, os
real = os.fsync
def fsync(handle):
    if os.path.exists(os.environ["FAULTS_FULL"]):
        raise OSError(errno.ENOSPC, "No space left on device")
    return real(handle)
os.fsync = fsync
"""
ROOT = Path(__file__).parents[1]
LONGEST = 6.0
"""Seconds that a driver trains at most before its fault, the next ones of a worker not counted."""
PATIENCE = 900
"""Seconds that a driver may take to end; one that takes longer ends the benchmark."""
PROCESSES = {"worker": "ray::ImplicitFunc", "raylet": "raylet/raylet"}
"""What the command line of a victim holds; a worker is, to Tune, a function trial's actor."""


@dataclass
class Sweep:
    """One folder, its driver if one lives, and the whole records seen in it.

    seen, broken: file -> its inode and time of change, of whole and of damaged ones.
    """

    folder: Path
    driver: subprocess.Popen[bytes] | None = None
    seen: dict[Path, tuple[int, int]] = field(default_factory=dict)
    broken: dict[Path, tuple[int, int]] = field(default_factory=dict)

    def start(self) -> None:
        """Start a driver, or the next one."""
        begun = (self.folder / "manifest.json").exists()
        words = ["resume"] if begun else ["run", "faults.yaml", "--out"]
        with open("drivers.log", "ab") as log:
            self.driver = subprocess.Popen(
                [sys.executable, "-m", "mtofront", *words, str(self.folder)], stdout=log, stderr=log
            )

    def end(self) -> int:
        """Wait for the driver; its exit status."""
        assert self.driver is not None
        code = self.driver.wait(timeout=PATIENCE)
        self.driver = None
        return code

    def files(self, pattern: str) -> list[Path]:
        """Files of the folder that are in place."""
        return [path for path in sorted(self.folder.glob(pattern)) if path.name[0] != "."]

    def note(self, counts: Counter[str]) -> None:
        """Count whole records that vanished or were written again since the last call."""
        files = {path: identity(path) for path in self.files("records/*.parquet")}
        whole = {path: now for path, now in files.items() if self.broken.get(path) != now}
        for path, before in self.seen.items():
            counts["lost"] += path not in whole
            counts["doubled"] += whole.get(path, before) != before
        self.seen = whole

    def broke(self, path: Path) -> None:
        """Take note that a file is damaged: it is to be written again."""
        self.seen.pop(path, None)
        self.broken[path] = identity(path)


def identity(path: Path) -> tuple[int, int]:
    """What changes whenever a file is written again."""
    stat = path.stat()
    return stat.st_ino, stat.st_mtime_ns


def below(driver: int, words: str) -> list[int]:
    """Processes below a driver whose command line holds the words."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True)
    rows = [line.split(None, 2) for line in listed.stdout.splitlines()]
    found: set[int] = set()
    border = {driver}
    while border:
        border = {int(pid) for pid, parent, *_ in rows if int(parent) in border}
        found |= border
    return [int(row[0]) for row in rows if int(row[0]) in found and words in row[-1]]


Strike = Callable[[Sweep, random.Random], str]
"""A fault: it strikes a sweep and says what it did."""


def kill(what: str) -> Strike:
    """Kill one process of the sweep. After a worker's death Tune and the driver go on."""

    def strike(sweep: Sweep, random_: random.Random) -> str:
        assert sweep.driver is not None
        driver = sweep.driver.pid
        victims = [driver] if what == "driver" else below(driver, PROCESSES[what])
        if not victims:
            return "none was there at that moment"
        with contextlib.suppress(ProcessLookupError):
            os.kill(random_.choice(victims), signal.SIGKILL)
        return "killed" if what == "worker" else f"killed, driver's status {sweep.end()}"

    return strike


def interrupt(sweep: Sweep, random_: random.Random) -> str:
    """Ctrl-C, and again within a second."""
    assert sweep.driver is not None
    sweep.driver.send_signal(signal.SIGINT)
    pause = random_.uniform(0, 1)
    time.sleep(pause)
    sweep.driver.send_signal(signal.SIGINT)
    return f"{pause:.2f} s apart, driver's status {sweep.end()}"


def fill_disk(sweep: Sweep, random_: random.Random) -> str:
    """Nothing can be written until the driver has ended of it."""
    full = Path(os.environ["FAULTS_FULL"])
    full.touch()
    try:
        return f"driver's status {sweep.end()}"
    finally:
        full.unlink()


def damage(pattern: str) -> Strike:
    """Cut a file off, or overwrite sixteen bytes of it, while no driver runs."""

    def strike(sweep: Sweep, random_: random.Random) -> str:
        if sweep.driver is not None:
            sweep.driver.kill()
            sweep.end()
            time.sleep(5)  # a worker that outlives its driver may still put a file in place
        path = random_.choice(sweep.files(pattern))
        content = path.read_bytes()
        place = random_.randrange(len(content))
        if random_.random() < 0.5:
            path.write_bytes(content[:place])
            how = f"cut to {place} of {len(content)} bytes"
        else:
            wrong = bytes(byte ^ random_.randrange(1, 256) for byte in content[place : place + 16])
            path.write_bytes(content[:place] + wrong + content[place + len(wrong) :])
            how = f"{len(wrong)} bytes changed at {place} of {len(content)}"
        sweep.broke(path)
        return f"{path.name} {how}"

    return strike


FAULTS: dict[str, Strike] = {
    "driver": kill("driver"),
    "worker": kill("worker"),
    "raylet": kill("raylet"),
    "ctrl-c twice": interrupt,
    "full disk": fill_disk,
    "record": damage("records/*.parquet"),
    "checkpoint": damage("checkpoints/*.ckpt"),
}
"""Registry: a fault's name -> what strikes."""
NEEDS = {"record": "records/*.parquet", "checkpoint": "checkpoints/*.ckpt"}
"""Files that must be there before a fault can strike; the others need a driver with a worker."""


def table(folder: Path) -> pd.DataFrame:
    """All rows of all record files in a canonical order, copies included."""
    frame = pd.concat([pq.read_table(path).to_pandas() for path in folder.glob("records/pack-*")])
    return frame.sort_values(list(frame.columns)).reset_index(drop=True)


def compare(folder: Path, whole: pd.DataFrame, counts: Counter[str]) -> None:
    """Count the runs of a finished folder that are lost, doubled or different."""
    found = table(folder)
    keys = [name for name in whole.columns if name != "value"]
    counts["sweeps"] += 1
    counts["lost"] += len(set(whole["run"]) - set(found["run"]))
    counts["doubled"] += found.loc[found.duplicated(keys), "run"].nunique()
    once = {run: rows.reset_index(drop=True) for run, rows in found.groupby("run")}
    counts["different"] += sum(
        run in once and not once[run].drop_duplicates().equals(rows.reset_index(drop=True))
        for run, rows in whole.groupby("run")
    )


def is_ready(sweep: Sweep, name: str, longest: float) -> bool:
    """Bring a sweep to where a fault can strike; False if its driver ended before.

    longest: seconds that a driver trains before its fault.
    """
    if name in NEEDS and sweep.files(NEEDS[name]):
        return True
    if sweep.driver is None:
        sweep.start()
    assert sweep.driver is not None
    while sweep.driver.poll() is None:
        if name in NEEDS and sweep.files(NEEDS[name]):
            return True
        if name not in NEEDS and below(sweep.driver.pid, PROCESSES["worker"]):
            with contextlib.suppress(subprocess.TimeoutExpired):
                sweep.driver.wait(timeout=longest)
            return sweep.driver.poll() is None
        time.sleep(0.2)
    return False


def is_finished(sweep: Sweep, whole: pd.DataFrame, counts: Counter[str]) -> bool:
    """Whether a driver that ended by itself has left every run; a pack may have failed."""
    code = sweep.end()
    sweep.note(counts)
    return code == 0 or set(table(sweep.folder)["run"]) == set(whole["run"])


def strike_all(names: Sequence[str], random_: random.Random, whole: pd.DataFrame) -> Counter[str]:
    """The faults one after the other; a finished sweep is compared and followed by another."""
    counts, begin = Counter[str](), time.monotonic()
    sweep = Sweep(Path(f"cut{counts['sweeps']}"))
    for k, name in enumerate(names):
        while not is_ready(sweep, name, random_.uniform(0, LONGEST)):
            if is_finished(sweep, whole, counts):
                compare(sweep.folder, whole, counts)
                sweep = Sweep(Path(f"cut{counts['sweeps']}"))
        line = FAULTS[name](sweep, random_)
        sweep.note(counts)
        counts["halfway"] += sweep.driver is None and bool(sweep.files("checkpoints/*.ckpt"))
        clock = time.monotonic() - begin
        print(f"{k + 1:4d}  {clock:5.0f} s  {sweep.folder}  {name}: {line}", flush=True)
    while True:
        if sweep.driver is None:
            sweep.start()
        if is_finished(sweep, whole, counts):
            compare(sweep.folder, whole, counts)
            return counts


def main() -> None:
    """Strike in a temporary folder and print the counts; exit status 1 if any is not 0."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--faults", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random_ = random.Random(options.seed)
    names = [list(FAULTS)[k % len(FAULTS)] for k in range(options.faults)]
    random_.shuffle(names)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        os.chdir(scratch)
        Path("faults.yaml").write_text(CONFIG)
        Path("inject").mkdir()
        Path("inject/sitecustomize.py").write_text(FULL_DISK)
        os.environ["FAULTS_FULL"] = str(Path("FULL").resolve())
        paths = (str(Path("inject").resolve()), str(ROOT), os.environ.get("PYTHONPATH", ""))
        os.environ["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
        start = time.monotonic()
        undisturbed = Sweep(Path("whole"))
        undisturbed.start()
        if undisturbed.end() != 0:
            sys.exit(f"the uninterrupted sweep failed:\n{Path('drivers.log').read_text()}")
        print(f"      an uninterrupted sweep took {time.monotonic() - start:.0f} s", flush=True)
        counts = strike_all(names, random_, table(Path("whole")))
    kinds = ", ".join(f"{count} {name}" for name, count in sorted(Counter(names).items()))
    print(f"{options.faults} faults ({kinds}) in {counts['sweeps']} sweeps.")
    print(f"{counts['halfway']} of them left checkpoints of packs in training.")
    bad = {name: counts[name] for name in ("lost", "doubled", "different")}
    print(", ".join(f"{name} = {count}" for name, count in bad.items()))
    sys.exit(int(any(bad.values())))


if __name__ == "__main__":
    main()
