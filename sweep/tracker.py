"""How a sweep stands: heard from its packs while it runs, read from its folder afterwards."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from .errors import StorageError
from .folder import Folder, Pack, is_locked, write_json
from .fronts import Fronts
from .halving import work_share
from .job import News
from .retrace import Past, retrace
from .rounds import unplanned
from .standing import ArmStanding, Standing, standing_from

SAVE_SECONDS = 1.0
"""How often the standing is written for `status`, at most."""
SAVE_AT_LEAST = 10.0
"""How often it is written where nothing is heard, so that the time left stays true."""
SHOWN = 64
"""Points of an arm's front that watchers get: as many as a picture in characters can show."""


class Tracker:
    """What the driver has heard so far. Counts are runs, not packs.

    start: monotonic seconds when the first pack began. fronts: of the validation losses of all
    evaluations heard of. past: pack -> what earlier processes recorded. lines: what the engine
    told, like where to look for more. Another thread may ask for the standing at any time.
    """

    def __init__(self, folder: Folder, manifest: Mapping[str, Any], todo: Sequence[int]) -> None:
        self.folder = folder
        self.start = time.monotonic()
        self.work: dict[int, float] = {}
        self.extend(manifest, todo)
        self.before = sum(size for n, size in self.sizes.items() if n not in self.work)
        self.latest: dict[int, News] = {}
        self.lines: list[str] = []
        self.tasks = tuple(manifest.get("tasks", ()))
        self.past = retrace(folder, self.sizes.keys() - self.work.keys(), self.tasks)
        self.fronts = _fronts(self.past, self.arms)
        self._resumed = 0.0
        self._resumed_steps = 0
        self._heard = 0
        self._lock = threading.RLock()

    def extend(self, manifest: Mapping[str, Any], todo: Sequence[int]) -> None:
        """Take in that there are more packs to do."""
        self.sizes = {n: len(runs) for n, runs in enumerate(manifest["packs"])}
        self.arms = [manifest["runs"][runs[0]]["arm"] for runs in manifest["packs"]]
        costs = {arm: info["backward_passes_per_step"] for arm, info in manifest["arms"].items()}
        firsts = {n: manifest["runs"][runs[0]] for n, runs in enumerate(manifest["packs"])}
        self.work |= {n: self.sizes[n] * costs[self.arms[n]] * firsts[n]["epochs"] for n in todo}
        self.rules = {n: run["scheduler"] for n, run in firsts.items() if "scheduler" in run}
        self.later = unplanned(manifest)
        usual = firsts[0]["epochs"]
        lengths = {name: one["epochs"] for name, one in manifest.get("controls", {}).items()}
        self.later_work = sum(
            runs * costs[arm] * lengths.get(arm, usual) for arm, runs in self.later.items()
        )

    def hear(self, news: News) -> None:
        """Take in what one pack told."""
        with self._lock:
            if not self.latest:
                self.start = time.monotonic()
            if news.pack not in self.latest:  # what its checkpoint holds took no time now
                self._resumed += self.work[news.pack] * self._part(news)
                self._resumed_steps += news.steps
            self.latest[news.pack] = news
            self._heard += 1
            points = np.array(news.points, dtype=float)
            self.fronts.add(self.arms[news.pack], points, untrained=news.epoch == 0)

    def say(self, line: str) -> None:
        """Take in what the engine has to tell the user while it works."""
        with self._lock:
            self.lines.append(line)

    @property
    def total(self) -> int:
        """All runs of the sweep, later rounds of adaptive arms counted."""
        return sum(self.sizes.values()) + sum(self.later.values())

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
        return (time.monotonic() - self.start) * (1 - share) / gained if gained > 1e-9 else None

    def standing(self, *, exact: bool = False) -> Standing:
        """How the sweep stands. exact: with the newest hypervolumes, however long they take."""
        with self._lock:
            elapsed = time.monotonic() - self.start if self.latest else 0.0
            done = self.done - self.before
            steps = sum(n.steps for n in self.latest.values()) - self._resumed_steps
            return Standing(
                tasks=self.tasks,
                arms=tuple(self._arms(exact)),
                share=self.share,
                seconds_left=self.seconds_left(),
                runs_per_second=done / elapsed if done and elapsed else None,
                steps_per_second=steps / elapsed if steps > 0 and elapsed else None,
                lines=tuple(self.lines),
            )

    def _arms(self, exact: bool) -> Iterator[ArmStanding]:
        names = dict.fromkeys([*self.arms, *self.later])
        counts = {arm: Counter(expected=self.later.get(arm, 0)) for arm in names}
        for number, size in self.sizes.items():
            counts[self.arms[number]].update(expected=size, **self._states(number))
        volumes = self.fronts.volumes(now=exact)
        for arm, count in counts.items():
            front = tuple((float(x), float(y)) for x, y in self.fronts.shown(arm, SHOWN))
            yield ArmStanding(arm, **count, hypervolume=volumes.get(arm), front=front)

    def _states(self, number: int) -> dict[str, int]:
        """State -> runs of one pack; those that wait are in none."""
        size, news = self.sizes[number], self.latest.get(number)
        if number not in self.work:
            past = self.past.get(number)
            stopped, diverged = (past.stopped, past.diverged) if past else (0, 0)
            return {"done": size - stopped - diverged, "stopped": stopped, "diverged": diverged}
        if news is None or news.storage:
            return {}
        if news.failed:
            return {"failed": size}
        return {
            "done" if news.done else "running": news.runs - news.stopped - news.diverged,
            "stopped": news.stopped,
            "diverged": news.diverged,
        }

    @contextlib.contextmanager
    def saving(self) -> Iterator[None]:
        """Keep the standing in the folder, for `status`, while the block runs."""
        over = threading.Event()

        def save() -> None:
            saved, heard = 0.0, -1
            while not over.wait(SAVE_SECONDS):
                count = self._heard
                if count == heard and time.monotonic() - saved < SAVE_AT_LEAST:
                    continue
                saved, heard = time.monotonic(), count
                self._save()

        thread = threading.Thread(target=save, name="standing", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            self.folder.progress.unlink(missing_ok=True)

    def _part(self, news: News) -> float:
        """Share of a pack's work that is done; what a scheduler spares it is no work."""
        if news.done or news.failed:
            return 1.0
        rule = self.rules.get(news.pack)
        if rule is None:
            return news.epoch / news.epochs
        return work_share(news.epoch, news.epochs, rule["rungs"], rule["keep"])

    def _save(self) -> None:
        with self._lock:
            running = [k for k, n in self.latest.items() if not (n.done or n.failed or n.storage)]
            told = {"running": running, "standing": asdict(self.standing())}
        with contextlib.suppress(StorageError):  # a full disk is told by the pack that meets it
            write_json(self.folder.progress, told)


def _fronts(past: Mapping[int, Past], arms: Sequence[str]) -> Fronts:
    """The fronts that records show, by arm; the first pack gives the untrained losses."""
    fronts = Fronts()
    for number, found in past.items():
        fronts.add(arms[number], found.points[found.untrained], untrained=True)
        fronts.add(arms[number], found.points)
    return fronts


def standing(folder: Folder) -> Standing:
    """How the sweep in a folder stands: as its driver told last, or from its records.

    Raises RequestError if the folder holds no sweep.
    """
    if is_locked(folder):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            return standing_from(json.loads(folder.progress.read_text())["standing"])
    manifest = folder.read_manifest()
    packs: dict[int, Pack] = {n: tuple(runs) for n, runs in enumerate(manifest["packs"])}
    todo = packs.keys() - folder.finished(packs)
    tracker = Tracker(folder, manifest, sorted(todo))
    tracker.latest = {
        number: News(number, len(packs[number]), failed=why)
        for number, why in folder.failed({n: packs[n] for n in todo}).items()
    }
    found = tracker.standing(exact=True)
    return replace(found, share=found.count("done") / max(found.count("expected"), 1))


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
