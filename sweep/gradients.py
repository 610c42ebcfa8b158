"""From one minibatch to one gradient a parameter, by the cheapest route a method allows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from mtofront.methods import (
    Method,
    Signals,
    State,
    Treatment,
    Values,
    evidence_of,
    from_losses,
    gramian_of,
    mean_of,
    treated,
    updated,
)
from mtofront.problems import Split

from .network import Network, Outputs, Sharing, Tensors


@dataclass(frozen=True)
class Rule:
    """A pack's method as its runs use it. weights: (N, T) on the losses before it, or None."""

    method: Method
    treatment: Treatment
    values: Values
    weights: Tensor | None


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

    losses: as measured, before weights and logarithms.
    """

    gradients: Tensors
    losses: Tensor
    state: State


@dataclass(frozen=True)
class Sample:
    """One forward pass. losses: T tensors (N,), as treated; raw: (N, T) detached.

    features, probe: the representation and what its gradients are taken in, or None.
    """

    losses: Outputs
    raw: Tensor
    features: Tensor | None = None
    probe: Tensor | None = None


def step_gradients(
    net: Network, rule: Rule, params: Tensors, buffers: Tensors, state: State, batch: Minibatch
) -> Stepped:
    """The gradients for every trained parameter, as the method combines the tasks."""
    if from_losses(rule.method):
        sample = _forward(net, rule, params, buffers, batch, batch.split)
        return _weighted(net.sharing, rule, params, state, batch, sample)
    splits = _halves(batch.split) if rule.method.independent else (batch.split,)
    samples = [_forward(net, rule, params, buffers, batch, split) for split in splits]
    return _combined(net.sharing, rule, params, state, batch, samples)


def treated_losses(rule: Rule, losses: Outputs) -> tuple[Outputs, Tensor]:
    """The losses that the method trains, T tensors (N,), and the measured ones, (N, T) float64."""
    measured = _columns(losses)
    if rule.weights is None and rule.treatment.losses == "raw":
        return losses, measured
    # each by itself: through a stack of them, a task's backward pass would visit all heads
    trained = (
        treated(loss.unsqueeze(1), rule.treatment, _column(rule.weights, task)).squeeze(1)
        for task, loss in enumerate(losses)
    )
    return tuple(trained), measured


def _forward(
    net: Network, rule: Rule, params: Tensors, buffers: Tensors, batch: Minibatch, split: Split
) -> Sample:
    if rule.treatment.level == "features":
        losses, features, probe = net.losses_at_features(params, buffers, split, batch.seeds)
        return Sample(*treated_losses(rule, losses), features, probe)
    return Sample(*treated_losses(rule, net.losses(params, buffers, split, batch.seeds)))


def _weighted(
    sharing: Sharing, rule: Rule, params: Tensors, state: State, batch: Minibatch, sample: Sample
) -> Stepped:
    """One backward pass of Σ w_i L_i, summed over the runs, which do not depend on each other."""
    stacked = torch.stack(sample.losses, dim=1)
    gramian = None
    if rule.method.layer == "last":
        nobody: list[tuple[str, ...]] = [() for _ in sample.losses]
        last = [params[name] for name in sharing.last]
        gramian = gramian_of(_rows(last, nobody, params, sample.losses, keep=True).jacobian)
    signals = Signals(stacked.detach().double(), batch.noise, gramian, epoch=batch.epoch)
    weights, state = rule.method.step(signals, state, rule.values)
    total = (weights.to(stacked.dtype) * stacked).sum()
    names = sharing.trained
    grads = torch.autograd.grad(total, [params[name] for name in names])
    return Stepped(dict(zip(names, grads, strict=True)), sample.raw, state)


def _combined(
    sharing: Sharing,
    rule: Rule,
    params: Tensors,
    state: State,
    batch: Minibatch,
    samples: Sequence[Sample],
) -> Stepped:
    """One backward pass a task; the shared parameters get the method's combination."""
    shared = [params[name] for name in sharing.shared]
    at_features = samples[0].probe is not None
    # a Gramian is the same whatever the order of coordinates; halves must have one order
    turn = rule.method.needs == "gramian" and len(samples) == 1 and not at_features
    places = [[sample.probe] if sample.probe is not None else shared for sample in samples]
    found = [
        _rows(place, sharing.heads, params, sample.losses, at_features, turn)
        for place, sample in zip(places, samples, strict=True)
    ]
    evidence = evidence_of(
        [_columns(sample.losses) for sample in samples],
        [rows.jacobian for rows in found],
        batch.noise,
        [value[0].numel() for value in places[0]],
        batch.epoch,
    )
    update = updated(rule.method, rule.treatment, rule.values, state, evidence)
    parts = torch.split(update.direction, list(evidence.sizes), dim=1)
    if samples[0].features is not None:
        towards = parts[0].reshape(samples[0].features.shape)
        grads = torch.autograd.grad(samples[0].features, shared, towards)
    else:
        grads = tuple(
            part.view(value.mT.shape).mT if turned else part.view_as(value)
            for part, value, turned in zip(parts, shared, found[0].turned, strict=True)
        )
    heads = {
        name: scaled(mean_of([rows.heads[name] for rows in found]), update.heads, task)
        for task, names in enumerate(sharing.heads)
        for name in names
    }
    raw = mean_of([sample.raw for sample in samples])
    return Stepped(dict(zip(sharing.shared, grads, strict=True)) | heads, raw, update.state)


