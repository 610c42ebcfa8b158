"""Which class of TorchJD a call names, with which arguments, and what it has to be shown."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from .call_text import read_call
from .hyper import nearest
from .method import Answer
from .torchjd_memory import MEMORY, is_known

INSTALL = "pip install 'torchjd[cagrad,quadprog_projector]>=0.18'"

INDEPENDENT = ("MoDoWeighting", "SDMGradWeighting")
"""Weightings of a matrix that is neither Gramian nor Jacobian: J_a J_bᵀ of independent samples."""

REFUSED: Mapping[str, str] = {
    "Aggregator": "it is the base class of aggregators",
    "Weighting": "it is the base class of weightings",
    "WeightedAggregator": "its argument is a weighting; name that weighting itself",
    "GramianWeightedAggregator": "its argument is a weighting; name that weighting itself",
    "CRMOGMWeighting": "its argument is a weighting, which no number or string can stand for",
    "NashMTL": "it keeps its solver's objects from step to step; nash_mtl is the same method",
}

Reads = Literal["gramian", "independent", "jacobian"]
Core = Callable[[Tensor], Tensor]
"""A weighting, or an aggregator that has none: what is called with a run's matrix."""


@dataclass(frozen=True)
class Borrowed:
    """A class of TorchJD with its arguments, from which every step makes itself a new object.

    reads: the signal that it is called with. memory: see `MEMORY`.
    """

    name: str
    arguments: Mapping[str, object]
    reads: Reads
    answers: Answer
    memory: Mapping[str, str]

    def core(self, place: torch.device) -> Core:
        """A new object, which computes there."""
        return _core(self.name, self.arguments, place)


def borrowed(text: str) -> Borrowed:
    """The class and arguments of the call `NAME(arguments)`.

    Raises ValueError where TorchJD is missing, has no such class, or refuses the arguments.
    """
    call = read_call(text)
    kind = _class(call.name)
    arguments = _bound(kind, call.positional, call.keywords)
    core = _core(call.name, arguments, torch.device("cpu"))
    return Borrowed(call.name, arguments, _reads(core), _answers(core), _memory(core))


def _class(name: str) -> Any:
    """The public class of TorchJD called `name`."""
    try:
        from torchjd import Stateful, aggregation  # noqa: F401
    except ImportError:
        raise ValueError(f"it needs the library TorchJD 0.18 or newer: {INSTALL}") from None
    if name in REFUSED:
        raise ValueError(f"{name} cannot be a method here: {REFUSED[name]}")
    known = sorted(set(aggregation.__all__) - set(REFUSED))
    if name not in known:
        raise ValueError(f"TorchJD has no aggregator or weighting {name!r}{nearest(name, known)}")
    return getattr(aggregation, name)


def _bound(
    kind: Any, positional: tuple[object, ...], keywords: Mapping[str, object]
) -> dict[str, object]:
    """The given arguments by keyword, in the order of the constructor."""
    signature = inspect.signature(kind)
    try:
        return dict(signature.bind(*positional, **keywords).arguments)
    except TypeError as error:
        taken = ", ".join(signature.parameters) or "no arguments"
        raise ValueError(f"{kind.__name__}: {error}; it takes {taken}") from None


def _core(name: str, arguments: Mapping[str, object], place: torch.device) -> Core:
    """What a new object answers with: an aggregator's weighting if it has one, else itself."""
    from torchjd import aggregation

    kind: Any = getattr(aggregation, name)
    hints = typing.get_type_hints(kind.__init__)
    try:
        typed = {key: _typed(value, hints.get(key), place) for key, value in arguments.items()}
        made: Any = kind(**typed)
    except ImportError as error:
        raise ValueError(str(error)) from None
    except Exception as error:
        raise ValueError(f"{name} refuses its arguments: {error}") from None
    core: Core = made
    if isinstance(made, aggregation.GramianWeightedAggregator):
        core = made.gramian_weighting
    elif isinstance(made, aggregation.WeightedAggregator):
        core = made.weighting
    return core


def _typed(value: object, hint: object, place: torch.device) -> object:
    """An argument as the constructor wants it: a list becomes a tensor where it says Tensor."""
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    wanted = typing.get_args(hint) if union else (hint,)
    if isinstance(value, list | tuple) and Tensor in wanted:
        return torch.tensor(value, dtype=torch.float64, device=place)
    return value


def _reads(core: Core) -> Reads:
    """The Gramian for a Weighting[PSDMatrix], the Jacobian for all others but `INDEPENDENT`."""
    from torchjd.aggregation import Weighting
    from torchjd.linalg import PSDMatrix

    if type(core).__name__ in INDEPENDENT:
        return "independent"
    parts = type(core).__mro__
    bases = [base for part in parts for base in vars(part).get("__orig_bases__", ())]
    return "gramian" if Weighting[PSDMatrix] in bases else "jacobian"


def _answers(core: Core) -> Answer:
    from torchjd.aggregation import Aggregator

    return "direction" if isinstance(core, Aggregator) else "weights"


def _memory(core: Core) -> Mapping[str, str]:
    """What the object remembers, see `MEMORY`; refused if the installed version differs."""
    from torchjd import Stateful

    name = type(core).__name__
    memory = MEMORY.get(name, {})
    if isinstance(core, Stateful) != bool(memory) or not is_known(core, memory):
        raise ValueError(f"what {name} of the installed TorchJD remembers is not known here")
    return memory
