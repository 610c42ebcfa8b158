"""TensorBoard, MLflow and Weights & Biases through Tune's own callbacks, beside the sweep."""

from __future__ import annotations

import logging
import os
import queue
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial

from .errors import RequestError
from .job import News
from .logged import Log

FLUSH_SECONDS = 600.0
"""How long the end of a sweep waits for what is still to be logged."""


class TrialSeen:
    """A Tune trial as a tracker is to see it: with what its pack is, instead of a number."""

    def __init__(self, trial: Trial, about: dict[str, Any]) -> None:
        self._trial = trial
        self.config = self.evaluated_params = about

    def __getattr__(self, name: str) -> Any:
        return getattr(self._trial, name)

    def __str__(self) -> str:
        return f"{self.config['arm']}-pack-{self.config['pack']:05d}"


class Aside(Callback):  # type: ignore[misc]
    """Passes a sweep's news to one of Tune's logger callbacks, in a thread of its own.

    The driver never waits for a tracker, and a tracker that fails is told nothing more, which
    the user reads in one line; the sweep goes on.
    """

    def __init__(self, name: str, logger: Any, log: Log, say: Callable[[str], None]) -> None:
        self.name, self.logger, self.log, self.say = name, logger, log, say
        self.seen: dict[str, TrialSeen] = {}
        self.failed: set[str] = set()
        self.todo: queue.Queue[Callable[[], None] | None] = queue.Queue()
        self.thread = threading.Thread(target=self._work, name=f"log-{name}", daemon=True)
        self.thread.start()

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles callbacks for its own restore, which `resume` does without."""
        return {}

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """A pack begins, or begins again after its worker died."""
        if trial.trial_id not in self.seen:
            self.seen[trial.trial_id] = TrialSeen(trial, self.log.about(trial.config["pack"]))
        seen = self.seen[trial.trial_id]
        trial.init_local_path()  # some trackers write there, and not all of them make it
        self.todo.put(lambda: self.logger.log_trial_start(seen))

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """An evaluation of a pack."""
        if "news" not in result:  # Tune's own closing row
            return
        news, seen = News(**result["news"]), self.seen[trial.trial_id]
        if news.failed or news.storage:
            self.failed.add(trial.trial_id)
            return

        def tell() -> None:
            numbers = {**self.log.numbers(news), "training_iteration": news.epoch}
            self.logger.log_trial_result(news.epoch, seen, numbers)

        self.todo.put(tell)

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """A pack is over, for better or worse."""
        self._end(trial, trial.trial_id in self.failed)

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """A worker died; Tune calls this for every attempt, the last one is final."""
        if trial.num_failures > trial.max_failures:
            self._end(trial, True)

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        """Wait until everything is logged."""
        self.todo.put(lambda: self.logger.on_experiment_end(trials))
        self.close()

    def close(self) -> None:
        """End the thread, once it has logged what there is."""
        self.todo.put(None)
        self.thread.join(FLUSH_SECONDS)

    def _end(self, trial: Trial, failed: bool) -> None:
        seen = self.seen.pop(trial.trial_id, None)
        if seen:
            self.todo.put(lambda: self.logger.log_trial_end(seen, failed=failed))

    def _work(self) -> None:
        works = True
        while task := self.todo.get():
            if not works:
                continue
            try:
                task()
            except Exception as error:  # of whatever kind a tracker raises
                works = False
                line = str(error).strip().splitlines()[:1] or [type(error).__name__]
                self.say(f"{self.name}: logging failed and ends here: {line[0]}")


def loggers(log: Log, root: Path, say: Callable[[str], None]) -> list[Callback]:
    """A callback for each tracker. Says where to look.

    Raises RequestError if one cannot be set up, like W&B without a key or a server that is away.
    """
    made = []
    for name in log.names:
        try:
            logger, place = MAKERS[name](log, root)
            logger.setup()
        except Exception as error:
            line = str(error).strip().splitlines()[:1] or [type(error).__name__]
            raise RequestError(
                f"logging: {name} cannot be set up: {line[0]}. Mend it, or go on without: "
                "mtofront run CONFIG --set 'logging=[]'"
            ) from error
        say(f"{name}: {place}")
        made.append((name, logger))
    return [Aside(name, logger, log, say) for name, logger in made]


def _tensorboard(log: Log, root: Path) -> tuple[Any, str]:
    from ray.tune.logger import TBXLoggerCallback

    return TBXLoggerCallback(), f"tensorboard --logdir {root / 'tune'}"


def _mlflow(log: Log, root: Path) -> tuple[Any, str]:
    from mlflow.entities import Metric
    from mlflow.tracking import MlflowClient
    from mlflow.utils.time import get_current_time_millis
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    class Batched(MLflowLoggerCallback):  # type: ignore[misc]
        """Tune's own, with one request an evaluation instead of one a number."""

        def log_trial_result(self, iteration: int, trial: Any, result: dict[str, float]) -> None:
            now = get_current_time_millis()
            numbers = [Metric(name, value, now, iteration) for name, value in result.items()]
            MlflowClient(place).log_batch(self._trial_runs[trial], metrics=numbers)

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"mlflow\..*", category=FutureWarning)
    place = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{root.resolve()}/mlflow.db"
    tracker = Batched(tracking_uri=place, experiment_name=log.experiment)
    return tracker, f"mlflow ui --backend-store-uri {place}"


def _wandb(log: Log, root: Path) -> tuple[Any, str]:
    from ray.air.integrations.wandb import WandbLoggerCallback

    project = os.environ.get("WANDB_PROJECT") or log.experiment
    tracker = WandbLoggerCallback(project=project, group=root.name, dir=str(root.resolve()))
    place = f"project {project}"
    if os.environ.get("WANDB_MODE") == "offline":
        place = f"offline; wandb sync {root / 'wandb' / 'offline-run-*'}"
    return tracker, place


MAKERS: dict[str, Callable[[Log, Path], tuple[Any, str]]] = {
    "tensorboard": _tensorboard,
    "mlflow": _mlflow,
    "wandb": _wandb,
}
"""Name in a config -> Tune's callback, and where its user looks."""
