"""A pack's network: N copies of one architecture evaluated as one batched computation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from mtofront.methods import method_named
from mtofront.problems import Measure, Pooled, Problem, Split

from .features import Representation, representation
from .lowering import PackedLayers
from .precision import narrowed, widened
from .sharing import Sharing, first_rows, refuse_unfit, sharing_of
from .spec import RunSpec
from .streams import stream

Tensors = dict[str, Tensor]
Outputs = tuple[Tensor, ...]
Seeds = Tensor
"""(N,) int64, one a run."""
Measured = Callable[..., Outputs]


@dataclass(frozen=True)
class Network:
    """The architecture of a problem, to be called with stacked parameters.

    batched: whether one vmapped call serves the pack; otherwise runs are called one by one.
    reason: why not batched, in words for the user; empty if batched.
    features: where gradients of the shared representation are taken, if they are.
    lowered: whether it holds layers with a hand-batched form. draws: whether layers draw numbers.
    precision: of its layers' arithmetic in training. Losses and measurements are always in full.
    """

    problem: Problem
    module: nn.Module
    sharing: Sharing
    batched: bool
    reason: str
    features: Representation | None = None
    lowered: bool = False
    draws: bool = False
    precision: str = "float32"

    def losses(self, params: Tensors, buffers: Tensors, split: Split, seeds: Seeds) -> Outputs:
        """The tasks' losses, T tensors (N,), of a minibatch (N, B, ...) a run, in training mode.

        seeds: one a run, for layers that draw random numbers themselves.
        """
        self.module.train()

        def one(
            params: Tensors, buffers: Tensors, seed: Tensor, inputs: Tensor, *targets: Tensor
        ) -> Outputs:
            with self._layers(seed):
                return self._losses_of_one(params, buffers, inputs, targets)

        return self._for_all(one, (params, buffers, seeds, split.inputs, *split.targets))

    def losses_at_features(
        self, params: Tensors, buffers: Tensors, split: Split, seeds: Seeds
    ) -> tuple[Outputs, Tensor, Tensor]:
        """Losses as `losses` gives them, the representation, and a probe: both (N, B, ...).

        The probe is a zero added to the representation: the losses' gradients in it are those in
        the representation, and computing them passes through the heads only.
        """
        self.module.train()
        assert self.features is not None
        part, row = self.module.get_submodule(self.features.module), self.features.row
        probe = row.new_zeros(*split.inputs.shape[:2], *row.shape).requires_grad_()

        def one(
            params: Tensors,
            buffers: Tensors,
            seed: Tensor,
            inputs: Tensor,
            probe: Tensor,
            *targets: Tensor,
        ) -> Outputs:
            seen: list[Tensor] = []

            def add_probe(_: nn.Module, __: object, output: Tensor) -> Tensor:
                # gradients of the representation are as wide as the probe, whatever its layer is
                seen.append(output.to(probe.dtype))
                return seen[0] + probe

            handle = part.register_forward_hook(add_probe)
            try:
                with self._layers(seed):
                    losses = self._losses_of_one(params, buffers, inputs, targets)
            finally:
                handle.remove()
            return (*losses, seen[0])

        arguments = (params, buffers, seeds, split.inputs, probe, *split.targets)
        *losses, features = self._for_all(one, arguments)
        return tuple(losses), features, probe

    def _layers(self, seed: Tensor | None) -> AbstractContextManager[object]:
        """Where hand-batched layers take the place of torch's, if there are any."""
        if not self.batched or not self.lowered:
            return nullcontext()
        return PackedLayers(seed, self.problem.train.device.type == "cpu")

    def _losses_of_one(
        self, params: Tensors, buffers: Tensors, inputs: Tensor, targets: Sequence[Tensor]
    ) -> Outputs:
        with narrowed(self.precision):
            outputs = functional_call(self.module, (params, buffers), (inputs,))
        return tuple(
            task.loss(widened(output), target)
            for task, output, target in zip(self.problem.tasks, outputs, targets, strict=True)
        )

    def _for_all(self, one: Measured, arguments: Sequence[Any]) -> Outputs:
        if self.batched:
            return tuple(vmap(one)(*arguments))
        return _one_by_one(one, arguments, seeded=True)

    def measures(
        self, params: Tensors, buffers: Tensors, split: Split
    ) -> dict[tuple[str, str], Tensor]:
        """(task, measure) -> (N,), means over one set of rows (n, ...) that all runs share.

        Of a `Pooled` measure its parts, (N, ...) in float64, which `finished` makes the measure of.
        """
        self.module.eval()
        names = [
            (task.name, name) for task in self.problem.tasks for name in ("loss", *task.metrics)
        ]

        def one(params: Tensors, buffers: Tensors) -> Outputs:
            with self._layers(None):
                outputs = functional_call(self.module, (params, buffers), (split.inputs,))
                return tuple(
                    measure(output, target)
                    for task, output, target in zip(
                        self.problem.tasks, outputs, split.targets, strict=True
                    )
                    for measure in (task.loss, *map(_parts, task.metrics.values()))
                )

        with torch.no_grad():
            if self.batched:
                values = tuple(vmap(one)(params, buffers))
            else:
                values = _one_by_one(one, (params, buffers), seeded=False)
        return dict(zip(names, values, strict=True))

    def finished(self, means: dict[tuple[str, str], Tensor]) -> dict[tuple[str, str], Tensor]:
        """The measures (N,) of a split, from the means of what `measures` gave for its rows."""
        values = dict(means)
        for task in self.problem.tasks:
            for name, measure in task.metrics.items():
                if isinstance(measure, Pooled):
                    finish, parts = measure.finish, means[task.name, name]
                    values[task.name, name] = (
                        vmap(finish)(parts)
                        if self.batched
                        else torch.stack([finish(part) for part in parts])
                    )
        return values


