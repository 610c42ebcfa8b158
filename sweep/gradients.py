"""From one minibatch to one gradient a parameter, by the cheapest route a method allows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from mtofront.methods import (
    Evidence,
    Method,
    Signals,
    State,
    Treatment,
    Values,
    from_losses,
    gramian_of,
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
    stacked = torch.stack(losses, dim=1)
    trained = treated(stacked, rule.treatment, rule.weights).unbind(dim=1)
    return trained, stacked.detach().double()


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
        rows, _ = _rows([params[n] for n in sharing.last], nobody, params, sample.losses, keep=True)
        gramian = gramian_of(rows)
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
    places = [[sample.probe] if sample.probe is not None else shared for sample in samples]
    found = [
        _rows(place, sharing.heads, params, sample.losses, keep=sample.probe is not None)
        for place, sample in zip(places, samples, strict=True)
    ]
    jacobian = _mean([rows for rows, _ in found])
    evidence = Evidence(
        losses=_mean([_columns(sample.losses) for sample in samples]),
        noise=batch.noise,
        jacobian=jacobian,
        sizes=tuple(value[0].numel() for value in places[0]),
        halves=(found[0][0], found[1][0]) if len(found) == 2 else None,
        epoch=batch.epoch,
    )
    update = updated(rule.method, rule.treatment, rule.values, state, evidence)
    parts = torch.split(update.direction, list(evidence.sizes), dim=1)
    if samples[0].features is not None:
        towards = parts[0].reshape(samples[0].features.shape)
        grads = torch.autograd.grad(samples[0].features, shared, towards)
    else:
        grads = tuple(part.view_as(value) for part, value in zip(parts, shared, strict=True))
    heads = {
        name: _scaled(_mean([own[name] for _, own in found]), update.heads[:, task])
        for task, names in enumerate(sharing.heads)
        for name in names
    }
    raw = _mean([sample.raw for sample in samples])
    return Stepped(dict(zip(sharing.shared, grads, strict=True)) | heads, raw, update.state)


def _rows(
    places: Sequence[Tensor],
    heads: Sequence[Sequence[str]],
    params: Tensors,
    losses: Outputs,
    keep: bool,
) -> tuple[Tensor, Tensors]:
    """The tasks' gradients in the places, (N, T, P), and each head's own gradient.

    keep: whether the graph is needed again after the last loss.
    """
    ends = [0, *accumulate(place[0].numel() for place in places)]
    jacobian = losses[0].new_empty(len(losses[0]), len(losses), ends[-1])
    own: Tensors = {}
    for task, loss in enumerate(losses):
        grads = torch.autograd.grad(
            loss.sum(),
            [*places, *(params[name] for name in heads[task])],
            retain_graph=keep or task < len(losses) - 1,
            allow_unused=True,
            materialize_grads=True,
        )
        for (start, end), grad in zip(pairwise(ends), grads[: len(places)], strict=True):
            jacobian[:, task, start:end] = grad.reshape(len(loss), -1)
        own.update(zip(heads[task], grads[len(places) :], strict=True))
    return jacobian, own


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


def _columns(losses: Outputs) -> Tensor:
    return torch.stack([loss.detach() for loss in losses], dim=1).double()


def _mean(values: Sequence[Tensor]) -> Tensor:
    """The mean over equal halves, or the only value as it is."""
    return values[0] if len(values) == 1 else (values[0] + values[1]) / 2


def _scaled(gradient: Tensor, factors: Tensor) -> Tensor:
    """A head's gradient (N, ...) times one factor a run."""
    return gradient * factors.to(gradient.dtype).view(-1, *([1] * (gradient.ndim - 1)))
