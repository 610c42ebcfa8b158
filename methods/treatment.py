"""How a method is applied to a network, apart from its own hyper-parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from .hyper import HyperError, nearest
from .method import UNSOLVED, Method

SMALLEST_LOSS = 1e-8
"""A loss below it counts as this much where its logarithm is taken."""

TREATMENTS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "losses": {
            "raw": "the method trains the losses",
            "log": "it trains their logarithms, so that no task's scale matters",
        },
        "level": {
            "parameters": "gradients of the shared parameters: T backward passes through them",
            "features": "gradients of the shared representation: one pass, an approximation",
        },
        "granularity": {
            "whole": "one answer for all shared parameters together",
            "tensor": "one for every parameter tensor, from its own gradients",
        },
        "heads": {
            "own": "each task's own parameters follow its own gradient, weight 1",
            "weighted": "that gradient times the task's weight",
            "scaled": "that gradient times the weight, weights rescaled to sum to T",
        },
        "norm": {
            "own": "the shared update is as long as the method makes it",
            "scalarization": "it is as long as the mean gradient of the tasks",
        },
    }
)
"""Option -> setting -> what it does; the first setting is the default."""


@dataclass(frozen=True)
class Treatment:
    """A choice of settings; `TREATMENTS` says what each does."""

    losses: str = "raw"
    level: str = "parameters"
    granularity: str = "whole"
    heads: str = "own"
    norm: str = "own"

    def as_dict(self) -> dict[str, str]:
        """The settings that are not the defaults, for a run's spec."""
        defaults = asdict(Treatment())
        return {key: value for key, value in asdict(self).items() if value != defaults[key]}


def treatment_of(method: Method, given: Mapping[str, object]) -> Treatment:
    """The treatment with these settings, checked against what the method can take.

    Raises HyperError for an unknown option or setting and for one that has no meaning here.
    """
    for name, found in given.items():
        if name not in TREATMENTS:
            raise HyperError(name, f"unknown option {name!r}{nearest(name, TREATMENTS)}")
        if not isinstance(found, str) or found not in TREATMENTS[name]:
            allowed = ", ".join(TREATMENTS[name])
            raise HyperError(name, f"`{name}` must be one of {allowed}; found {found!r}")
    treatment = Treatment(**{name: str(found) for name, found in given.items()})
    for name in treatment.as_dict():
        reason = _why_not(method, treatment, name)
        if reason:
            raise HyperError(
                name, f"`{name}: {getattr(treatment, name)}` is not for {method.name}: {reason}"
            )
    return treatment


def one_pass(method: Method, treatment: Treatment) -> bool:
    """Whether a step costs one backward pass through the shared parameters, not one a task."""
    return from_losses(method) or treatment.level == "features"


def from_losses(method: Method) -> bool:
    """Whether one backward pass of the weighted losses serves all parameters.

    Gradients of the last shared layer alone do not count as a pass: they stop behind the heads.
    """
    return method.needs == "losses" or method.layer == "last"


def treated(losses: Tensor, treatment: Treatment, weights: Tensor | None) -> Tensor:
    """The losses (..., T) that the method trains: weighted, then their logarithms if so treated.

    weights: (..., T), or None for ones. A negative loss has no logarithm: it gives NaN.
    """
    if weights is not None:
        losses = losses * weights.to(losses.dtype)
    if treatment.losses == "raw":
        return losses
    logs = losses.clamp_min(SMALLEST_LOSS).log()
    return torch.where(losses < 0, torch.nan, logs)


def _why_not(method: Method, treatment: Treatment, name: str) -> str:
    """Why a setting other than the default has no meaning for a method, or ""."""
    if method.scheme:
        return "it trains several networks, each by its own rule"
    if name == "losses":
        return ""
    if from_losses(method):
        return "it weights the losses themselves, in one backward pass for all parameters"
    if name == "granularity" and treatment.level == "features":
        return "a representation is one tensor; leave out `level: features`"
    if name == "level" and method.independent:
        return "halves of a minibatch have no common representation"
    if name == "level" and method.needs == "jacobian" and _remembers(method):
        return "it remembers gradients, and those of a representation change with the minibatch"
    if name in ("heads", "norm") and method.answers == "step":
        return "it is an optimiser of its own"
    if name == "heads" and method.answers != "weights":
        return "it answers with a direction, not with weights"
    if name == "heads" and treatment.granularity == "tensor":
        return "with `granularity: tensor` a task has one weight a tensor, none of its own"
    return ""


def _remembers(method: Method) -> bool:
    """Whether a method that needs the Jacobian keeps more than a count."""
    return bool(method.init(torch.zeros(2, 2)).keys() - {UNSOLVED})