def _parts(measure: Measure | Pooled) -> Measure:
    """What is averaged over rows."""
    if not isinstance(measure, Pooled):
        return measure
    parts = measure.parts
    return lambda output, target: parts(output, target).double()


def _one_by_one(function: Measured, arguments: Sequence[Any], seeded: bool) -> Outputs:
    """What vmap would answer, run after run.

    seeded: the third argument holds the runs' seeds, from which each draws what it draws.
    """
    first = arguments[0]
    runs = len(next(iter(first.values())) if isinstance(first, dict) else first)
    answers = []
    for n in range(runs):
        own = [{k: v[n] for k, v in a.items()} if isinstance(a, dict) else a[n] for a in arguments]
        with torch.random.fork_rng(enabled=seeded):
            if seeded:
                torch.manual_seed(int(arguments[2][n]))
            answers.append(function(*own))
    return tuple(torch.stack(values) for values in zip(*answers, strict=True))


def fresh_module(problem: Problem, spec: RunSpec) -> nn.Module:
    """The problem's network, initialised from the run's own random numbers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream(spec, "init").initial_seed())
        return problem.model()


def stacked_state(problem: Problem, specs: Sequence[RunSpec]) -> tuple[Tensors, Tensors]:
    """Initial parameters and buffers of a pack, each tensor (N, ...)."""
    modules = {(s.seed, s.restart): fresh_module(problem, s) for s in specs}
    params, buffers = stack_module_state([modules[s.seed, s.restart] for s in specs])
    return (
        {name: value.detach().requires_grad_() for name, value in params.items()},
        dict(buffers),
    )


def network(problem: Problem, spec: RunSpec) -> Network:
    """The problem's network, examined: which parameters are shared, and whether it can be batched.

    Raises ProblemError if outputs or losses do not fit the tasks, or if a task shares nothing
    that the method or the problem needs it to.
    """
    refuse_unfit(problem, method_named(spec.method))
    module = fresh_module(problem, spec)
    sharing = sharing_of(problem, module)
    reason = why_not_batched(problem, module, sharing, spec.precision)
    at_features = spec.treatment.get("level") == "features"
    features = (
        representation(problem, module, sharing.shared, first_rows(problem))
        if at_features
        else None
    )
    lowered, draws = _lowered_layers(problem, module) if not reason else (False, bool(reason))
    return Network(
        problem, module, sharing, not reason, reason, features, lowered, draws, spec.precision
    )


def _lowered_layers(problem: Problem, module: nn.Module) -> tuple[bool, bool]:
    """Whether the network has layers with a hand-batched form, and whether it draws numbers."""
    rows = first_rows(problem)
    module.train()
    state = {name: value.clone() for name, value in module.state_dict().items()}
    seed = torch.zeros((), dtype=torch.int64, device=rows.inputs.device)
    layers = PackedLayers(seed, processor=True)
    with torch.no_grad(), layers:
        module(rows.inputs)
    module.load_state_dict(state)
    return layers.used, layers.draws


def why_not_batched(
    problem: Problem, module: nn.Module, sharing: Sharing, precision: str = "float32"
) -> str:
    """Empty if two copies train as one batched computation; else the first obstacle."""
    params, buffers = stack_module_state([module, module])
    rows = first_rows(problem)
    device = rows.inputs.device
    split = Split(torch.stack([rows.inputs] * 2), tuple(torch.stack([t] * 2) for t in rows.targets))
    trial = Network(problem, module, sharing, True, "", None, True, True, precision)
    try:
        seeds = torch.zeros(2, dtype=torch.int64, device=device)
        losses = trial.losses(params, buffers, split, seeds)
        places = sharing.shared or sharing.trained
        torch.autograd.grad(torch.stack(losses).sum(), [params[n] for n in places])
        trial.finished(trial.measures(params, buffers, rows))
    except Exception as error:  # whatever vmap cannot do: the loop below it can
        return _obstacle(module, error)
    return ""


def _obstacle(module: nn.Module, error: Exception) -> str:
    """Why vmap failed: the layer that draws numbers in a way of its own, or the error itself."""
    for name, layer in module.named_modules():
        if isinstance(layer, nn.AlphaDropout | nn.FeatureAlphaDropout | nn.RReLU):
            return f"layer {name!r} ({type(layer).__name__}) draws its own random numbers"
        if isinstance(layer, nn.RNNBase):
            return f"layer {name!r} ({type(layer).__name__}) has no batched form in torch"
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
