"""What a config asks for: every run with its id, arms made comparable, divided into packs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from mtofront.methods import Choice, Count, Treatment, method_named
from mtofront.problems import Problem, ProblemError

from .arms import arm_search
from .config import Config
from .controls import Control, controls_of, expected_specs
from .costs import mean_passes_per_step
from .examine import admit
from .fitting import check_methods
from .halving import epochs_spent
from .middle import weight_notes
from .packsize import PackSize, fitting_pack
from .provide import placed_problem, provide
from .searches import Search
from .settings import Setting, arm_settings
from .spec import RunSpec
from .train import evaluation_epochs
from .weights import Vector


@dataclass(frozen=True)
class Rounds:
    """An adaptive arm's rounds. sizes: weight vectors of each, the first before any is measured.

    packs: of each later round. later: what its runs will be, but for their weights.
    """

    sizes: tuple[int, ...]
    packs: tuple[int, ...]
    later: tuple[RunSpec, ...]


@dataclass(frozen=True)
class Plan:
    """runs: id -> spec, in the order of the config. packs: ids that train together.

    pack_size: how large they may be, and why. rounds: adaptive arm -> what comes later. controls:
    arm of the second phase -> what it is, its runs with weights that stand for others.
    notes: on the problem and the weights, what may be a mistake of the user's.
    """

    config: Config
    tasks: tuple[str, ...]
    runs: Mapping[str, RunSpec]
    packs: tuple[tuple[str, ...], ...]
    steps_per_run: int
    pack_size: PackSize
    rounds: Mapping[str, Rounds]
    controls: Mapping[str, tuple[Control, tuple[RunSpec, ...]]]
    notes: tuple[str, ...] = ()

    @property
    def arms(self) -> tuple[str, ...]:
        """All arms, those of the second phase last."""
        return (*self.config.arms, *self.controls)

    def all_specs(self) -> list[RunSpec]:
        """Every run, also those of later rounds and of controls; their weights stand for others."""
        later = [spec for rounds in self.rounds.values() for spec in rounds.later]
        second = [spec for _, specs in self.controls.values() for spec in specs]
        return [*self.runs.values(), *later, *second]

    def arm_runs(self) -> dict[str, int]:
        """How many runs each arm has, later rounds counted."""
        counts = dict.fromkeys(self.arms, 0)
        for spec in self.all_specs():
            counts[spec.arm] += 1
        return counts

    def arm_packs(self) -> dict[str, int]:
        """How many packs each arm has, later rounds counted."""
        counts = {arm: sum(rounds.packs) for arm, rounds in self.rounds.items()}
        counts = dict.fromkeys(self.arms, 0) | counts
        for pack in self.packs:
            counts[self.runs[pack[0]].arm] += 1
        for name in self.controls:
            counts[name] = len(self.control_packs(name))
        return counts

    def control_packs(self, name: str) -> list[list[RunSpec]]:
        """The packs of a control's runs."""
        runs = {spec.id: spec for spec in self.controls[name][1]}
        return [[runs[i] for i in pack] for pack in packed(runs, self.pack_size.limit)]

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
        passes = dict.fromkeys(self.arms, 0.0)
        shares = self.arm_shares()
        for spec in self.all_specs():
            steps = shares[spec.arm] * self.steps_of(spec)
            passes[spec.arm] += _mean_passes(spec, len(self.tasks)) * steps
        return {arm: round(count) for arm, count in passes.items()}

    def steps_of(self, spec: RunSpec) -> int:
        """Optimiser steps of a whole run."""
        return self.steps_per_run * spec.epochs // self.config.budget.epochs


