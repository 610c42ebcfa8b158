"""One step of a method under its treatment: from the tasks' gradients to one update."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .arithmetic import dot, positive, times
from .gramian import gramian_of, products
from .method import UNSOLVED, Method, Signals, State, Values
from .treatment import Treatment


@dataclass(frozen=True)
class Evidence:
    """What a step knows. Leading dimensions `...` are a batch of independent runs.

    losses: (..., T) float64, as treated. noise: (..., K), see `noise_width`.
    jacobian: (..., T, P) the tasks' gradients, of the shared parameters one after the other or of
        the shared representation.
    halves: the same on two independent halves of the minibatch, for methods that want them.
    sizes: how many of the P coordinates belong to each tensor.
    epoch: how many passes over the training data were finished before the step.
    """

    losses: Tensor
    noise: Tensor
    jacobian: Tensor
    sizes: tuple[int, ...]
    halves: tuple[Tensor, Tensor] | None = None
    epoch: int = 0


@dataclass(frozen=True)
class Update:
    """direction: (..., P) for the shared parameters, in the Jacobian's dtype.

    weights: (..., T) float64 on the tasks' gradients in it, None where the method answers
    otherwise.
    heads: (..., T) factors on the gradients of the tasks' own parameters; None where they are 1.
    state: the method's next one.
    """

    direction: Tensor
    weights: Tensor | None
    heads: Tensor | None
    state: State


def evidence_of(
    losses: Sequence[Tensor],
    jacobians: Sequence[Tensor],
    noise: Tensor,
    sizes: Sequence[int],
    epoch: int,
) -> Evidence:
    """What one minibatch tells, or two independent halves of one, each with losses and Jacobian."""
    return Evidence(
        losses=mean_of(losses),
        noise=noise,
        jacobian=mean_of(jacobians),
        sizes=tuple(sizes),
        halves=(jacobians[0], jacobians[1]) if len(jacobians) == 2 else None,
        epoch=epoch,
    )


def mean_of(values: Sequence[Tensor]) -> Tensor:
    """The mean over two equal halves, or the only value as it is."""
    return values[0] if len(values) == 1 else (values[0] + values[1]) / 2


def first_state(
    method: Method, treatment: Treatment, losses: Tensor, sizes: Sequence[int]
) -> State:
    """The state before the first step.

    losses: zeros (..., T) float64. sizes: as in `Evidence`.
    """
    if method.needs != "jacobian":
        if treatment.granularity == "tensor":
            losses = losses.unsqueeze(-2).expand(*losses.shape[:-1], len(sizes), losses.shape[-1])
        return method.init(losses.contiguous())
    parts = sizes if treatment.granularity == "tensor" else [sum(sizes)]
    # one zero in memory, whatever its size: most methods keep nothing like it
    zero = losses.new_zeros(())
    return _joined([method.init(zero.expand(*losses.shape, size)) for size in parts])


def noise_width(method: Method, treatment: Treatment, tasks: int, tensors: int) -> int:
    """How many uniform random numbers a step uses: each tensor's own if it is treated apart."""
    return method.noise(tasks) * (tensors if treatment.granularity == "tensor" else 1)


def unsolved_steps(state: State, batch: Sequence[int]) -> Tensor | None:
    """Steps in which a solver missed its tolerance, (*batch,), or None for a method without one."""
    found = [value for name, value in state.items() if name.rpartition("/")[2] == UNSOLVED]
    if not found:
        return None
    return torch.cat([value.reshape(*batch, -1) for value in found], dim=-1).sum(-1)


def updated(
    method: Method, treatment: Treatment, values: Values, state: State, evidence: Evidence
) -> Update:
    """The update that a method makes of the tasks' gradients under a treatment."""
    if treatment.granularity == "whole":
        direction, weights, state = _whole(method, values, state, evidence)
    elif method.needs == "jacobian":
        direction, weights, state = _tensor_by_tensor(method, values, state, evidence)
    else:
        direction, weights, state = _all_tensors_at_once(method, values, state, evidence)
    if treatment.norm == "scalarization":
        longer = _length(evidence.jacobian.mean(-2)) / positive(_length(direction))
        direction = direction * longer.to(direction.dtype)
        heads = _head_factors(treatment, weights)
        return Update(direction, None if weights is None else weights * longer, heads, state)
    return Update(direction, weights, _head_factors(treatment, weights), state)


@dataclass(frozen=True)
class Weighed:
    """weights: (..., T) float64 on the tasks' losses, for the shared parameters' gradients.

    heads, state: as in `Update`.
    """

    weights: Tensor
    heads: Tensor | None
    state: State


