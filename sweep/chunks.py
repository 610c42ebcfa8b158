"""How many runs of a pack take a step at once, so that the tasks' gradients fit into memory.

The tasks' gradients of a whole pack, (N, T, P) numbers, can be larger than all that a pack keeps
between steps. Runs do not depend on each other: those of a part of the pack are found, used and
forgotten before the next part's, and no run's digits change.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from mtofront.methods import State, from_losses
from mtofront.problems import Split

from .gradients import Minibatch, Stepped, step_gradients
from .network import Network, Tensors
from .stages import Rule, Tell, tell
from .streamed import rows_held, streamed_step

PROCESSOR_BYTES = 2**28
"""What the tasks' gradients may take on a processor, 256 MiB: there are as many workers as cores,
and beside the time for so many numbers what a further part costs to start does not count."""
SHARE = 16
"""On an accelerator they may take one part in so many of its memory."""


def bounded_step(
    net: Network,
    rule: Rule,
    params: Tensors,
    buffers: Tensors,
    state: State,
    batch: Minibatch,
    tell: Tell = tell,
) -> Stepped:
    """What `step_gradients` answers, for as many runs at once as memory is granted to.

    Tasks' gradients too many for even one run are not held: see `streamed`. tell: as
    `step_gradients` takes it, for the pack as a whole.
    """
    streams = rows_held(net, rule, params) < len(net.problem.tasks)
    runs = len(batch.noise)
    granted = granted_bytes(batch.split.inputs.device)
    needed = bytes_of_run(net, rule, params, batch)
    sizes = part_sizes(runs, granted // needed if needed else runs)
    if len(sizes) == 1 and not streams:
        return step_gradients(net, rule, params, buffers, state, batch, tell)
    step = streamed_step if streams else step_gradients
    gradients: dict[str, Tensor] = {}
    losses: dict[str, Tensor] = {}
    states: dict[str, Tensor] = {}
    weights: dict[str, Tensor] = {}
    for start, end in pairwise([0, *accumulate(sizes)]):
        part = slice(start, end)
        stepped = step(
            net,
            _rule_of(rule, part),
            _leaves_of(params, part),
            _of(buffers, part),  # views: running statistics are written through them
            _of(state, part),
            _batch_of(batch, part),
        )
        _put(gradients, stepped.gradients, part, runs)
        _put(losses, {"losses": stepped.losses}, part, runs)
        _put(states, stepped.state, part, runs)
        if stepped.weights is not None:
            _put(weights, {"weights": stepped.weights}, part, runs)
    return Stepped(gradients, losses["losses"], states, weights.get("weights"))


def granted_bytes(device: torch.device) -> int:
    """What the tasks' gradients of a pack may take on this device."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory) // SHARE
    return PROCESSOR_BYTES


def bytes_of_run(net: Network, rule: Rule, params: Tensors, batch: Minibatch) -> int:
    """What one run's gradients of all tasks take, 0 if they are never held side by side.

    Halves of a minibatch have their own, beside the mean; a method that works on the Jacobian
    itself is granted two more of its size.
    """
    method = rule.method
    names = net.sharing.last if method.layer == "last" else net.sharing.shared
    if from_losses(method) and method.layer != "last":
        return 0
    numbers = sum(params[name][0].numel() for name in names)
    if net.features is not None and not from_losses(method):
        numbers = batch.split.inputs.shape[1] * net.features.row.numel()
    copies = 3 if method.independent or method.needs == "jacobian" else 1
    width = params[names[0]].element_size()
    return copies * rows_held(net, rule, params) * numbers * width


def part_sizes(runs: int, at_once: int) -> list[int]:
    """Into which parts so many runs are cut: even ones, of at most `at_once`, at least two runs.

    Kernels for a batch of one round differently from those for two or more. An odd number of runs,
    cut as far as that, has one part of three.
    """
    parts = max(1, min(math.ceil(runs / max(at_once, 1)), runs // 2))
    size, more = divmod(runs, parts)
    return [size + (n < more) for n in range(parts)]


def _of(tensors: Mapping[str, Tensor], part: slice) -> Tensors:
    return {name: value[part] for name, value in tensors.items()}


def _leaves_of(params: Tensors, part: slice) -> Tensors:
    """The runs' parameters, which gradients are taken in."""
    return {
        name: value.detach()[part].requires_grad_(value.requires_grad)
        for name, value in params.items()
    }


def _rule_of(rule: Rule, part: slice) -> Rule:
    values = {k: v[part] if isinstance(v, Tensor) else v for k, v in rule.values.items()}
    weights = None if rule.weights is None else rule.weights[part]
    return replace(rule, values=values, weights=weights)


def _batch_of(batch: Minibatch, part: slice) -> Minibatch:
    split = batch.split
    own = Split(split.inputs[part], tuple(target[part] for target in split.targets))
    return Minibatch(own, batch.noise[part], batch.epoch, batch.seeds[part])


def _put(whole: Tensors, found: Mapping[str, Tensor], part: slice, runs: int) -> None:
    """Write a part's tensors where they belong in those of all runs, made when first needed."""
    for name, value in found.items():
        if name not in whole:
            whole[name] = value.new_empty(runs, *value.shape[1:])
        whole[name][part] = value.detach()
