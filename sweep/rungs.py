"""The driver's side of a scheduler: which packs wait at a rung, and when it is decided."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .checkpoint import Checkpoints
from .decisions import DecisionError, decide, losses_at, read_decision, write_decision
from .folder import Folder
from .job import News
from .layout import rung_name
from .mirror import bring_records
from .spec import RunSpec, spec_from_dict


class Rungs:
    """Hears what packs tell, and decides on an arm's runs once all its packs wait, or have ended.

    todo: the packs that have no records yet. What is decided lies in the folder; what was decided
    before stays as it is.
    """

    def __init__(self, folder: Folder, manifest: Mapping[str, Any], todo: Sequence[int]) -> None:
        self._folder, self._manifest = folder, manifest
        self._arms = dict(enumerate(_arms(manifest)))
        self._all: dict[str, set[int]] = {}
        for number, arm in self._arms.items():
            self._all.setdefault(arm, set()).add(number)
        self._open = {arm: numbers & set(todo) for arm, numbers in self._all.items()}
        self._waiting: dict[int, News] = {}
        self._ready: set[int] = set()
        self._decided: set[tuple[str, int]] = set()

    def hear(self, news: News) -> None:
        """Take in what one pack told, and decide if it was the last. Raises StorageError."""
        arm = self._arms[news.pack]
        self._waiting.pop(news.pack, None)
        self._ready.discard(news.pack)
        if news.waits:
            self._waiting[news.pack] = news
            if self._is_decided(arm, news.epoch):
                self._ready.add(news.pack)
        elif news.done or news.failed:
            self._open[arm].discard(news.pack)
        else:
            return
        if self._open[arm] and self._open[arm] <= self._waiting.keys():
            self._decide(arm)

    def may_go_on(self, pack: int) -> bool:
        """Whether the rung at which a pack waits is decided."""
        return pack in self._ready

    def _decide(self, arm: str) -> None:
        """At the lowest rung at which a pack waits: those at higher ones have passed it."""
        epoch = min(self._waiting[number].epoch for number in self._open[arm])
        standing = [n for n in sorted(self._open[arm]) if self._waiting[n].epoch == epoch]
        if not self._is_decided(arm, epoch):
            specs: list[RunSpec] = []
            losses: dict[str, Sequence[float]] = {}
            for number in self._all[arm] - self._open[arm]:
                losses |= self._recorded(number, epoch)
                specs += self._specs(number)
            for number in standing:
                own = self._specs(number)
                pairs = zip(own, self._waiting[number].points, strict=True)
                losses |= {s.id: point for s, point in pairs if all(map(math.isfinite, point))}
                specs += own
            write_decision(self._folder, decide(arm, epoch, specs, losses))
            self._decided.add((arm, epoch))
        self._ready.update(standing)

    def _is_decided(self, arm: str, epoch: int) -> bool:
        if (arm, epoch) not in self._decided:
            with contextlib.suppress(DecisionError):
                if read_decision(self._folder.root, arm, epoch):
                    self._decided.add((arm, epoch))
        return (arm, epoch) in self._decided

    def _recorded(self, number: int, epoch: int) -> dict[str, list[float]]:
        """What a pack that has ended had at the rung: for a decision that is taken once more."""
        if self._folder.storage:
            bring_records(self._folder, number, tuple(self._manifest["packs"][number]))
        path = self._folder.records(number)
        return losses_at(path, epoch, len(self._manifest["tasks"])) if path.exists() else {}

    def _specs(self, number: int) -> list[RunSpec]:
        runs = self._manifest["runs"]
        return [spec_from_dict(runs[identity]) for identity in self._manifest["packs"][number]]


def heal(folder: Folder, manifest: Mapping[str, Any], todo: Sequence[int]) -> list[str]:
    """Have damaged decisions taken again: the packs of such an arm that have no records start anew.

    Each of the others still says in its records what it had at the rung. Returns one line a
    decision for the user. For whoever holds the folder's lock.
    """
    told = []
    arms = list(_arms(manifest))
    for arm in dict.fromkeys(arms):
        number = arms.index(arm)
        rungs = spec_from_dict(manifest["runs"][manifest["packs"][number][0]]).rungs
        damaged = [rung for rung in rungs if not _is_whole(folder, arm, rung)]
        for rung in rungs:
            if damaged and rung >= damaged[0]:
                for place in folder.places:
                    (place / rung_name(arm, rung)).unlink(missing_ok=True)
        for n in todo:
            if damaged and arms[n] == arm:
                Checkpoints(folder.checkpoint(n), 0.0).clear()
        told += [f"{folder.rung(arm, r)} was damaged; it was decided again" for r in damaged]
    return told


def _is_whole(folder: Folder, arm: str, rung: int) -> bool:
    try:
        read_decision(folder.root, arm, rung)
    except DecisionError:
        return False
    return True


def _arms(manifest: Mapping[str, Any]) -> Iterator[str]:
    """Each pack's arm."""
    return (manifest["runs"][runs[0]]["arm"] for runs in manifest["packs"])