def weighed(
    method: Method, treatment: Treatment, values: Values, state: State, signals: Signals
) -> Weighed:
    """What a method makes of the Gramian alone: `updated` for who has no Jacobian to combine.

    The method answers with weights, and all parameters are treated as a whole.
    """
    assert signals.gramian is not None
    weights, state = method.step(signals, state, values)
    shared = weights
    if treatment.norm == "scalarization":
        gramian = signals.gramian
        mean = gramian.sum((-1, -2)).clamp_min(0).sqrt() / weights.shape[-1]
        own = dot(weights, times(gramian, weights)).clamp_min(0).sqrt()
        shared = weights * mean.unsqueeze(-1) / positive(own)
    return Weighed(shared, _head_factors(treatment, weights), state)


Made = tuple[Tensor, Tensor | None, State]
"""Direction, weights and next state."""


def _whole(method: Method, values: Values, state: State, evidence: Evidence) -> Made:
    jacobian = evidence.jacobian
    halves = evidence.halves
    answer, state = method.step(
        Signals(
            losses=evidence.losses,
            noise=evidence.noise,
            gramian=gramian_of(jacobian),
            jacobian=jacobian if method.needs == "jacobian" else None,
            independent=products(*(halves or (jacobian, jacobian))) if method.independent else None,
            epoch=evidence.epoch,
        ),
        state,
        values,
    )
    if method.answers != "weights":
        return answer.to(jacobian.dtype), None, state
    return _weighted(answer, jacobian), answer, state


def _all_tensors_at_once(method: Method, values: Values, state: State, evidence: Evidence) -> Made:
    """A Gramian method on every tensor: one more batch dimension."""
    blocks = torch.split(evidence.jacobian, list(evidence.sizes), dim=-1)
    halves = evidence.halves or (evidence.jacobian, evidence.jacobian)
    pairs = zip(*(torch.split(half, list(evidence.sizes), dim=-1) for half in halves), strict=True)
    losses = evidence.losses.unsqueeze(-2)
    answer, state = method.step(
        Signals(
            losses=losses.expand(*losses.shape[:-2], len(blocks), losses.shape[-1]),
            noise=_own_noise(evidence, len(blocks)),
            gramian=torch.stack([gramian_of(block) for block in blocks], dim=-3),
            independent=torch.stack([products(*pair) for pair in pairs], dim=-3)
            if method.independent
            else None,
            epoch=evidence.epoch,
        ),
        state,
        _for_every_tensor(values, losses),
    )
    rows = [_weighted(answer[..., k, :], block) for k, block in enumerate(blocks)]
    return torch.cat(rows, dim=-1), None, state


def _for_every_tensor(values: Values, losses: Tensor) -> Values:
    """The values with one more batch dimension, of size 1, for the tensors: the same for all."""
    batch = losses.ndim - 2
    return {
        name: value.unsqueeze(batch) if isinstance(value, Tensor) else value
        for name, value in values.items()
    }


def _own_noise(evidence: Evidence, tensors: int) -> Tensor:
    """Every tensor's own random numbers, (..., tensors, K)."""
    return evidence.noise.reshape(*evidence.noise.shape[:-1], tensors, -1)


def _tensor_by_tensor(method: Method, values: Values, state: State, evidence: Evidence) -> Made:
    """A Jacobian method on one tensor after the other: their sizes differ."""
    blocks = torch.split(evidence.jacobian, list(evidence.sizes), dim=-1)
    noise = _own_noise(evidence, len(blocks))
    halves = [torch.split(half, list(evidence.sizes), dim=-1) for half in evidence.halves or ()]
    directions, states = [], []
    for k, block in enumerate(blocks):
        own = {name[len(f"{k}/") :]: v for name, v in state.items() if name.startswith(f"{k}/")}
        pair = (halves[0][k], halves[1][k]) if halves else None
        part = Evidence(evidence.losses, noise[..., k, :], block, (), pair, evidence.epoch)
        direction, _, after = _whole(method, values, own, part)
        directions.append(direction)
        states.append(after)
    return torch.cat(directions, dim=-1), None, _joined(states, prefixed=True)


def _joined(states: Sequence[State], prefixed: bool = False) -> State:
    """One state from the tensors' states; their names then start with the tensor's number."""
    if len(states) == 1 and not prefixed:
        return states[0]
    return {f"{k}/{name}": value for k, state in enumerate(states) for name, value in state.items()}


def _head_factors(treatment: Treatment, weights: Tensor | None) -> Tensor | None:
    if treatment.heads == "own" or weights is None:
        return None
    if treatment.heads == "weighted":
        return weights
    return weights * weights.shape[-1] / positive(weights.sum(-1, keepdim=True))


def _weighted(weights: Tensor, jacobian: Tensor) -> Tensor:
    """Σ w_i g_i, (..., P)."""
    return (weights.to(jacobian.dtype).unsqueeze(-2) @ jacobian).squeeze(-2)


def _length(direction: Tensor) -> Tensor:
    """Euclidean lengths (..., 1), float64."""
    wide = direction.double()
    return (wide * wide).sum(-1, keepdim=True).sqrt()
