"""Controls: arms of a second phase that repeat runs with one thing changed, to say why an arm wins.

Each asks whether plain scalarization does as well once it is given one thing that the arm had:

mean_weights: for each finished run of the arm, linear scalarization at the weights that the run
    used, averaged over its steps (Gama and Grassi 2025, arXiv:2505.10347, who take them from the
    trained model): same seed, learning rate, decay and restart. A task's weight in a step is the
    factor on the gradient of its loss in the update of the shared parameters; where the method
    answers with a direction, that of the nearest combination of the gradients. If this does as
    well, the arm found good weights, and what it did from step to step was not needed. Weights are
    not rescaled: their size is part of the arm's step. A mean below 0 counts as 0.
update_norm: the same runs at the same weights, each update as long as the one that the arm's
    method makes of the same gradients (`matched_norm`). Where mean_weights falls short and this
    does not, the gain lay in the lengths of the steps; where both do, in their directions.
longer: every run of the baseline with as many backward passes as a run of the arm costs: its
    epochs times that ratio. Arms that cost the same share one.

A run that diverged, or that left no weights, is not repeated. There are as many runs as in the arm
that is repeated, so the tuning is the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mtofront.methods import MATCHED_NORM, from_losses, method_named, why_no_matched_norm

from .arms import arm_method, arm_passes_per_step, arm_treatment, as_linear
from .config import Config
from .spec import RunSpec
from .train import evaluation_epochs
from .weights import Vector


@dataclass(frozen=True)
class Control:
    """An arm of the second phase. of: the arms that it explains. repeats: the arm whose runs it is.

    epochs: of each of its runs.
    """

    kind: str
    of: tuple[str, ...]
    repeats: str
    epochs: int


def controls_of(config: Config, tasks: int) -> tuple[dict[str, Control], tuple[str, ...]]:
    """Name -> control, in the order of the config; and notes on arms that have none.

    Raises RequestError for unknown arms, for arms that are named but can have no such control, for
    a control that no arm can have, and where there can be none at all.
    """
    _check_controls(config)
    found: dict[str, Control] = {}
    notes = []
    for kind, given in config.controls.items():
        named = given or tuple(arm for arm in config.arms if arm != config.report.baseline)
        reasons = {arm: _why_not(config, kind, arm, tasks) for arm in named}
        refused = [f"{arm}: {reason}" for arm, reason in reasons.items() if reason]
        able = tuple(arm for arm in named if not reasons[arm])
        if refused and (given or not able):
            raise config.error(("controls", kind), f"no such control for {'; '.join(refused)}")
        notes += [f"no control {kind} for {line}" for line in refused]
        for name, control in _named(config, kind, able, tasks):
            if name in config.arms:
                raise config.error(
                    ("arms", name), f"this name is that of a control ({kind}); choose another"
                )
            found[name] = control
    return found, tuple(notes)


def control_specs(
    name: str, control: Control, repeated: Sequence[RunSpec], weights: Mapping[str, Vector]
) -> list[RunSpec]:
    """The runs of a control. weights: run -> its mean weights; unused by `longer`.

    repeated: the runs that it repeats; those without weights are left out.
    """
    if control.kind == "longer":
        return [_longer(name, control, spec) for spec in repeated]
    known = [(spec, weights[spec.id]) for spec in repeated if spec.id in weights]
    make = _at_mean_weights if control.kind == "mean_weights" else _as_long
    return [replace(make(spec, vector), arm=name) for spec, vector in known]


def expected_specs(
    name: str, control: Control, repeated: Sequence[RunSpec], tasks: int
) -> list[RunSpec]:
    """The runs of a control before weights are known; these stand for others."""
    weights = {s.id: (1.0 + n,) + (1.0,) * (tasks - 1) for n, s in enumerate(repeated)}
    return control_specs(name, control, repeated, weights)


def _at_mean_weights(spec: RunSpec, weights: Vector) -> RunSpec:
    return as_linear(spec, weights)


def _as_long(spec: RunSpec, weights: Vector) -> RunSpec:
    """The run with its method's lengths along fixed weights; heads as its method has them."""
    heads = {"heads": "weighted"} if from_losses(method_named(spec.method)) else {}
    treatment = {**spec.treatment, **heads}
    return replace(spec, method=MATCHED_NORM + spec.method, weights=weights, treatment=treatment)


def _longer(name: str, control: Control, spec: RunSpec) -> RunSpec:
    evaluations = len(evaluation_epochs(control.epochs, spec.evaluations)) - 1
    return replace(spec, arm=name, epochs=control.epochs, evaluations=evaluations)


def _named(
    config: Config, kind: str, arms: tuple[str, ...], tasks: int
) -> list[tuple[str, Control]]:
    epochs, baseline = config.budget.epochs, config.report.baseline
    if kind != "longer":
        return [(f"{arm}.{kind}", Control(kind, (arm,), arm, epochs)) for arm in arms]
    lengths: dict[int, list[str]] = {}
    for arm in arms:
        lengths.setdefault(round(epochs * _ratio(config, arm, tasks)), []).append(arm)
    return [
        (f"{baseline}.{length}_epochs", Control(kind, tuple(own), baseline, length))
        for length, own in lengths.items()
    ]


def _ratio(config: Config, arm: str, tasks: int) -> float:
    """Backward passes of a run of the arm over those of one of the baseline."""
    own, base = (arm_passes_per_step(config, a, tasks) for a in (arm, config.report.baseline))
    return own / base


def _check_controls(config: Config) -> None:
    if not config.controls:
        return
    if config.scheduler:
        raise config.error(
            ("controls",),
            "a control repeats whole trainings, but a scheduler stops runs early; found both "
            f"controls and scheduler: {config.scheduler.name}. Leave one of them out",
        )
    for kind, arms in config.controls.items():
        for arm in arms or ():
            if arm not in config.arms or arm == config.report.baseline:
                others = ", ".join(a for a in config.arms if a != config.report.baseline)
                raise config.error(
                    ("controls", kind),
                    f"a control is of an arm other than the baseline; found {arm!r}; "
                    f"allowed: {others or 'none, there is no other arm'}",
                )


def _why_not(config: Config, kind: str, arm: str, tasks: int) -> str:
    """Why an arm can have no control of a kind, or ""."""
    method, treatment = arm_method(config, arm), arm_treatment(config, arm)
    if kind == "longer":
        if config.tuning.runs_per_arm == "equal_backward_passes":
            return "tuning.runs_per_arm: equal_backward_passes spends its passes on fewer runs"
        if round(config.budget.epochs * _ratio(config, arm, tasks)) <= config.budget.epochs:
            return f"a run costs no more backward passes than one of {config.report.baseline}"
        return ""
    if method.scheme:
        return f"{method.name} trains several networks, each by its own rule, at no weights"
    if method.answers == "step":
        return f"{method.name} is an optimiser of its own and uses no weights"
    if method.name == "linear":
        return "its weights are fixed: it is scalarization itself"
    if kind == "update_norm":
        if "weights" in config.arms[arm]:
            return "it has `weights` before its method, which would stand in for the mean weights"
        if treatment.losses == "log":
            return "`losses: log` changes the gradients that its weights are factors on"
        return why_no_matched_norm(method)
    return ""
