"""Optimisers over stacked parameters: each run its own learning rate, nothing shared."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
"""Adam's constants, torch.optim's defaults (Kingma & Ba 2015)."""


@dataclass
class OptimizerState:
    """Moments of every parameter, filled at the first step, and the number of steps taken."""

    steps: int = 0
    first: dict[str, Tensor] = field(default_factory=dict)
    second: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Settings:
    """name: a key of OPTIMIZERS. lr: (N,) learning rates; the rest is the same for all runs.

    clip: the length beyond which a run's whole gradient is shortened to it, or None.
    """

    name: str
    lr: Tensor
    weight_decay: float
    momentum: float
    clip: float | None = None


Update = Callable[[OptimizerState, Settings, str, Tensor, Tensor], None]


def apply(
    state: OptimizerState,
    settings: Settings,
    params: Mapping[str, Tensor],
    grads: Mapping[str, Tensor],
    as_is: Collection[str] = (),
) -> None:
    """Take one step in place: params[k] (N, ...) along grads[k] (N, ...), as torch.optim does.

    as_is: parameters whose gradient is a step already: it is only multiplied by the learning rate.
    """
    state.steps += 1
    update = OPTIMIZERS[settings.name]
    with torch.no_grad():
        factor = _shortening(settings.clip, [g for key, g in grads.items() if key not in as_is])
        for key, grad in grads.items():
            if key in as_is:
                params[key].sub_(_per_run(settings.lr, params[key]) * grad)
                continue
            clipped = grad if factor is None else grad * _per_run(factor, grad)
            update(state, settings, key, params[key], clipped)


def _shortening(clip: float | None, grads: Sequence[Tensor]) -> Tensor | None:
    """The factor (N,) that brings each run's gradient to length `clip`; 1 if it is shorter."""
    if clip is None or not grads:
        return None
    squares = [grad.double().square().flatten(1).sum(1) for grad in grads]
    length = torch.stack(squares, dim=1).sum(1).sqrt()
    return torch.where(length > clip, clip / length, 1.0)


def _per_run(values: Tensor, like: Tensor) -> Tensor:
    return values.to(like.dtype).view(-1, *([1] * (like.ndim - 1)))


def _sgd(state: OptimizerState, settings: Settings, key: str, param: Tensor, grad: Tensor) -> None:
    if settings.weight_decay:
        grad = grad + settings.weight_decay * param
    if settings.momentum:
        if key in state.first:
            grad = state.first[key].mul_(settings.momentum).add_(grad)
        else:
            grad = state.first[key] = grad.clone()
    param.sub_(_per_run(settings.lr, param) * grad)


def _adam(state: OptimizerState, settings: Settings, key: str, param: Tensor, grad: Tensor) -> None:
    if settings.weight_decay:
        grad = grad + settings.weight_decay * param
    _adam_step(state, settings, key, param, grad)


def _adamw(
    state: OptimizerState, settings: Settings, key: str, param: Tensor, grad: Tensor
) -> None:
    if settings.weight_decay:
        param.mul_(1 - settings.weight_decay * _per_run(settings.lr, param))
    _adam_step(state, settings, key, param, grad)


def _adam_step(
    state: OptimizerState, settings: Settings, key: str, param: Tensor, grad: Tensor
) -> None:
    first = state.first.setdefault(key, torch.zeros_like(param))
    second = state.second.setdefault(key, torch.zeros_like(param))
    first.lerp_(grad, 1 - BETA1)
    second.mul_(BETA2).addcmul_(grad, grad, value=1 - BETA2)
    corrected = math.sqrt(1 - BETA2**state.steps)
    scale = _per_run(settings.lr / (1 - BETA1**state.steps), param)
    param.sub_(scale * first / second.sqrt().div_(corrected).add_(EPSILON))


OPTIMIZERS: dict[str, Update] = {"adam": _adam, "adamw": _adamw, "momentum": _sgd, "sgd": _sgd}
"""Registry: the name a config gives -> one parameter's update."""


def schedule(name: str, progress: float) -> float:
    """The factor on the learning rate when a share `progress` in [0, 1) of the steps is done."""
    if name == "cosine":
        return 0.5 * (1 + math.cos(math.pi * progress))
    if name == "linear":
        return 1 - progress
    return 1.0


SCHEDULES = ("constant", "cosine", "linear")
