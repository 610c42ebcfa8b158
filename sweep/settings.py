"""Each arm's settings for one seed: its grid, filled up to its share of the budget."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .arms import Trial, arm_passes_per_step, arm_trials
from .config import Config

Setting = tuple[Trial, float, float, int]
"""Trial, weight decay, learning rate and restart: what a run is beside its arm and seed."""


def arm_settings(config: Config, tasks: int) -> dict[str, list[Setting]]:
    """Each arm's settings for one seed, filled up to its share of the budget.

    Raises RequestError for wrong weights or hyper-parameters.
    """
    trials = {arm: arm_trials(config, arm, tasks) for arm in config.arms}
    rates = config.optimizer.lr
    decayed = {
        arm: [(trial, decay) for trial in found for decay in config.optimizer.weight_decay]
        for arm, found in trials.items()
    }
    given = {arm: len(rates) * len(found) for arm, found in decayed.items()}
    if config.tuning.runs_per_arm == "as_given":
        return {arm: _filled(found, rates, given[arm]) for arm, found in decayed.items()}
    cost = dict.fromkeys(trials, 1.0)
    if config.tuning.runs_per_arm == "equal_backward_passes":
        cost = {arm: arm_passes_per_step(config, arm, tasks) for arm in trials}
    budget = max(given[arm] * cost[arm] for arm in trials)
    return {arm: _filled(found, rates, int(budget / cost[arm])) for arm, found in decayed.items()}


def _filled(
    trials: Sequence[tuple[Trial, float]], rates: Sequence[float], runs: int
) -> list[Setting]:
    """`runs` settings over the trials and decays: finer learning rates, or restarts if only one.

    Every trial gets the same number, the first ones one more if it does not divide. Finer means
    evenly spaced in log between smallest and largest rate; given rates stay if they suffice.
    """
    settings: list[Setting] = []
    for position, trial in enumerate(trials):
        share = runs // len(trials) + (position < runs % len(trials))
        if len(rates) == 1:
            settings += [(*trial, rates[0], restart) for restart in range(share)]
        elif share == len(rates):
            settings += [(*trial, rate, 0) for rate in rates]
        else:
            spaced = np.geomspace(min(rates), max(rates), share)
            settings += [(*trial, float(f"{rate:.6g}"), 0) for rate in spaced]
    return settings
