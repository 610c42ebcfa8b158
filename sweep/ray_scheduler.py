"""A Tune scheduler that has packs wait at rungs until their arm is compared."""

from __future__ import annotations

from typing import Any

from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from .job import News
from .rungs import Rungs

MOST_PENDING = 16
"""Trials that are asked to go on at once; each asks Ray for its resources."""


class PackScheduler(FIFOScheduler):  # type: ignore[misc]
    """Pauses a trial whose pack waits, and resumes it when the rung is decided; else first come.

    What it knows lies in the sweep's folder, so nothing is kept for Tune's own restore.
    """

    def __init__(self, rungs: Rungs) -> None:
        super().__init__()
        self._rungs = rungs
        self._paused: dict[int, Trial] = {}
        self._resumed: list[Trial] = []

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles schedulers for its own restore, which `resume` does without."""
        return {}

    def on_trial_result(
        self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]
    ) -> str:
        """Pause a pack that waits, if its rung is not decided by now."""
        begin = len("news/")  # Tune flattens what is reported
        news = News(**{k[begin:]: v for k, v in result.items() if k.startswith("news/")})
        self._rungs.hear(news)
        if not news.waits or self._rungs.may_go_on(news.pack):
            return str(TrialScheduler.CONTINUE)
        self._paused[news.pack] = trial
        # PAUSE would ask for a checkpoint of Tune's; the pack has its own, as populations do
        tune_controller.pause_trial(trial, should_checkpoint=False)
        return str(TrialScheduler.NOOP)

    def choose_trial_to_run(self, tune_controller: TuneController) -> Trial | None:
        """One whose rung is decided; Tune starts those that are new by itself."""
        self._resumed = [trial for trial in self._resumed if trial.status == Trial.PENDING]
        if len(self._resumed) < MOST_PENDING:
            for pack in [n for n in self._paused if self._rungs.may_go_on(n)]:
                trial = self._paused.pop(pack)
                if trial.status == Trial.PAUSED:
                    self._resumed.append(trial)
                    return trial
        return None
