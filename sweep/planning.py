"""What a config asks for: every run with its id, arms made comparable, divided into packs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mtofront.methods import Choice, Count, Treatment, method_named
from mtofront.problems import Problem

from .arms import Trial, arm_method, arm_passes_per_step, arm_trials
from .config import Config
from .costs import mean_passes_per_step
from .halving import epochs_spent
from .packsize import PackSize, fitting_pack
from .provide import placed_problem, provide
from .spec import RunSpec
from .train import evaluation_epochs


@dataclass(frozen=True)
class Plan:
    """runs: id -> spec, in the order of the config. packs: ids that train together.

    pack_size: how large they may be, and why.
    """

    config: Config
    tasks: tuple[str, ...]
    runs: Mapping[str, RunSpec]
    packs: tuple[tuple[str, ...], ...]
    steps_per_run: int
    pack_size: PackSize

    def arm_runs(self) -> dict[str, int]:
        """How many runs each arm has."""
        counts = dict.fromkeys(self.config.arms, 0)
        for spec in self.runs.values():
            counts[spec.arm] += 1
        return counts

    def arm_shares(self) -> dict[str, float]:
        """Share of all epochs of its runs that each arm is expected to train: 1 if none stops."""
        runs = self.arm_runs()
        one = next(iter(self.runs.values()))
        if one.scheduler is None:
            return dict.fromkeys(runs, 1.0)
        rule, seeds = one.scheduler, len(self.config.seeds)
        return {
            arm: epochs_spent(count // seeds, one.epochs, one.rungs, rule["keep"])
            / (count // seeds * one.epochs)
            for arm, count in runs.items()
        }

    def arm_passes(self) -> dict[str, int]:
        """Backward passes of each arm's runs together, through the shared parameters."""
        passes = dict.fromkeys(self.config.arms, 0.0)
        shares = self.arm_shares()
        for spec in self.runs.values():
            steps = shares[spec.arm] * self.steps_per_run
            passes[spec.arm] += _mean_passes(spec, len(self.tasks)) * steps
        return {arm: round(count) for arm, count in passes.items()}


