"""Packs that only sleep and report to the sweep's own Ray engine: the driver's share alone."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from random import random
from typing import Any
from unittest import mock

from mtofront.sweep import engines
from mtofront.sweep.config import Resources
from mtofront.sweep.folder import Folder
from mtofront.sweep.job import News
from mtofront.sweep.work import Work

RUNS = 256
"""Runs that each pack says it has."""


def sleep_through(packs: int, at_once: int, seconds: float, reports: int) -> None:
    """Let so many packs sleep under Ray Tune. What takes a processor is replaced by sleep."""
    with tempfile.TemporaryDirectory() as scratch:
        work = Work(Folder(Path(scratch)), range(packs), Resources(cpus=at_once), Path(scratch))
        # Ray reads its environment when it is imported, which patching does
        os.environ.update(engines.QUIET)
        with mock.patch("mtofront.sweep.ray_engine._trainable", _sleeper(seconds, reports)):
            engines.ray(work, lambda news: None)


def _sleeper(seconds: float, reports: int) -> Callable[[Work], Callable[[dict[str, Any]], None]]:
    def pack(config: dict[str, Any]) -> None:
        from ray import tune

        for k in range(1, reports + 1):
            time.sleep(seconds / reports)
            # like real packs: other losses each time, and none with the news that all is written
            points = tuple((random(), random()) for _ in range(RUNS))
            tune.report({"news": asdict(News(config["pack"], RUNS, k, reports, points=points))})
        done = News(config["pack"], RUNS, reports, reports, done=True)
        tune.report({"news": asdict(done)})

    return lambda work: pack
