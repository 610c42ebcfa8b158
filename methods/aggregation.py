"""From a Jacobian to one direction: a method's first step, applied to gradients from anywhere."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from .gramian import gramian_of
from .hyper import Configured, check_for_tasks, make, spread_values
from .method import Method, Signals, State, Values, no_state

LARGEST_SQUARE = 1e30
"""Squared norms between this and its inverse are far from where single precision ends."""


def aggregate(
    name: str,
    jacobian: Tensor,
    losses: Tensor | None = None,
    generator: torch.Generator | None = None,
    **hyper: object,
) -> Tensor:
    """The direction (..., P) that a method makes of the tasks' gradients, in its paper's scale.

    jacobian: (..., T, P) floating, one row a task; leading dimensions are independent problems.
    losses: (..., T), for methods whose answer depends on them.
    generator: on the CPU, for methods that draw; None means a new one seeded with 0, so that two
        calls agree.
    The method starts from its fresh state. One that wants two independent samples of the gradients
    is shown this one twice. Products of single-precision gradients are added in float64 over short
    stretches, see `gramian_of`; the weighted sum is formed in the Jacobian's precision, at least
    single. A problem too large or too small for that is computed in float64. The result has the
    Jacobian's dtype; a Jacobian that holds NaN or inf gives NaN.
    Raises ValueError for an unknown method, wrong shapes or missing losses, HyperError for a wrong
    hyper-parameter.
    """
    _check_shapes(jacobian, losses)
    batch, tasks = tuple(jacobian.shape[:-2]), jacobian.shape[-2]
    configured = _configured(name, tasks, hyper)
    method = configured.method
    rows = jacobian.detach()
    if rows.dtype != torch.float64:
        # merged networks are few, and what the ways there go through may be tiny
        rows = rows.double() if method.scheme == "merge" else rows.float()
    # NaN runs through every computation, so it shows whether the answer depends on the losses
    unknown = rows.new_full((*batch, tasks), torch.nan, dtype=torch.float64)
    shown = unknown if losses is None else losses.detach().to(unknown)
    noise = _drawn((*batch, method.noise(tasks)), generator, unknown)
    values = spread_values(configured, tasks, batch, unknown.device)
    answer, direction, squares = _first_step(method, rows, shown, noise, values)
    if _is_moderate(squares) and math.isfinite(float(direction.sum())):
        return direction.to(jacobian.dtype)
    serves = direction.isfinite().all(-1, keepdim=True)
    if squares is not None:
        inside = (squares >= 1 / LARGEST_SQUARE) & (squares <= LARGEST_SQUARE)
        serves = serves & inside.all(-1, keepdim=True)
    if rows.dtype != torch.float64:
        rows = rows.double()
        answer, wide, _ = _first_step(method, rows, shown, noise, values)
        direction = torch.where(serves, direction.double(), wide)
    if losses is None and bool(answer.isnan().any()):
        again, _, _ = _first_step(method, rows, torch.ones_like(unknown), noise, values)
        if bool((answer.isnan() & ~again.isnan()).any()):
            raise ValueError(
                f"what {name} answers depends on the losses; pass losses=, shape (..., T)"
            )
    return direction.to(jacobian.dtype)


def _first_step(
    method: Method, rows: Tensor, losses: Tensor, noise: Tensor, values: Values
) -> tuple[Tensor, Tensor, Tensor | None]:
    """A method's first answer, the direction (..., P) that it means, and squared norms (..., T).

    The norms are given where they say whether single precision served: not where the rows have
    double, nor for a method that looks at no products.
    """
    gramian, squares = None, None
    if method.needs == "gramian" or method.independent:
        gramian = gramian_of(rows)
        squares = None if rows.dtype == torch.float64 else gramian.diagonal(dim1=-2, dim2=-1)
    signals = Signals(
        losses=losses,
        noise=noise,
        gramian=gramian,
        jacobian=rows if method.needs == "jacobian" else None,
        independent=gramian if method.independent else None,
    )
    state: State = {}
    if method.init is not no_state:
        state = method.init(torch.zeros_like(rows if method.needs == "jacobian" else losses))
    answer, _ = method.step(signals, state, values)
    if method.answers != "weights":
        return answer, answer, squares
    near = answer.to(rows.dtype)
    if rows.ndim == 2:
        return answer, near @ rows, squares
    return answer, (near.unsqueeze(-2) @ rows).squeeze(-2), squares


def _is_moderate(squares: Tensor | None) -> bool:
    """Whether single precision holds the products of all gradients with these squared norms."""
    if squares is None:
        return True
    least, most = torch.aminmax(squares)
    return float(least) >= 1 / LARGEST_SQUARE and float(most) <= LARGEST_SQUARE


def _configured(name: str, tasks: int, hyper: dict[str, object]) -> Configured:
    """The method with hyper-parameters that are checked, and remembered where they are plain."""
    plain = all(type(found) in (bool, int, float, str) for found in hyper.values())
    return _remembered(name, tasks, **hyper) if plain else _checked(name, tasks, **hyper)


def _checked(name: str, tasks: int, /, **hyper: object) -> Configured:
    configured = make(name, **hyper)
    check_for_tasks(configured, tasks)
    return configured


# 1, 1.0 and True are equal, but not equally allowed
_remembered = lru_cache(maxsize=256, typed=True)(_checked)


def _drawn(shape: tuple[int, ...], generator: torch.Generator | None, beside: Tensor) -> Tensor:
    """Uniform random numbers (*shape) float64 on a tensor's device; see `aggregate`."""
    if shape[-1] == 0:
        return beside.new_empty(shape)
    source = torch.Generator().manual_seed(0) if generator is None else generator
    return torch.rand(shape, generator=source, dtype=torch.float64).to(beside.device)


def _check_shapes(jacobian: Tensor, losses: Tensor | None) -> None:
    if not jacobian.is_floating_point() or jacobian.ndim < 2 or jacobian.shape[-2] < 1:
        raise ValueError(
            "a Jacobian must be a floating tensor (..., T, P) with one row a task; "
            f"found {jacobian.dtype} of shape {tuple(jacobian.shape)}"
        )
    if losses is not None and losses.shape != jacobian.shape[:-1]:
        raise ValueError(
            "losses must have one number a row of the Jacobian, "
            f"shape {tuple(jacobian.shape[:-1])}; found {tuple(losses.shape)}"
        )
