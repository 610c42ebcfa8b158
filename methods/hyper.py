"""Which hyper-parameters a method takes, and how given ones become the tensors it reads."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeGuard

import torch

from .matched_norm import MATCHED_NORM, matched_norm
from .method import Choice, Count, Hyper, Method, Number, Values
from .registry import METHODS

Setting = float | int | str | tuple[float, ...] | None
"""A checked hyper-parameter; None stands for equal task weights."""


class HyperError(ValueError):
    """A hyper-parameter that a method refuses: `parameter` names it, `message` says why."""

    def __init__(self, parameter: str, message: str) -> None:
        super().__init__(message)
        self.parameter = parameter
        self.message = message


@dataclass(frozen=True)
class Configured:
    """A method with a checked setting for every one of its hyper-parameters."""

    method: Method
    values: Mapping[str, Setting]


def method_named(name: str) -> Method:
    """The method that a config, a Balancer or `aggregate` calls `name`.

    `torchjd:NAME(arguments)` is an aggregator or weighting of TorchJD where that is installed,
    `matched_norm:NAME` a method's control (`matched_norm`). Raises ValueError for an unknown one,
    with the nearest spelling.
    """
    if name.startswith(MATCHED_NORM):
        return matched_norm(method_named(name.removeprefix(MATCHED_NORM)))
    if name.startswith("torchjd:"):
        from .torchjd_bridge import torchjd_method  # it needs this module's words

        return torchjd_method(name)
    if name not in METHODS:
        raise ValueError(f"unknown method {name!r}{nearest(name, METHODS)}")
    return METHODS[name]


def make(name: str, **hyper: object) -> Configured:
    """The method called `name` with these hyper-parameters and defaults for the others.

    Raises ValueError for an unknown method, HyperError (a ValueError) for a hyper-parameter that is
    unknown, out of range or of the wrong type.
    """
    method = method_named(name)
    check_hyper(method, hyper)
    values = {key: _setting(kind, hyper.get(key)) for key, kind in method.hyper.items()}
    check_together(method, values)
    return Configured(method, MappingProxyType(values))


def check_hyper(method: Method, hyper: Mapping[str, object], tasks: int | None = None) -> None:
    """Refuse hyper-parameters that `method` cannot take.

    tasks: how many there are, where that is known; task weights are then counted.
    Raises HyperError for the first wrong one.
    """
    for name, found in hyper.items():
        if name not in method.hyper:
            near = nearest(name, method.hyper)
            raise HyperError(name, f"{method.name} has no hyper-parameter {name!r}{near}")
        kind = method.hyper[name]
        if isinstance(kind, Number):
            _check_number(name, kind, found, tasks)
        elif isinstance(kind, Count):
            _check_count(name, kind, found)
        elif isinstance(kind, Choice):
            _check_choice(name, kind, found)
        else:
            check_task_weights(name, found, tasks)


def check_together(method: Method, values: Mapping[str, object]) -> None:
    """Refuse hyper-parameters, each of them allowed, that do not fit each other.

    values: all of them, defaults included. Raises HyperError for the first wrong one.
    """
    for name, kind in method.hyper.items():
        if isinstance(kind, Number) and kind.below:
            found, limit = values[name], values[kind.below]
            if isinstance(found, float) and isinstance(limit, int | float) and found >= limit:
                rule = f"a whole number below `{kind.below}`, which is {limit:g}"
                raise HyperError(name, f"`{name}` must be {rule}; found {found:g}")


def values_for(
    configured: Configured, tasks: int, batch: tuple[int, ...] = (), device: str = "cpu"
) -> Values:
    """The hyper-parameters as `Method.step` takes them, the same for every run of a batch.

    Numbers have shape `batch`, task weights (*batch, tasks), float64; counts are integers. Raises
    HyperError if task weights are not `tasks` many, or a task's number is not below `tasks`.
    """
    check_for_tasks(configured, tasks)
    return spread_values(configured, tasks, batch, torch.device(device))


def check_for_tasks(configured: Configured, tasks: int) -> None:
    """Refuse task weights that are not `tasks` many, and a task's number that is not below."""
    given = {name: found for name, found in configured.values.items() if found is not None}
    check_hyper(configured.method, given, tasks)


def spread_values(
    configured: Configured, tasks: int, batch: tuple[int, ...], device: torch.device
) -> Values:
    """`values_for` without its checks."""
    values: dict[str, torch.Tensor | str | int] = {}
    for name, found in configured.values.items():
        if isinstance(found, str | int):
            values[name] = found
        elif isinstance(found, float):
            values[name] = torch.full(batch, found, dtype=torch.float64, device=device)
        elif found is None:
            shape = (*batch, tasks)
            values[name] = torch.full(shape, 1 / tasks, dtype=torch.float64, device=device)
        else:
            row = torch.tensor(found, dtype=torch.float64, device=device)
            values[name] = row.expand(*batch, tasks)
    return values


def _setting(kind: Hyper, found: object) -> Setting:
    """A checked value in its canonical type, or the default where None was given."""
    if isinstance(kind, Choice):
        return found if isinstance(found, str) else kind.options[0]
    if isinstance(kind, Count):
        return int(found) if isinstance(found, int | float) else kind.default
    if isinstance(kind, Number):
        return float(found) if isinstance(found, int | float) else float(kind.default)
    return tuple(float(w) for w in found) if isinstance(found, Iterable) else None


def _check_number(name: str, kind: Number, found: object, tasks: int | None) -> None:
    high = kind.high if not kind.task or tasks is None else tasks - 1
    whole = kind.whole or kind.task
    word = "a whole number" if whole else "a number"
    rule = f"`{name}` must be {word} from {kind.low:g} to {high:g}; found {found!r}"
    if not _is_number(found) or not kind.low <= found <= high or math.isinf(found):
        raise HyperError(name, rule)
    if whole and found != round(found):
        raise HyperError(name, rule)


def _check_count(name: str, kind: Count, found: object) -> None:
    whole = _is_number(found) and math.isfinite(found) and found == round(found)
    if not (whole and _is_number(found) and kind.low <= found <= kind.high):
        rule = f"a whole number from {kind.low} to {kind.high}"
        raise HyperError(name, f"`{name}` must be {rule}; found {found!r}")


def _check_choice(name: str, kind: Choice, found: object) -> None:
    if not isinstance(found, str) or found not in kind.options:
        allowed = ", ".join(kind.options)
        raise HyperError(name, f"`{name}` must be one of {allowed}; found {found!r}")


def check_task_weights(name: str, found: object, tasks: int | None) -> list[float]:
    """The weights as numbers. Raises HyperError if they are not one allowed number a task."""
    wanted = "one number a task" if tasks is None else f"{tasks} numbers, one a task"
    rule = f"`{name}` must be {wanted}, none negative or infinite, not all zero; found {found!r}"
    if not isinstance(found, Iterable) or isinstance(found, str | Mapping):
        raise HyperError(name, rule)
    weights = list(found)
    numbers = [float(w) for w in weights if _is_number(w) and 0 <= w < math.inf]
    right_count = len(weights) > 0 if tasks is None else len(weights) == tasks
    if not right_count or len(numbers) != len(weights) or sum(numbers) <= 0:
        raise HyperError(name, rule)
    return numbers


def _is_number(found: object) -> TypeGuard[int | float]:
    return isinstance(found, int | float) and not isinstance(found, bool)


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: the nearest spelling and all that are known."""
    names = list(known)
    if not names:
        return "; it has none"
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ";"
    return f"{hint} known: {', '.join(names)}"
