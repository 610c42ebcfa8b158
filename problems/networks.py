"""Networks by name: what `problem_options.network` may say, and widths for equal parameters."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from .architectures import (
    Body,
    CrossStitch,
    Dense,
    HardSharing,
    Mmoe,
    Mtan,
    SingleTask,
    Stan,
)
from .problem import ProblemError

Network = str | Mapping[str, Any]
"""The name of a network, or {name: ..., option: ...}."""


ARCHITECTURES: Mapping[str, Callable[..., nn.Module]] = MappingProxyType(
    {
        "split": HardSharing,
        "wide": HardSharing,
        "deep": partial(HardSharing, deep=True),
        "dense": Dense,
        "mtan": Mtan,
        "cross_stitch": CrossStitch,
        "mmoe": Mmoe,
        "stan": Stan,
        "single_task": SingleTask,
    }
)
"""Name -> what makes the network of a body for so many tasks."""
OPTIONS: Mapping[str, Mapping[str, float]] = {
    "cross_stitch": {"same": 0.9},
    "mmoe": {"experts": 4},
}
"""Architecture -> its options with their defaults."""
WIDEST = 2**20
"""No stage is made wider than so many times its narrowest."""
AS_LARGE_AS_MTAN = ("wide", "deep")
"""Architectures whose stages are widened until there are as many parameters as MTAN has."""
UNSHARED = ("stan", "single_task")
"""Architectures whose tasks share no parameter."""


@dataclass(frozen=True)
class Chosen:
    """A network, a problem's own or an architecture, by name.

    options: of the architecture. base: whose stages it is made of, where there is a choice.
    """

    name: str
    options: Mapping[str, Any]
    base: str = ""

    @property
    def single_task(self) -> bool:
        """Whether tasks share nothing in it."""
        return self.name in UNSHARED

    def maker(self, body: Body, tasks: int) -> Callable[[], nn.Module]:
        """What makes freshly initialised networks of this architecture."""
        make = partial(ARCHITECTURES[self.name], tasks=tasks, **self.options)
        if self.name in AS_LARGE_AS_MTAN:
            body = _as_large_as_mtan(make, body, tasks)
        return partial(make, body)


def chosen(network: Network, others: Sequence[str] = (), bases: Sequence[str] = ()) -> Chosen:
    """The network that an option names. Raises ProblemError for an unknown name or option.

    others: names of a problem's own networks, which have no options. bases: what an architecture
    may be made of in this problem, by the option `base`, the default first.
    """
    given = {"name": network} if isinstance(network, str) else dict(network)
    name = str(given.pop("name", "without a name"))
    if name not in ARCHITECTURES and name not in others:
        allowed = ", ".join([*others, *ARCHITECTURES])
        raise ProblemError(f"network must be one of {allowed}; found {name!r}")
    options: dict[str, Any] = dict(OPTIONS.get(name, {}))
    if bases and name in ARCHITECTURES:
        options["base"] = bases[0]
    for key, value in given.items():
        if key not in options:
            known = ", ".join(options) or "none"
            raise ProblemError(f"network {name!r} has no option {key!r}; its options: {known}")
        options[key] = value
    base = options.pop("base", "")
    if base not in ("", *bases):
        raise ProblemError(
            f"network {name!r}: base must be one of {', '.join(bases)}; found {base!r}"
        )
    _check(name, **options)
    return Chosen(name, options, base)


def _check(name: str, experts: Any = 1, same: Any = 1) -> None:
    if type(experts) is not int or experts < 1:
        raise ProblemError(
            f"network {name!r}: experts must be a whole number, 1 or more; found {experts!r}"
        )
    if isinstance(same, bool) or not isinstance(same, int | float) or not 0 <= same <= 1:
        raise ProblemError(f"network {name!r}: same must be a number in [0, 1]; found {same!r}")


def parameters(make: Callable[[], nn.Module]) -> int:
    """How many numbers a network trains; nothing is computed or drawn for it."""
    with torch.device("meta"):
        return sum(value.numel() for value in make().parameters())


def _as_large_as_mtan(make: Callable[[Body], nn.Module], body: Body, tasks: int) -> Body:
    """The body, its widths in the same proportions, nearest in parameters to MTAN of the body."""

    def widened(narrowest: int) -> Body:
        factor = narrowest / min(body.widths)
        return replace(body, widths=tuple(round(width * factor) for width in body.widths))

    def size(narrowest: int) -> int:
        return parameters(lambda: make(widened(narrowest)))

    goal = parameters(lambda: Mtan(body, tasks))
    above = bisect_left(range(WIDEST), goal, lo=1, key=size)
    return widened(min((max(1, above - 1), above), key=lambda n: abs(size(n) - goal)))
