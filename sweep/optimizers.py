"""Optimisers over a pack's rows: each run its own learning rate and decay, nothing shared."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .storage import Storage, empty_like, in_rows

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
"""Adam's constants, torch.optim's defaults (Kingma & Ba 2015)."""


@dataclass(frozen=True)
class Settings:
    """name: a key of OPTIMIZERS. rates, decays: one number a run, the rates before their schedule.

    momentum: the same for all. clip: the length beyond which a run's whole gradient is shortened to
    it, or None. beta2: Adam's memory of squared gradients.
    """

    name: str
    rates: tuple[float, ...]
    decays: tuple[float, ...]
    momentum: float = 0.0
    clip: float | None = None
    beta2: float = BETA2


@dataclass
class OptimizerState:
    """Gradient, moments, (N, P) like the storage's rows, and the number of steps taken."""

    settings: Settings
    gradient: Tensor
    first: Tensor
    second: Tensor
    steps: int = 0
    groups: list[_Group] = field(default_factory=list)
    columns: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class _Group:
    """Runs with one learning rate and one decay: their rows, one tensor a run."""

    rate: float
    decay: float
    params: list[Tensor]
    gradients: list[Tensor]
    first: list[Tensor]
    second: list[Tensor]


def start_optimizer(settings: Settings, storage: Storage) -> OptimizerState:
    """The state before the first step; SGD without momentum keeps no moments."""
    nothing = storage.rows[:, :0]
    adam, momentum = settings.name in ("adam", "adamw"), settings.momentum > 0
    return OptimizerState(
        settings,
        empty_like(storage),
        empty_like(storage) if adam or momentum else nothing,
        empty_like(storage) if adam else nothing,
    )


def kept_optimizer(
    state: OptimizerState, settings: Settings, storage: Storage, rows: Tensor
) -> OptimizerState:
    """The state of some of the runs (K,), whose settings and storage these are."""
    return OptimizerState(
        settings,
        empty_like(storage),
        state.first.index_select(0, rows),
        state.second.index_select(0, rows),
        state.steps,
    )


def apply(
    state: OptimizerState,
    storage: Storage,
    gradients: Mapping[str, Tensor],
    factor: float,
    as_is: Sequence[str] = (),
) -> None:
    """Take one step in place along gradients (N, ...) by parameter, as torch.optim does.

    factor: what the schedule makes of the learning rates. as_is: parameters, the first of the
    storage, whose gradient is a step already: it is only multiplied by the learning rate.
    """
    state.steps += 1
    with torch.no_grad():
        rows = in_rows(storage, gradients, state.gradient)
        start = max((storage.places[name].stop for name in as_is), default=0)
        _shorten(rows[:, start:], state.settings.clip)
        OPTIMIZERS[state.settings.name](state, storage.rows, factor, start)
        if start:
            step = _column(state, "rates") * factor * rows[:, :start]
            storage.rows[:, :start] -= step


def _shorten(rows: Tensor, clip: float | None) -> None:
    """Bring each run's gradient to length `clip` where it is longer."""
    if clip is not None:
        length = rows.double().square().sum(1, keepdim=True).sqrt()
        rows *= torch.where(length > clip, clip / length, 1.0).to(rows.dtype)


def _column(state: OptimizerState, name: str) -> Tensor:
    """One number a run as (N, 1), copied to the device once: a copy waits for what it does."""
    if name not in state.columns:
        numbers, like = getattr(state.settings, name), state.gradient
        column = torch.tensor(numbers, dtype=like.dtype, device=like.device)
        state.columns[name] = column.unsqueeze(1)
    return state.columns[name]


def _sgd(state: OptimizerState, params: Tensor, factor: float, start: int) -> None:
    params, gradient = params[:, start:], state.gradient[:, start:]
    settings = state.settings
    if any(settings.decays):
        gradient = torch.addcmul(gradient, _column(state, "decays"), params)
    if settings.momentum:
        first = state.first[:, start:]
        gradient = first.mul_(settings.momentum).add_(gradient)
    params.addcmul_(_column(state, "rates") * -factor, gradient)


def _adam(state: OptimizerState, params: Tensor, factor: float, start: int) -> None:
    _fused(torch._fused_adam_, state, params, factor, start)


def _adamw(state: OptimizerState, params: Tensor, factor: float, start: int) -> None:
    _fused(torch._fused_adamw_, state, params, factor, start)


def _fused(
    kernel: Callable[..., None], state: OptimizerState, params: Tensor, factor: float, start: int
) -> None:
    """Adam in one kernel for all runs of one learning rate and decay.

    A row is a tensor of its own, so that where a kernel's vectors end depends on no other run.
    """
    if not state.groups:
        state.groups = _groups(state, params[:, start:], start)
    step = params.new_full((), float(state.steps), dtype=torch.float32)
    for group in state.groups:
        kernel(
            group.params,
            group.gradients,
            group.first,
            group.second,
            [],
            [step] * len(group.params),
            lr=group.rate * factor,
            beta1=BETA1,
            beta2=state.settings.beta2,
            weight_decay=group.decay,
            eps=EPSILON,
            amsgrad=False,
            maximize=False,
        )


def _groups(state: OptimizerState, params: Tensor, start: int) -> list[_Group]:
    settings = state.settings
    pairs = list(zip(settings.rates, settings.decays, strict=True))
    tables = [
        part.unbind(0)
        for part in (
            params,
            state.gradient[:, start:],
            state.first[:, start:],
            state.second[:, start:],
        )
    ]
    return [
        _Group(*pair, *([rows[n] for n, own in enumerate(pairs) if own == pair] for rows in tables))
        for pair in dict.fromkeys(pairs)
    ]


Update = Callable[[OptimizerState, Tensor, float, int], None]
OPTIMIZERS: dict[str, Update] = {"adam": _adam, "adamw": _adamw, "momentum": _sgd, "sgd": _sgd}
"""Registry: the name a config gives -> the update of all rows."""


@dataclass(frozen=True)
class Schedule:
    """How the learning rate changes over a run.

    warmup: the share of the steps in which it rises evenly from 0. every, factor: for "step", after
    which share of the steps it is multiplied by what, again and again.
    """

    name: str = "constant"
    warmup: float = 0.0
    every: float = 1 / 3
    factor: float = 0.1

    def at(self, done: float, one_step: float) -> float:
        """The factor on the learning rate in the step that starts when a share `done` is done.

        one_step: the share of one step. The first step of a warm-up already moves.
        """
        rise = 1.0 if self.warmup <= 0 else min(1.0, (done + one_step) / self.warmup)
        if self.name == "cosine":
            return rise * 0.5 * (1 + math.cos(math.pi * done))
        if self.name == "linear":
            return rise * (1 - done)
        if self.name == "step":
            # 1e-9: a share like 1/3 must count as done when it is done but for rounding
            return rise * float(self.factor ** math.floor(done / self.every + 1e-9))
        return rise


SCHEDULES = ("constant", "cosine", "linear", "step")