def plan(config: Config) -> Plan:
    """Every run of a config and the packs they train in; nothing is started.

    Raises RequestError for wrong arms, weights, hyper-parameters or an unknown problem.
    """
    problem = provide(config)
    tasks = len(problem.tasks)
    _check_report(config, problem)
    trials = {arm: arm_trials(config, arm, tasks) for arm in config.arms}
    batch = min(config.budget.batch_size, len(problem.train))
    _check_halves(config, batch)
    settings = _settings(config, trials, tasks)
    specs = [
        _spec(config, arm, setting, seed)
        for arm in config.arms
        for seed in config.seeds
        for setting in settings[arm]
    ]
    runs = {spec.id: spec for spec in specs}
    steps = config.budget.epochs * (len(problem.train) // batch)
    size = _pack_size(config, problem, specs[0], steps * len(runs))
    names = tuple(task.name for task in problem.tasks)
    return Plan(config, names, runs, _packs(runs, size.limit), steps, size)


def _pack_size(config: Config, problem: Problem, spec: RunSpec, steps: int) -> PackSize:
    """How many runs a pack may hold, for a sweep of so many steps of single runs."""
    if config.resources.pack != "auto":
        return PackSize(config.resources.pack, "given")
    device = "cuda" if config.resources.gpus_per_pack > 0 and torch.cuda.is_available() else "cpu"
    placed = placed_problem(spec.problem, spec.options_text, device) if device != "cpu" else problem
    return fitting_pack(placed, spec, steps, device)


def _check_halves(config: Config, batch: int) -> None:
    """A method that compares the halves of a minibatch needs a row in each."""
    for arm in config.arms:
        method = arm_method(config, arm)
        if method.independent and batch < 2:
            raise config.error(
                ("arms", arm),
                f"{method.name} compares the two halves of every minibatch, so a minibatch needs "
                f"at least 2 rows; found {batch}. Raise budget.batch_size, or leave the arm out",
            )


def _check_report(config: Config, problem: Problem) -> None:
    """The baseline must be an arm, and the objective a measure that every task has."""
    baseline, objective = config.report.baseline, config.report.objective
    if baseline not in config.arms:
        named = "baseline" in config.report.model_fields_set
        raise config.error(
            ("report", "baseline") if named else ("arms",),
            f"the arm that the others are compared with, {baseline!r}, must be one of the arms; "
            f"found {', '.join(config.arms)}",
        )
    measures = set.intersection(*({"loss", *task.metrics} for task in problem.tasks))
    if objective not in measures:
        raise config.error(
            ("report", "objective"),
            f"every task must have the measure that is compared; found {objective!r}; allowed: "
            f"{', '.join(sorted(measures))}",
        )


Setting = tuple[Trial, float, float, int]
"""Trial, weight decay, learning rate and restart: what a run is beside its arm and seed."""


def _settings(
    config: Config, trials: Mapping[str, Sequence[Trial]], tasks: int
) -> dict[str, list[Setting]]:
    """Each arm's settings for one seed, filled up to its share of the budget."""
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


def _spec(config: Config, arm: str, setting: Setting, seed: int) -> RunSpec:
    trial, decay, lr, restart = setting
    optimizer = config.optimizer
    momentum = optimizer.momentum
    if momentum is None:
        momentum = 0.9 if optimizer.name == "momentum" else 0.0
    return RunSpec(
        arm=arm,
        method=trial.method,
        problem=config.problem,
        options=config.problem_options,
        seed=seed,
        restart=restart,
        lr=lr,
        weights=trial.weights,
        hyper=trial.hyper,
        treatment=trial.treatment,
        optimizer={
            "name": optimizer.name,
            "weight_decay": decay,
            "momentum": momentum,
            "schedule": optimizer.schedule.model_dump(),
            "clip": optimizer.clip,
        },
        epochs=config.budget.epochs,
        batch_size=config.budget.batch_size,
        evaluations=len(evaluation_epochs(config.budget.epochs, config.budget.evaluations)) - 1,
        patience=config.budget.patience,
        precision=config.budget.precision,
        scheduler=_scheduler(config),
    )


def _scheduler(config: Config) -> dict[str, Any] | None:
    """A run's scheduler, rungs in epochs. Raises RequestError for a rung without an evaluation."""
    rule, budget = config.scheduler, config.budget
    if rule is None:
        return None
    measured = sorted(evaluation_epochs(budget.epochs, budget.evaluations) - {0, budget.epochs})
    rungs = [round(share * budget.epochs) for share in rule.rungs]
    if not set(rungs) <= set(measured) or len(set(rungs)) < len(rungs):
        at = ", ".join(f"{epoch / budget.epochs:.3g}" for epoch in measured) or "none of them"
        raise config.error(
            ("scheduler", "rungs") if "rungs" in rule.model_fields_set else ("scheduler",),
            f"every rung must fall on an evaluation of its own before the last; found the shares "
            f"{', '.join(f'{share:g}' for share in rule.rungs)}, after epochs "
            f"{', '.join(map(str, rungs))} of {budget.epochs}; allowed with budget.evaluations = "
            f"{budget.evaluations}: {at}",
        )
    return {"name": rule.name, "rungs": rungs, "keep": rule.keep}


def _mean_passes(spec: RunSpec, tasks: int) -> float:
    """Backward passes of a run divided by its steps."""
    method, treatment = method_named(spec.method), Treatment(**spec.treatment)
    return mean_passes_per_step(method, treatment, spec.hyper, tasks, spec.epochs)


def _packs(runs: Mapping[str, RunSpec], limit: int) -> tuple[tuple[str, ...], ...]:
    """Runs that one computation can train: same arm, choices and counts; evenly sized."""
    groups: dict[tuple[object, ...], list[str]] = {}
    for identity, spec in runs.items():
        groups.setdefault(_pack_key(spec), []).append(identity)
    packs: list[tuple[str, ...]] = []
    for members in groups.values():
        count = math.ceil(len(members) / limit)
        packs += [tuple(part) for part in np.array_split(np.array(members), count)]
    return tuple(tuple(str(identity) for identity in pack) for pack in packs)


def _pack_key(spec: RunSpec) -> tuple[object, ...]:
    hyper = method_named(spec.method).hyper
    choices = sorted((k, v) for k, v in spec.hyper.items() if isinstance(hyper[k], Choice | Count))
    return (spec.arm, *choices)
