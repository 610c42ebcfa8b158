"""From a Jacobian to one direction: a method's first step, applied to gradients from anywhere."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from .gramian import gramian_of
from .hyper import make, values_for
from .method import Signals


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
    is shown this one twice. Products of gradients are formed in float64 and the
    result has the Jacobian's dtype; a Jacobian that holds NaN or inf gives NaN.
    Raises ValueError for an unknown method, wrong shapes or missing losses, HyperError for a wrong
    hyper-parameter.
    """
    configured = make(name, **hyper)
    _check_shapes(jacobian, losses)
    method = configured.method
    batch, tasks = jacobian.shape[:-2], jacobian.shape[-2]
    wide = jacobian.detach().double()
    # NaN runs through every computation, so it shows whether the answer depends on the losses
    unknown = wide.new_full(wide.shape[:-1], torch.nan) if losses is None else losses.detach()
    wants_gramian = method.needs != "losses" or method.independent
    gramian = gramian_of(wide) if wants_gramian else None
    signals = Signals(
        losses=unknown.to(wide),
        noise=_drawn((*batch, method.noise(tasks)), generator, wide),
        gramian=gramian,
        jacobian=wide if method.needs == "jacobian" else None,
        independent=gramian if method.independent else None,
    )
    values = values_for(configured, tasks, tuple(batch), str(wide.device))
    zeros = wide.new_zeros(wide.shape if method.needs == "jacobian" else wide.shape[:-1])
    answer, _ = method.step(signals, method.init(zeros), values)
    if losses is None and bool(answer.isnan().any()):
        known = replace(signals, losses=torch.ones_like(unknown))
        again, _ = method.step(known, method.init(zeros), values)
        if bool((answer.isnan() & ~again.isnan()).any()):
            raise ValueError(
                f"what {name} answers depends on the losses; pass losses=, shape (..., T)"
            )
    if method.answers != "weights":
        return answer.to(jacobian.dtype)
    if wide.ndim == 2:
        return (answer @ wide).to(jacobian.dtype)
    return (answer.unsqueeze(-2) @ wide).squeeze(-2).to(jacobian.dtype)


def _drawn(shape: tuple[int, ...], generator: torch.Generator | None, wide: Tensor) -> Tensor:
    """Uniform random numbers (*shape) beside the Jacobian; see `aggregate`."""
    if shape[-1] == 0:
        return wide.new_empty(shape)
    source = torch.Generator().manual_seed(0) if generator is None else generator
    return torch.rand(shape, generator=source, dtype=torch.float64).to(wide.device)


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
