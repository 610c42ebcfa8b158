"""From one minibatch to one gradient a parameter, by the cheapest route a method allows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mtofront.methods import Signals, State, evidence_of, from_losses, span_weights, updated
from mtofront.problems import Split

from .network import Network, Tensors
from .sharing import Sharing
from .stages import Answered, Rule, Tell, Told, tell


@dataclass(frozen=True)
class Minibatch:
    """One step's data: rows of each run's own, random numbers for its method, epochs finished.

    seeds: (N,) int64 for layers that draw random numbers; zeros where the network has none.
    """

    split: Split
    noise: Tensor
    epoch: int
    seeds: Tensor


@dataclass(frozen=True)
class Stepped:
    """What a step makes: gradients (N, ...) by parameter, losses (N, T) float64, the next state.

    losses: as measured, before weights and logarithms. weights: (N, T) float64, what the method
    weighed the tasks' gradients by; where it answered with a direction, those of the combination
    nearest to it (`span_weights`) if the rule follows them, else None.
    """

    gradients: Tensors
    losses: Tensor
    state: State
    weights: Tensor | None = None


def step_gradients(
    net: Network,
    rule: Rule,
    params: Tensors,
    buffers: Tensors,
    state: State,
    batch: Minibatch,
    tell: Tell = tell,
) -> Stepped:
    """The gradients for every trained parameter, as the method combines the tasks.

    tell: computes what the network has to compute, in one way or another.
    """
    told, answered = tell(net, rule, params, buffers, batch.split, batch.seeds)
    if not from_losses(rule.method):
        return _combined(net.sharing, rule, params, state, batch, told, answered)
    assert answered is not None
    signals = Signals(told.losses[0], batch.noise, told.gramian, epoch=batch.epoch)
    weights, state = rule.method.step(signals, state, rule.values)
    grads = answered(weights)
    gradients = dict(zip(net.sharing.trained, grads, strict=True))
    return Stepped(gradients, told.raw, state, weights)


def _combined(
    sharing: Sharing,
    rule: Rule,
    params: Tensors,
    state: State,
    batch: Minibatch,
    told: Told,
    answered: Answered | None,
) -> Stepped:
    """The shared parameters get the method's combination, the heads what it makes of theirs."""
    shared = [params[name] for name in sharing.shared]
    shape = told.representation
    sizes = [value[0].numel() for value in shared] if shape is None else [shape[1:].numel()]
    evidence = evidence_of(told.losses, told.jacobians, batch.noise, sizes, batch.epoch)
    update = updated(rule.method, rule.treatment, rule.values, state, evidence)
    if shape is not None:
        assert answered is not None
        grads = answered(update.direction.view(shape))
    else:
        parts = torch.split(update.direction, list(evidence.sizes), dim=1)
        grads = tuple(part.view_as(value) for part, value in zip(parts, shared, strict=True))
    owners = [(task, name) for task, head in enumerate(sharing.heads) for name in head]
    heads = {
        name: scaled(gradient, update.heads, task)
        for (task, name), gradient in zip(owners, told.heads, strict=True)
    }
    gradients = dict(zip(sharing.shared, grads, strict=True)) | heads
    weights = update.weights
    if weights is None and rule.follow and rule.method.answers != "step":
        weights = span_weights(update.direction, evidence.jacobian)
    return Stepped(gradients, told.raw, update.state, weights)


def scaled(gradient: Tensor, factors: Tensor | None, task: int) -> Tensor:
    """A head's gradient (N, ...) times its task's factor, one a run: (N, T), or None for ones."""
    if factors is None:
        return gradient
    own = factors[:, task].to(gradient.dtype)
    return gradient * own.view(-1, *([1] * (gradient.ndim - 1)))
