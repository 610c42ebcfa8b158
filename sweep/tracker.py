"""How a sweep stands: heard from its packs while it runs, read from its folder afterwards."""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import StorageError
from .folder import Folder, Pack, is_locked, write_json
from .halving import work_share
from .job import News
from .rounds import unplanned

SAVE_SECONDS = 1.0
"""How often the list of running packs is written for `status`, at most."""


class Tracker:
    """What the driver has heard so far. Counts are runs, not packs.

    start: monotonic seconds when the first pack began. points: arm -> validation losses (n, T) of
    all evaluations heard of, rows with NaN left out. untrained: (T,) losses before training.
    """

    def __init__(self, folder: Folder, manifest: Mapping[str, Any], todo: Sequence[int]) -> None:
        self.folder = folder
        self.start = time.monotonic()
        self.work: dict[int, float] = {}
        self.extend(manifest, todo)
        self.before = sum(size for n, size in self.sizes.items() if n not in self.work)
        self.latest: dict[int, News] = {}
        self.points: dict[str, list[NDArray[np.float64]]] = {}
        self.untrained: NDArray[np.float64] | None = None
        self._saved = 0.0
        self._resumed = 0.0

    def extend(self, manifest: Mapping[str, Any], todo: Sequence[int]) -> None:
        """Take in that there are more packs to do."""
        self.sizes = {n: len(runs) for n, runs in enumerate(manifest["packs"])}
        self.arms = [manifest["runs"][runs[0]]["arm"] for runs in manifest["packs"]]
        costs = {arm: info["backward_passes_per_step"] for arm, info in manifest["arms"].items()}
        self.work |= {n: self.sizes[n] * costs[self.arms[n]] for n in todo}
        firsts = {n: manifest["runs"][runs[0]] for n, runs in enumerate(manifest["packs"])}
        self.rules = {n: run["scheduler"] for n, run in firsts.items() if "scheduler" in run}
        later = unplanned(manifest)
        self.later = sum(later.values())
        self.later_work = sum(runs * costs[arm] for arm, runs in later.items())

    def hear(self, news: News) -> None:
        """Take in what one pack told."""
        if not self.latest:
            self.start = time.monotonic()
        if news.pack not in self.latest:  # what its checkpoint holds took no time now
            self._resumed += self.work[news.pack] * self._part(news)
        self.latest[news.pack] = news
        points = np.array(news.points, dtype=float)
        points = points[np.isfinite(points).all(axis=1)] if points.size else points
        if len(points) and not news.waits:  # those are told already
            if news.epoch == 0 and self.untrained is None:
                self.untrained = points.mean(axis=0)
            self.points.setdefault(self.arms[news.pack], []).append(points)
        self._save()

    @property
    def total(self) -> int:
        """All runs of the sweep, later rounds of adaptive arms counted."""
        return sum(self.sizes.values()) + self.later

    @property
    def done(self) -> int:
        """Runs whose records are written, diverged ones among them."""
        return self.before + sum(n.runs for n in self.latest.values() if n.done)

    @property
    def running(self) -> int:
        """Runs in packs that have begun and not ended."""
        return sum(n.runs for n in self.latest.values() if not (n.done or n.failed or n.storage))

    @property
    def diverged(self) -> int:
        """Runs heard to have diverged."""
        return sum(n.diverged for n in self.latest.values())

    @property
    def stopped(self) -> int:
        """Runs heard to have been stopped by a scheduler."""
        return sum(n.stopped for n in self.latest.values())

    @property
    def failed(self) -> dict[int, str]:
        """Pack -> what went wrong."""
        return {number: n.failed for number, n in self.latest.items() if n.failed}

    @property
    def notices(self) -> tuple[str, ...]:
        """What packs had to say beside numbers, each once."""
        return tuple(sorted({line for n in self.latest.values() for line in n.notices}))

    @property
    def evaluation_share(self) -> float | None:
        """Share of the workers' time that went into evaluations; None before any was spent."""
        spent = sum(n.training + n.evaluating for n in self.latest.values())
        return sum(n.evaluating for n in self.latest.values()) / spent if spent > 0 else None

    @property
    def share(self) -> float:
        """Share of the work to do that is done, in backward passes, 0 … 1."""
        done = 0.0
        for number, news in self.latest.items():
            done += self.work[number] * self._part(news)
        return done / (sum(self.work.values()) + self.later_work) if self.work else 1.0

    def seconds_left(self) -> float | None:
        """Time left at the rate so far; None before there is one."""
        share = self.share
        gained = share - self._resumed / sum(self.work.values()) if self.work else 0.0
        return (time.monotonic() - self.start) * (1 - share) / gained if gained > 0 else None

    def _part(self, news: News) -> float:
        """Share of a pack's work that is done; what a scheduler spares it is no work."""
        if news.done or news.failed:
            return 1.0
        rule = self.rules.get(news.pack)
        if rule is None:
            return news.epoch / news.epochs
        return work_share(news.epoch, news.epochs, rule["rungs"], rule["keep"])

    def _save(self) -> None:
        if time.monotonic() - self._saved < SAVE_SECONDS:
            return
        self._saved = time.monotonic()
        running = [k for k, n in self.latest.items() if not (n.done or n.failed or n.storage)]
        with contextlib.suppress(StorageError):  # a full disk is told by the pack that meets it
            write_json(self.folder.progress, {"running": running})


def status(folder: Folder) -> dict[str, Counter[str]]:
    """arm -> runs that are expected, recorded, running, failed and missing, from the folder.

    Runs of rounds that wait for others are missing too. Running is what a living driver says;
    without one nothing runs. Raises RequestError if the folder holds no sweep.
    """
    manifest = folder.read_manifest()
    packs: dict[int, Pack] = {n: tuple(runs) for n, runs in enumerate(manifest["packs"])}
    finished, failed = folder.finished(packs), folder.failed(packs)
    running = _running(folder)
    counts: dict[str, Counter[str]] = {arm: Counter() for arm in manifest["arms"]}
    for number, runs in packs.items():
        if number in finished:
            state = "recorded"
        elif number in running:
            state = "running"
        else:
            state = "failed" if number in failed else "missing"
        counts[manifest["runs"][runs[0]]["arm"]].update({"expected": len(runs), state: len(runs)})
    for arm, later in unplanned(manifest).items():
        counts[arm].update({"expected": later, "missing": later})
    return counts


def _running(folder: Folder) -> set[int]:
    if not is_locked(folder):
        return set()
    with contextlib.suppress(OSError, ValueError, KeyError):
        return set(json.loads(folder.progress.read_text())["running"])
    return set()
