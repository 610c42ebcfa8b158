"""Which module's output is the shared representation: the place that all tasks' gradients pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mtofront.problems import Problem, ProblemError, Split


@dataclass(frozen=True)
class Representation:
    """module: the name of the submodule whose output it is. row: zeros like one example's."""

    module: str
    row: Tensor


def representation(
    problem: Problem, module: nn.Module, shared: Sequence[str], rows: Split
) -> Representation:
    """The representation that separates the shared parameters from the losses.

    It is the problem's own `features`, or the last module that ran of those that hold shared
    parameters only. Raises ProblemError if there is none, or if a loss reaches a shared
    parameter past its output.
    """
    name = problem.features or _last_trunk(problem, module, shared, rows)
    modules = dict(module.named_modules())
    if name not in modules:
        raise ProblemError(
            f"problem {problem.name!r}: `features` must name a submodule of the network; found "
            f"{name!r}; there are {', '.join(key for key in modules if key)}"
        )
    module.eval()
    past, output = _reached_past(problem, module, modules[name], shared, rows)
    if past:
        raise ProblemError(
            f"problem {problem.name!r}: for `level: features` all shared parameters must act "
            f"through one representation, but a loss reaches {past} past the output of module "
            f"{name!r}. Name another module with Problem(features=...), or use level: parameters"
        )
    return Representation(name, torch.zeros_like(output[0]))


def _last_trunk(problem: Problem, module: nn.Module, shared: Sequence[str], rows: Split) -> str:
    """The last module to run among the outermost ones whose parameters are all shared."""
    known = set(shared)
    trunks: dict[str, nn.Module] = {}
    for name, part in module.named_modules():
        own = [f"{name}.{key}" for key, _ in part.named_parameters()]
        inside = any(name.startswith(f"{outer}.") for outer in trunks)
        if name and own and not inside and known.issuperset(own):
            trunks[name] = part
    ran: list[str] = []
    handles = [
        part.register_forward_hook(lambda *_, name=name: ran.append(name))
        for name, part in trunks.items()
    ]
    try:
        module(rows.inputs)
    finally:
        for handle in handles:
            handle.remove()
    if not ran:
        raise ProblemError(
            f"problem {problem.name!r}: for `level: features` the shared parameters must lie in "
            "modules of their own; found none. Name one with Problem(features=...)"
        )
    return ran[-1]


def _reached_past(
    problem: Problem, module: nn.Module, cut: nn.Module, shared: Sequence[str], rows: Split
) -> tuple[str, Tensor]:
    """A shared parameter that a loss still reaches when the cut module's output is held; that."""
    outputs: list[Tensor] = []

    def hold(_: nn.Module, __: object, output: Tensor) -> Tensor:
        outputs.append(output)
        if not isinstance(output, Tensor) or len(output) != len(rows):
            raise ProblemError(
                f"problem {problem.name!r}: a representation is one tensor with one row an "
                f"example; found {type(output).__name__}"
            )
        return output.detach().requires_grad_()

    handle = cut.register_forward_hook(hold)
    try:
        answers = module(rows.inputs)
    finally:
        handle.remove()
    if len(outputs) != 1:
        raise ProblemError(
            f"problem {problem.name!r}: the representation must be computed once in a forward "
            f"pass; its module ran {len(outputs)} times"
        )
    losses = [
        task.loss(answer, target)
        for task, answer, target in zip(problem.tasks, answers, rows.targets, strict=True)
    ]
    params = dict(module.named_parameters())
    grads = torch.autograd.grad(
        torch.stack(losses).sum(), [params[n] for n in shared], allow_unused=True
    )
    past = next((n for n, grad in zip(shared, grads, strict=True) if grad is not None), "")
    return past, outputs[0].detach()
