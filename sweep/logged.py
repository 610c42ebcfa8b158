"""What experiment trackers are told of a pack, and whether the ones a config names can be had."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .config import Config
from .job import News
from .tracker import Tracker

PACKAGES = {"tensorboard": "tensorboardX", "mlflow": "mlflow", "wandb": "wandb"}
"""Name in a config -> the package that writes for it, also the name of the extra in setup.cfg."""


@dataclass(frozen=True)
class Log:
    """names: the trackers to tell. experiment: what they call the sweep.

    about: pack -> what is the same for its whole training. numbers: news -> name -> number.
    """

    names: tuple[str, ...]
    experiment: str
    about: Callable[[int], dict[str, Any]]
    numbers: Callable[[News], dict[str, float]]


def check_logging(config: Config) -> None:
    """Raise RequestError if a tracker that the config names cannot be told."""
    if config.logging and config.resources.engine != "ray":
        raise config.error(
            ("logging",),
            "trackers are told through Ray Tune, so this needs resources.engine: ray; found "
            f"{config.resources.engine}. Leave it out with: --set 'logging=[]'",
        )
    for place, name in enumerate(config.logging):
        if importlib.util.find_spec(PACKAGES[name]) is None:
            raise config.error(
                ("logging", place),
                f"{name} needs the package {PACKAGES[name]}, which is not installed here; install "
                f"it with: pip install 'mtofront[{name}]' (or: pip install {PACKAGES[name]})",
            )


def log_of(config: Config, manifest: Mapping[str, Any], tracker: Tracker) -> Log | None:
    """What trackers are to be told of a sweep, or None if the config names none."""
    if not config.logging:
        return None

    def about(pack: int) -> dict[str, Any]:
        runs = [manifest["runs"][run] for run in manifest["packs"][pack]]
        rates = [run["lr"] for run in runs]
        return {
            "pack": pack,
            "arm": tracker.arms[pack],
            "method": runs[0]["method"],
            "problem": runs[0]["problem"],
            "runs": len(runs),
            "lr_low": min(rates),
            "lr_high": max(rates),
        }

    def numbers(news: News) -> dict[str, float]:
        return numbers_of(news, tracker)

    return Log(config.logging, config.name, about, numbers)


def numbers_of(news: News, tracker: Tracker) -> dict[str, float]:
    """An evaluation of a pack as numbers with names.

    `val/TASK/best` and `/mean` are over the runs that have not diverged; `hypervolume` is of their
    losses at this evaluation, below the sweep's untrained losses.
    """
    numbers: dict[str, float] = {
        "epoch": news.epoch,
        "runs": news.runs,
        "diverged": news.diverged,
        "steps": news.steps,
        "training_seconds": news.training,
    }
    points = np.array(news.points, dtype=float)
    points = points[np.isfinite(points).all(axis=1)] if points.size else points
    if not len(points):
        return numbers
    for task, losses in zip(tracker.tasks, points.T, strict=True):
        name = re.sub(r"[^\w.: -]", "_", task)  # what MLflow allows in a name
        numbers[f"val/{name}/best"] = float(losses.min())
        numbers[f"val/{name}/mean"] = float(losses.mean())
    volume = tracker.fronts.volume(points)
    return numbers if volume is None else {**numbers, "hypervolume": volume}
