"""A step's computation written down once as a list of operations, and replayed at every step.

A step of a small pack is bound by what comes before its kernels: vmap, autograd, hooks. They make
the same calls at every step, so the calls are recorded (torch.fx) and repeated without them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from mtofront.problems import Split

from .graphs import split_at, tidied
from .network import Network, Tensors
from .stages import Answered, Rule, Told, tell

WORTH_STEPS = 200
"""So many steps must be left: writing down takes about 1 ms an operation, the gain of 80 steps."""
WARM_STEPS = 2
"""Steps taken before: what torch sets up at a first call is not to be written down."""

Replayed = Callable[..., tuple[Tensor, ...]]


@dataclass(frozen=True)
class Script:
    """What is replayed. first: from a minibatch to what is told, and what is kept for second.

    second: from what was kept and the method's answer to gradients. pattern: a Told whose tensors
    the first one's outputs replace. answers: whether an answer goes back into the network.
    """

    first: Replayed
    second: Replayed
    pattern: Told
    answers: bool


class Replay:
    """`tell`, written down after the first steps of a pack and replayed from then on.

    A script is used only if it agrees with torch's own computation of a step, on a processor in
    every bit; otherwise, and where nothing can be written down, steps are computed as they were.
    """

    def __init__(self) -> None:
        self._steps = 0
        self._script: Script | None = None

    def __call__(
        self,
        net: Network,
        rule: Rule,
        params: Tensors,
        buffers: Tensors,
        split: Split,
        seeds: Tensor,
    ) -> tuple[Told, Answered | None]:
        """What `tell` answers."""
        self._steps += 1
        if self._steps == WARM_STEPS + 1:
            self._script = _trusted(net, rule, params, buffers, split, seeds)
        if self._script is None:
            return tell(net, rule, params, buffers, split, seeds)
        return replayed(self._script, params, buffers, split, seeds)


def written(
    net: Network,
    rule: Rule,
    params: Tensors,
    buffers: Tensors,
    split: Split,
    seeds: Tensor,
    pattern: Told,
    answers: bool,
) -> Script:
    """The two stages of `tell`, for tensors of these shapes. Buffers are left as they are.

    pattern, answers: what `tell` told of them, and whether it takes an answer.
    """
    answer = _example(pattern)

    def joint(*flat: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        given = iter(flat)
        own_params = {name: next(given) for name in params}
        own_buffers = {name: next(given) for name in buffers}
        own_seeds, inputs = next(given), next(given)
        own_split = Split(inputs, tuple(next(given) for _ in split.targets))
        told, back = tell(net, rule, own_params, own_buffers, own_split, own_seeds)
        return _tensors(told), () if back is None else back(next(given))

    given = _inputs(params, _copies(buffers), split, seeds)
    module = make_fx(joint)(*given, answer)
    first, second = split_at(tidied(module, [*given, answer]), len(given))
    return Script(first, second, pattern, answers)


def replayed(
    script: Script, params: Tensors, buffers: Tensors, split: Split, seeds: Tensor
) -> tuple[Told, Answered | None]:
    """What `tell` answers to tensors of the shapes that the script was written for."""
    with torch.no_grad():
        outputs = script.first(*_inputs(params, buffers, split, seeds))
    count = len(_tensors(script.pattern))
    told, kept = _like(script.pattern, outputs[:count]), outputs[count:]
    if not script.answers:
        return told, None

    def answered(answer: Tensor) -> tuple[Tensor, ...]:
        with torch.no_grad():
            return script.second(*kept, answer)

    return told, answered


def _trusted(
    net: Network, rule: Rule, params: Tensors, buffers: Tensors, split: Split, seeds: Tensor
) -> Script | None:
    """A script that agrees with `tell` on this minibatch; None if there is none."""
    try:
        usual = tell(net, rule, params, _copies(buffers), split, seeds)
        answers = usual[1] is not None
        script = written(net, rule, params, buffers, split, seeds, usual[0], answers)
        again = replayed(script, params, _copies(buffers), split, seeds)
        outcomes = []
        for told, answered in (usual, again):
            gradients = () if answered is None else answered(_example(told))
            outcomes.append((*_tensors(told), *gradients))
    except Exception:  # whatever cannot be written down is computed as before
        return None
    exact = split.inputs.device.type == "cpu"
    agree = all(_same(one, other, exact) for one, other in zip(*outcomes, strict=True))
    return script if agree else None


def _same(one: Tensor, other: Tensor, exact: bool) -> bool:
    """Whether two results agree; a diverged run's NaN agrees with NaN."""
    close = {"rtol": 0.0, "atol": 0.0} if exact else {"rtol": 1e-3, "atol": 1e-5}
    return one.shape == other.shape and torch.allclose(one, other, equal_nan=True, **close)


def _example(told: Told) -> Tensor:
    """An answer of the right shape, none of whose numbers is special."""
    shape = told.representation
    dtype = told.losses[0].dtype if shape is None else told.jacobians[0].dtype
    size = told.losses[0].shape if shape is None else shape
    device = told.losses[0].device
    return torch.linspace(0.5, 1.5, size.numel(), dtype=dtype, device=device).view(size)


def _inputs(params: Tensors, buffers: Tensors, split: Split, seeds: Tensor) -> list[Tensor]:
    return [*params.values(), *buffers.values(), seeds, split.inputs, *split.targets]


def _copies(buffers: Tensors) -> Tensors:
    """Running statistics to be written to in a computation that is not a step."""
    return {name: value.clone() for name, value in buffers.items()}


def _tensors(told: Told) -> tuple[Tensor, ...]:
    gramian = () if told.gramian is None else (told.gramian,)
    return (told.raw, *told.losses, *told.jacobians, *told.heads, *gramian)


def _like(pattern: Told, tensors: Sequence[Tensor]) -> Told:
    """A Told of these tensors, in the order of `_tensors`."""
    given = iter(tensors)
    return Told(
        next(given),
        tuple(next(given) for _ in pattern.losses),
        tuple(next(given) for _ in pattern.jacobians),
        tuple(next(given) for _ in pattern.heads),
        None if pattern.gramian is None else next(given),
        pattern.representation,
    )
