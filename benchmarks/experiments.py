"""Simulated experiments one after another: each finished one is on disk, and a cut run goes on."""

from __future__ import annotations

import csv
import sys
import time
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path

import numpy as np
import pandas as pd
from simulated import Answer, Cell, experiment

Job = tuple[Cell, int]
"""An experiment and which repeat of it this is."""

KEYS = (*(field.name for field in fields(Cell)), "repeat")
COLUMNS = (*KEYS, *(field.name for field in fields(Answer)))


@dataclass(frozen=True)
class Log:
    """Where finished experiments are kept, and what may be spent on further ones.

    path: a CSV file with COLUMNS, made if it is not there. until: of `time.monotonic`, when no
    further experiment is begun. processes: how many work side by side.
    """

    path: Path
    until: float
    processes: int

    def answers(self, cells: Sequence[Cell], repeats: int) -> pd.DataFrame:
        """Return the finished experiments of these cells, one a row, after running what is missing.

        The order is drawn, all cells once before any is repeated: a run that is cut has seen all
        kinds about equally often. Equal cells and repeats give equal answers.
        """
        jobs = [(cell, repeat) for repeat in range(repeats) for cell in _shuffled(cells, repeat)]
        known = self._known()
        todo = [job for job in jobs if _key(job) not in known]
        self._run(todo, len(jobs))
        known = self._known()
        rows = [known[_key(job)] for job in jobs if _key(job) in known]
        if not rows:
            raise SystemExit("the time was over before an experiment was; give --minutes more")
        return pd.DataFrame(rows, columns=list(COLUMNS))

    def _known(self) -> dict[tuple[object, ...], dict[str, object]]:
        if not self.path.exists():
            return {}
        rows = pd.read_csv(self.path).to_dict("records")
        return {tuple(row[name] for name in KEYS): row for row in rows}

    def _run(self, todo: Sequence[Job], total: int) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = not self.path.exists()
        with self.path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS)
            if fresh:
                writer.writeheader()
            for done, (job, answer) in enumerate(self._finished(todo), total - len(todo) + 1):
                writer.writerow({**asdict(job[0]), "repeat": job[1], **asdict(answer)})
                file.flush()
                print(f"\r{done} of {total} experiments", end="", file=sys.stderr, flush=True)
        if todo:
            print(file=sys.stderr)

    def _finished(self, todo: Sequence[Job]) -> Iterator[tuple[Job, Answer]]:
        """Jobs with their answers as they come, until the time is over."""
        if self.processes == 1:
            for job in todo:
                if time.monotonic() > self.until:
                    return
                yield job, run(job)
            return
        with ProcessPoolExecutor(self.processes) as pool:
            for begin in range(0, len(todo), batch := 16 * self.processes):
                if time.monotonic() > self.until:
                    return
                waiting = {pool.submit(run, job): job for job in todo[begin : begin + batch]}
                for future in as_completed(waiting):
                    yield waiting[future], future.result()


def run(job: Job) -> Answer:
    """Return the answer of one experiment, whose random numbers depend on the job alone."""
    cell, repeat = job
    return experiment(cell, np.random.default_rng([7, zlib.crc32(repr(cell).encode()), repeat]))


def _key(job: Job) -> tuple[object, ...]:
    return (*astuple(job[0]), job[1])


def _shuffled(cells: Sequence[Cell], repeat: int) -> list[Cell]:
    order = np.random.default_rng([3, repeat]).permutation(len(cells))
    return [cells[index] for index in order]
