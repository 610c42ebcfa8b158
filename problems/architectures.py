"""Architectures: how much of a network tasks share, for an encoder in stages of any kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Body:
    """What networks are made of: stages of an encoder, attention and heads, for one kind of input.

    numbers: of one input row, flattened. inputs: its features, or channels. widths: features, or
    channels, after each stage.
    stage: (position, features in, features out) -> a stage, (B, in, ...) -> (B, out, ...).
    again: (position, features) -> one more layer behind a stage, which changes no shape.
    mask: (position, features in, features out) -> numbers in (0, 1) of the stage's output shape,
        from features of that resolution.
    head: (features, task) -> the task's output from the last stage's features.
    """

    numbers: int
    inputs: int
    widths: tuple[int, ...]
    stage: Callable[[int, int, int], nn.Module]
    again: Callable[[int, int], nn.Module]
    mask: Callable[[int, int, int], nn.Module]
    head: Callable[[int, int], nn.Module]


class HardSharing(nn.Module):
    """One encoder for all tasks, and a head a task (shared bottom; Caruana 1997)."""

    def __init__(self, body: Body, tasks: int, deep: bool = False) -> None:
        super().__init__()
        self.trunk = _encoder(body, deep)
        self.heads = _heads(body, body.widths[-1], tasks)

    def forward(self, inputs: Tensor) -> list[Tensor]:
        features = self.trunk(inputs)
        return [head(features) for head in self.heads]


class SingleTask(nn.Module):
    """An encoder and a head a task: nothing is shared."""

    def __init__(self, body: Body, tasks: int) -> None:
        super().__init__()
        self.trunks = nn.ModuleList([_encoder(body) for _ in range(tasks)])
        self.heads = _heads(body, body.widths[-1], tasks)

    def forward(self, inputs: Tensor) -> list[Tensor]:
        return [head(trunk(inputs)) for trunk, head in zip(self.trunks, self.heads, strict=True)]


class Dense(nn.Module):
    """A shared encoder, and one a task that is also given the shared features of every stage.

    After the baseline "Dense" of Liu et al. 2019 (1803.10704); heads see both encoders.
    """

    def __init__(self, body: Body, tasks: int) -> None:
        super().__init__()
        self.trunk = _encoder(body)
        self.trunks = nn.ModuleList([_encoder(body, beside=True) for _ in range(tasks)])
        self.heads = _heads(body, 2 * body.widths[-1], tasks)

    def forward(self, inputs: Tensor) -> list[Tensor]:
        shared = _outputs(self.trunk, inputs)
        answers = []
        for trunk, head in zip(self.trunks, self.heads, strict=True):
            features = inputs
            for stage, beside in zip(trunk, shared, strict=True):  # type: ignore[call-overload]
                features = torch.cat((stage(features), beside), dim=1)
            answers.append(head(features))
        return answers


class CrossStitch(nn.Module):
    """An encoder a task; after every stage, tasks' features are mixed (Misra et al. 2016).

    same: of the mixing matrices' diagonal at first, the rest being shared out among the other
    tasks. The paper starts near the identity too; its units are one a channel, here one a stage.
    """

    def __init__(self, body: Body, tasks: int, same: float = 0.9) -> None:
        super().__init__()
        self.trunks = nn.ModuleList([_encoder(body) for _ in range(tasks)])
        self.heads = _heads(body, body.widths[-1], tasks)
        unit = torch.full((tasks, tasks), (1 - same) / max(1, tasks - 1)).fill_diagonal_(same)
        self.units = nn.ParameterList([nn.Parameter(unit.clone()) for _ in body.widths])

    def forward(self, inputs: Tensor) -> list[Tensor]:
        features: Sequence[Tensor] = [inputs for _ in self.trunks]
        stages = zip(*self.trunks, strict=True)
        for unit, stage in zip(self.units, stages, strict=True):
            own = torch.stack([part(x) for part, x in zip(stage, features, strict=True)])
            features = torch.einsum("tu,u...->t...", unit, own).unbind()
        return [head(own) for head, own in zip(self.heads, features, strict=True)]


class Attention(nn.Module):
    """A task's view of a shared encoder: a soft mask on the features of every stage.

    After MTAN (Liu et al. 2019, 1803.10704). Deviations: no batch normalisation, and a mask
    is computed from the features that it is multiplied with, not from those half a block before.
    """

    def __init__(self, body: Body) -> None:
        super().__init__()
        pairs = list(enumerate(zip(body.widths, body.widths[1:], strict=False), start=1))
        self.carry = nn.ModuleList([body.stage(j, before, own) for j, (before, own) in pairs])
        first = body.mask(0, body.widths[0], body.widths[0])
        self.masks = nn.ModuleList([first, *(body.mask(j, 2 * own, own) for j, (_, own) in pairs)])

    def forward(self, shared: Sequence[Tensor]) -> Tensor:
        features: Tensor = self.masks[0](shared[0]) * shared[0]
        for carry, mask, beside in zip(self.carry, self.masks[1:], shared[1:], strict=True):
            features = mask(torch.cat((beside, carry(features)), dim=1)) * beside
        return features


class Mtan(nn.Module):
    """One encoder, seen by every task through an attention of its own (MTAN; Liu et al. 2019)."""

    def __init__(self, body: Body, tasks: int) -> None:
        super().__init__()
        self.trunk = _encoder(body)
        self.attentions = nn.ModuleList([Attention(body) for _ in range(tasks)])
        self.heads = _heads(body, body.widths[-1], tasks)

    def forward(self, inputs: Tensor) -> list[Tensor]:
        shared = _outputs(self.trunk, inputs)
        pairs = zip(self.attentions, self.heads, strict=True)
        return [head(attention(shared)) for attention, head in pairs]


class Stan(nn.Module):
    """MTAN for each task by itself: attention, and nothing shared (Liu et al. 2019)."""

    def __init__(self, body: Body, tasks: int) -> None:
        super().__init__()
        self.networks = nn.ModuleList([_one_of(body, task) for task in range(tasks)])

    def forward(self, inputs: Tensor) -> list[Tensor]:
        return [network(inputs)[0] for network in self.networks]


class Mmoe(nn.Module):
    """Shared encoders mixed for each task by a gate on the input (MMoE; Ma et al. 2018).

    experts: E encoders. Gates are softmax(W_t x) without bias, W_t (E, numbers of an input).
    """

    def __init__(self, body: Body, tasks: int, experts: int = 4) -> None:
        super().__init__()
        self.experts = nn.ModuleList([_encoder(body) for _ in range(experts)])
        self.heads = _heads(body, body.widths[-1], tasks)
        gates = [nn.Linear(body.numbers, experts, bias=False) for _ in range(tasks)]
        self.gates = nn.ModuleList(gates)

    def forward(self, inputs: Tensor) -> list[Tensor]:
        features = torch.stack([expert(inputs) for expert in self.experts], dim=1)
        rows = inputs.flatten(1)
        answers = []
        for gate, head in zip(self.gates, self.heads, strict=True):
            shares = torch.softmax(gate(rows), dim=-1).unsqueeze(-1)
            answers.append(head((shares * features.flatten(2)).sum(1)))
        return answers


def _encoder(body: Body, deep: bool = False, beside: bool = False) -> nn.Sequential:
    """The stages of a body. deep: each is followed by another layer of its shape.

    beside: every stage but the first is also given as many features of another encoder.
    """
    stages, inputs = [], body.inputs
    for position, width in enumerate(body.widths):
        stage = body.stage(position, inputs, width)
        stages.append(nn.Sequential(stage, body.again(position, width)) if deep else stage)
        inputs = 2 * width if beside else width
    return nn.Sequential(*stages)


def _outputs(trunk: nn.Sequential, inputs: Tensor) -> list[Tensor]:
    """The features after every stage."""
    found = [inputs]
    for stage in trunk:
        found.append(stage(found[-1]))
    return found[1:]


def _heads(body: Body, features: int, tasks: int) -> nn.ModuleList:
    return nn.ModuleList([body.head(features, task) for task in range(tasks)])


def _one_of(body: Body, task: int) -> Mtan:
    """The network with attention of one task alone."""
    own = Body(**{**vars(body), "head": lambda features, _: body.head(features, task)})
    return Mtan(own, 1)
