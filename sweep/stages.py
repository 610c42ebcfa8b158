"""What a network computes in a step: what its tasks tell, and what an answer to it makes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from mtofront.methods import Method, Treatment, Values, from_losses, gramian_of, mean_of, treated
from mtofront.problems import Split

from .network import Network, Outputs, Tensors
from .sharing import Sharing


@dataclass(frozen=True)
class Rule:
    """A pack's method as its runs use it. weights: (N, T) on the losses before it, or None.

    follow: whether weights are to be known even where the method answers with a direction.
    """

    method: Method
    treatment: Treatment
    values: Values
    weights: Tensor | None
    follow: bool = False


@dataclass(frozen=True)
class Told:
    """What the tasks tell before the method answers.

    raw: (N, T) float64, the losses as measured. losses: (N, T) float64 a sample, as the method is
    to see them. jacobians: (N, T, P) a sample, none for a method that sees losses only. heads: the
    gradients of the heads' parameters, head after head. gramian: (N, T, T) of the last shared
    layer, where the method asks for it. representation: the shape (N, B, ...) of what the Jacobians
    are taken in, None where that is the shared parameters.
    """

    raw: Tensor
    losses: tuple[Tensor, ...]
    jacobians: tuple[Tensor, ...] = ()
    heads: tuple[Tensor, ...] = ()
    gramian: Tensor | None = None
    representation: torch.Size | None = None


Answered = Callable[[Tensor], tuple[Tensor, ...]]
"""From a method's answer to gradients.

Weights (N, T) become gradients of all trained parameters; a direction (N, B, ...) in the
representation becomes those of the shared ones.
"""
Tell = Callable[[Network, Rule, Tensors, Tensors, Split, Tensor], tuple[Told, Answered | None]]
"""The kind of `tell`."""


@dataclass(frozen=True)
class Sample:
    """One forward pass. losses: T tensors (N,), as treated; raw: (N, T) detached.

    features, probe: the representation and what its gradients are taken in, or None.
    """

    losses: Outputs
    raw: Tensor
    features: Tensor | None = None
    probe: Tensor | None = None


def tell(
    net: Network, rule: Rule, params: Tensors, buffers: Tensors, split: Split, seeds: Tensor
) -> tuple[Told, Answered | None]:
    """What a minibatch (N, B, ...) tells, and how a method's answer becomes gradients.

    None where the answer needs no more of the network: a combination of the Jacobian's rows.
    """
    if from_losses(rule.method):
        return _of_losses(net, rule, params, _forward(net, rule, params, buffers, split, seeds))
    splits = _halves(split) if rule.method.independent else (split,)
    samples = [_forward(net, rule, params, buffers, part, seeds) for part in splits]
    return _of_gradients(net.sharing, rule, params, samples)


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
    net: Network, rule: Rule, params: Tensors, buffers: Tensors, split: Split, seeds: Tensor
) -> Sample:
    if rule.treatment.level == "features":
        losses, features, probe = net.losses_at_features(params, buffers, split, seeds)
        return Sample(*treated_losses(rule, losses), features, probe)
    return Sample(*treated_losses(rule, net.losses(params, buffers, split, seeds)))


def _of_losses(net: Network, rule: Rule, params: Tensors, sample: Sample) -> tuple[Told, Answered]:
    """One backward pass of Σ w_i L_i, summed over the runs, which do not depend on each other."""
    stacked = torch.stack(sample.losses, dim=1)
    gramian = None
    if rule.method.layer == "last":
        nobody: list[tuple[str, ...]] = [() for _ in sample.losses]
        last = [params[name] for name in net.sharing.last]
        gramian = gramian_of(_rows(last, nobody, params, sample.losses, keep=True).jacobian)
    trained = [params[name] for name in net.sharing.trained]

    def answered(weights: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad((weights.to(stacked.dtype) * stacked).sum(), trained)

    return Told(sample.raw, (stacked.detach().double(),), gramian=gramian), answered


def _of_gradients(
    sharing: Sharing, rule: Rule, params: Tensors, samples: Sequence[Sample]
) -> tuple[Told, Answered | None]:
    """One backward pass a task and sample, and for the representation one more after the answer."""
    shared = [params[name] for name in sharing.shared]
    features = samples[0].features
    found = [
        _rows(
            shared if sample.probe is None else [sample.probe],
            sharing.heads,
            params,
            sample.losses,
            keep=features is not None,
        )
        for sample in samples
    ]
    told = Told(
        mean_of([sample.raw for sample in samples]),
        tuple(_columns(sample.losses) for sample in samples),
        tuple(rows.jacobian for rows in found),
        tuple(
            mean_of([rows.heads[name] for rows in found]) for head in sharing.heads for name in head
        ),
        representation=None if features is None else features.shape,
    )
    if features is None:
        return told, None
    return told, lambda towards: torch.autograd.grad(features, shared, towards)


@dataclass(frozen=True)
class _Rows:
    """The tasks' gradients: jacobian (N, T, P) of the places, heads of each head's parameters."""

    jacobian: Tensor
    heads: Tensors


def _rows(
    places: Sequence[Tensor],
    heads: Sequence[Sequence[str]],
    params: Tensors,
    losses: Outputs,
    keep: bool,
) -> _Rows:
    """One backward pass a task. keep: whether the graph is needed again after the last one."""
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
        for grad, (start, end) in zip(grads, pairwise(ends), strict=False):
            jacobian[:, task, start:end].view(grad.shape).copy_(grad)
        own.update(zip(heads[task], grads[len(places) :], strict=True))
    return _Rows(jacobian, own)


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