def plan(config: Config) -> Plan:
    """Every run of a config and the packs they train in; nothing is started.

    Raises RequestError for wrong arms, weights, hyper-parameters an unknown problem, or
    one that cannot be trained.
    """
    problem = provide(config)
    notes = _admitted(config, problem)
    tasks = len(problem.tasks)
    _check_report(config, problem)
    settings = arm_settings(config, tasks)
    trials = {arm: [setting[0] for setting in found] for arm, found in settings.items()}
    notes += weight_notes(config, trials)
    batch = min(config.budget.batch_size, len(problem.train))
    check_methods(config, problem, batch)
    specs = [
        _spec(config, arm, setting, seed)
        for arm in config.arms
        for seed in config.seeds
        for setting in settings[arm]
        if setting[0].later is None
    ]
    runs = {spec.id: spec for spec in specs}
    steps = config.budget.epochs * (len(problem.train) // batch)
    in_all = len(config.seeds) * sum(map(len, settings.values()))
    size = _pack_size(config, problem, specs[0], steps * in_all)
    names = tuple(task.name for task in problem.tasks)
    rounds = {
        arm: _rounds(config, arm, search, settings[arm], size.limit)
        for arm in config.arms
        if (search := arm_search(config, arm, tasks))
    }
    _check_scheduler(config, rounds)
    controls, more = controls_of(config, tasks)
    every = [*specs, *(spec for one in rounds.values() for spec in one.later)]
    second = {
        name: (control, tuple(expected_specs(name, control, _of(every, control.repeats), tasks)))
        for name, control in controls.items()
    }
    packs = packed(runs, size.limit)
    return Plan(config, names, runs, packs, steps, size, rounds, second, (*notes, *more))


def _of(specs: Sequence[RunSpec], arm: str) -> list[RunSpec]:
    return [spec for spec in specs if spec.arm == arm]


def _admitted(config: Config, problem: Problem) -> tuple[str, ...]:
    """Notes on a problem that may be trained; RequestError with the config's line if not."""
    try:
        return admit(problem)
    except ProblemError as error:
        raise config.error(("problem",), str(error)) from error


def _rounds(
    config: Config, arm: str, search: Search, settings: Sequence[Setting], limit: int
) -> Rounds:
    """What is known of later rounds; vectors for which an equal budget has no run are left out."""
    left = len({setting[0].later for setting in settings} - {None})
    sizes, packs, later = [search.sizes[0]], [], []
    for size in search.sizes[1:]:
        count = min(size, left)
        left -= count
        if count:
            tasks = len(search.start[0])
            vectors = [(1.0 + n,) + (1.0,) * (tasks - 1) for n in range(count)]
            specs = round_specs(config, arm, settings, sum(sizes), vectors)
            sizes.append(count)
            packs.append(len(packed({spec.id: spec for spec in specs}, limit)))
            later += specs
    return Rounds(tuple(sizes), tuple(packs), tuple(later))


def round_specs(
    config: Config,
    arm: str,
    settings: Sequence[Setting],
    first: int,
    vectors: Sequence[Vector],
) -> list[RunSpec]:
    """The runs of a later round: its vectors in the places from `first` of the arm's settings."""
    given = {first + n: vector for n, vector in enumerate(vectors)}
    return [
        _spec(config, arm, (replace(trial, weights=given[trial.later]), decay, lr, restart), seed)
        for seed in config.seeds
        for trial, decay, lr, restart in settings
        if trial.later is not None and trial.later in given
    ]


def _pack_size(config: Config, problem: Problem, spec: RunSpec, steps: int) -> PackSize:
    """How many runs a pack may hold, for a sweep of so many steps of single runs."""
    if config.resources.pack != "auto":
        return PackSize(config.resources.pack, "given")
    device = "cuda" if config.resources.gpus_per_pack > 0 and torch.cuda.is_available() else "cpu"
    placed = placed_problem(spec.problem, spec.options_text, device) if device != "cpu" else problem
    return fitting_pack(placed, spec, steps, device)


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


def _spec(config: Config, arm: str, setting: Setting, seed: int) -> RunSpec:
    trial, decay, lr, restart = setting
    optimizer = config.optimizer
    momentum = optimizer.momentum
    if momentum is None:
        momentum = 0.9 if optimizer.name == "momentum" else 0.0
    given = {} if optimizer.beta2 is None else {"beta2": optimizer.beta2}  # older ids lack it
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
            **given,
        },
        epochs=config.budget.epochs,
        batch_size=config.budget.batch_size,
        evaluations=len(evaluation_epochs(config.budget.epochs, config.budget.evaluations)) - 1,
        patience=config.budget.patience,
        precision=config.budget.precision,
        scheduler=_scheduler(config),
    )


def _check_scheduler(config: Config, rounds: Mapping[str, Rounds]) -> None:
    """What an adaptive arm learns from are whole trainings."""
    if config.scheduler and rounds:
        arm = next(iter(rounds))
        raise config.error(
            ("arms", arm, "weights"),
            "a scheduler stops runs early, but an adaptive arm chooses weights by what whole runs "
            f"reached; found both scheduler: {config.scheduler.name} and weights that are searched "
            "for. Leave the scheduler out, or give the arm a grid of weights",
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


def packed(runs: Mapping[str, RunSpec], limit: int) -> tuple[tuple[str, ...], ...]:
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
