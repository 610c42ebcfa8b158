"""What TorchJD's stateful weightings remember between calls, as tensors that a state can hold."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .method import State

MEMORY: Mapping[str, Mapping[str, str]] = {
    "ExcessMTLWeighting": {
        "_weights": "T",
        "_sq_grad_sum": "TP",
        "_initial_w": "T",
        "_warmup_w_sum": "T",
        "_n_steps": "",
    },
    "GradVacWeighting": {"_phi_t": "TT"},
    "MoDoWeighting": {"_lambda": "T"},
    "PCDWeighting": {"_sq_norm_ema": "T", "_n_steps": ""},
    "SDMGradWeighting": {"_w": "T"},
}
"""Attributes of each class in TorchJD 0.18 and their shapes, for T tasks and P coordinates."""

PRESENT = "present"
"""The state (..., K) that says which of a class's K attributes are set: 1, or 0 for not yet."""


def is_known(core: Any, attributes: Mapping[str, str]) -> bool:
    """Whether an object remembers these attributes and, among its buffers, no others."""
    buffers = set(vars(core).get("_buffers", ()))
    return buffers <= set(attributes) and all(hasattr(core, name) for name in attributes)


def fresh_memory(
    attributes: Mapping[str, str], zeros: Tensor, batch: tuple[int, ...], sizes: Mapping[str, int]
) -> State:
    """The memory before the first call: nothing is set.

    zeros: any tensor of the batch's device. sizes: of the letters in the attributes' shapes.
    """
    if not attributes:
        return {}
    shapes = {name: [sizes[letter] for letter in text] for name, text in attributes.items()}
    shapes[PRESENT] = [len(attributes)]
    return {
        name: torch.zeros((*batch, *shape), dtype=torch.float64, device=zeros.device)
        for name, shape in shapes.items()
    }


@dataclass(frozen=True)
class Recall:
    """One object of TorchJD that takes on the memory of one run after the other.

    first: its attributes before any call. sized: those after one, of the types that it wants.
    """

    core: Callable[[Tensor], Tensor]
    first: Mapping[str, object]
    sized: Mapping[str, object]

    def load(self, row: State) -> None:
        """Let the object remember what one run's state holds."""
        for place, (name, first) in enumerate(self.first.items()):
            known = bool(row[PRESENT][place])
            setattr(self.core, name, _typed(row[name], self.sized[name]) if known else first)

    def read(self, row: State) -> State:
        """What the object remembers now, in the shapes of a run's state."""
        found = {name: getattr(self.core, name) for name in self.first}
        now = {
            name: torch.zeros_like(row[name]) if value is None else _held(value, row[name])
            for name, value in found.items()
        }
        if found:
            flags = [value is not None for value in found.values()]
            now[PRESENT] = torch.tensor(flags).to(row[PRESENT])
        return now


def recall(
    core: Callable[[Tensor], Tensor], attributes: Mapping[str, str], sample: Tensor
) -> Recall:
    """An object ready to remember, which has seen the problem's size.

    sample: what it is called with once, so that it takes later memories for its own: it throws
        them away when the number of tasks, the dtype or the device is not that of its last call.
    """
    first = {name: getattr(core, name) for name in attributes}
    if attributes:
        with contextlib.suppress(Exception):  # then it raises for every run, where it is counted
            core(sample)
    return Recall(core, first, {name: getattr(core, name) for name in attributes})


def _typed(held: Tensor, sized: object) -> object:
    """A number of the state as the object had it: a tensor of its own or a python integer."""
    if isinstance(sized, int):
        return int(held)
    # a copy, because the object may write into it
    return held.to(sized, copy=True) if isinstance(sized, Tensor) else held.clone()


def _held(value: Tensor | int, like: Tensor) -> Tensor:
    return torch.as_tensor(value).detach().to(like, copy=True)