@dataclass(frozen=True)
class _Rows:
    """The tasks' gradients: jacobian (N, T, P) of the places, heads of each head's parameters.

    turned: of which places, matrices, the transposes are in the Jacobian.
    """

    jacobian: Tensor
    turned: list[bool]
    heads: Tensors


def _rows(
    places: Sequence[Tensor],
    heads: Sequence[Sequence[str]],
    params: Tensors,
    losses: Outputs,
    keep: bool,
    turn: bool = False,
) -> _Rows:
    """The tasks' gradients, one backward pass each.

    keep: whether the graph is needed again after the last loss. turn: whether matrices may be
    transposed, so that those which autograd makes column by column are copied as they lie.
    """
    ends = [0, *accumulate(place[0].numel() for place in places)]
    jacobian = losses[0].new_empty(len(losses[0]), len(losses), ends[-1])
    turned = [False] * len(places)
    own: Tensors = {}
    for task, loss in enumerate(losses):
        grads = torch.autograd.grad(
            loss.sum(),
            [*places, *(params[name] for name in heads[task])],
            retain_graph=keep or task < len(losses) - 1,
            allow_unused=True,
            materialize_grads=True,
        )
        if turn and task == 0:
            turned = [grad.ndim == 3 and grad.stride(1) < grad.stride(2) for grad in grads]
        for k, (start, end) in enumerate(pairwise(ends)):
            grad = grads[k].mT if turned[k] else grads[k]
            jacobian[:, task, start:end].view(grad.shape).copy_(grad)
        own.update(zip(heads[task], grads[len(places) :], strict=True))
    return _Rows(jacobian, turned[: len(places)], own)


def _halves(split: Split) -> tuple[Split, Split]:
    """The first and the second half of every run's minibatch; an odd last row is left out."""
    middle = split.inputs.shape[1] // 2
    first, second = (
        Split(
            split.inputs[:, start : start + middle],
            tuple(target[:, start : start + middle] for target in split.targets),
        )
        for start in (0, middle)
    )
    return first, second


def _column(weights: Tensor | None, task: int) -> Tensor | None:
    return None if weights is None else weights[:, task : task + 1]


def _columns(losses: Outputs) -> Tensor:
    return torch.stack([loss.detach() for loss in losses], dim=1).double()


def scaled(gradient: Tensor, factors: Tensor | None, task: int) -> Tensor:
    """A head's gradient (N, ...) times its task's factor, one a run: (N, T), or None for ones."""
    if factors is None:
        return gradient
    own = factors[:, task].to(gradient.dtype)
    return gradient * own.view(-1, *([1] * (gradient.ndim - 1)))
