"""Which parameters two or more tasks share, and whether outputs and losses fit the tasks."""

from __future__ import annotations

import sysconfig
import traceback
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from mtofront.methods import Method, from_losses
from mtofront.problems import Problem, ProblemError, Split, Task

STANDARD = sysconfig.get_path("stdlib")


@dataclass(frozen=True)
class Sharing:
    """Names of the parameters by who uses them.

    shared: two or more tasks; none in a single-task problem. heads: for each task, those it uses
    alone.
    last: those of the last shared layer, in the order in which the module registers them.
    """

    shared: tuple[str, ...]
    heads: tuple[tuple[str, ...], ...]
    last: tuple[str, ...]

    @property
    def trained(self) -> tuple[str, ...]:
        """All parameters that some task uses, without repetition."""
        return (*self.shared, *(name for head in self.heads for name in head))


def first_rows(problem: Problem, rows: int = 2) -> Split:
    """The first rows of the training split, enough to try things on."""
    return problem.train.rows(slice(rows))


def outputs_of(problem: Problem, module: nn.Module, inputs: Tensor) -> Sequence[Tensor]:
    """What the network answers, one output a task. Raises ProblemError if it is anything else."""
    try:
        outputs = module(inputs)
    except ProblemError:
        raise
    except Exception as error:  # a mistake in someone's own network
        raise ProblemError(
            f"problem {problem.name!r}: forward fails on inputs of shape {tuple(inputs.shape)}, "
            f"{inputs.dtype}: {said(error)}"
        ) from error
    fits = isinstance(outputs, Sequence) and len(outputs) == len(problem.tasks)
    if not fits or not all(isinstance(output, Tensor) for output in outputs):
        found = len(outputs) if isinstance(outputs, Sequence) else type(outputs).__name__
        raise ProblemError(
            f"problem {problem.name!r}: forward must return a sequence with one output a task "
            f"({len(problem.tasks)}), each a tensor; found {found}"
        )
    return list(outputs)


def loss_of(problem: Problem, task: Task, output: Tensor, target: Tensor, split: str) -> Tensor:
    """A task's loss. Raises ProblemError if it cannot be computed or is no scalar."""
    where = f"problem {problem.name!r}, task {task.name!r}, split {split!r}"
    shapes = (
        f"output {tuple(output.shape)} {output.dtype}, target {tuple(target.shape)} {target.dtype}"
    )
    try:
        with warnings.catch_warnings():  # torch warns, and computes something else than was meant
            warnings.filterwarnings("error", "Using a target size")
            loss = task.loss(output, target)
    except Exception as error:  # a loss that does not fit its data
        raise ProblemError(
            f"{where}: the loss cannot be computed from {shapes}: {said(error)}"
        ) from error
    if not isinstance(loss, Tensor) or loss.ndim:
        found = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise ProblemError(
            f"{where}: the loss must be a scalar that depends on the parameters, a mean over the "
            f"rows; found {found} from {shapes}"
        )
    return loss


def said(error: Exception) -> str:
    """An error in one line, with the place in someone's own file where it came up."""
    own = [f for f in traceback.extract_tb(error.__traceback__) if _is_own(f.filename)]
    place = f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}{place}"


def _is_own(filename: str) -> bool:
    """Whether a file is neither this package's, nor torch's or another installed package's."""
    foreign = ("site-packages", "dist-packages", str(Path(__file__).parent), "<", STANDARD)
    return not any(part in filename for part in foreign)


def sharing_of(problem: Problem, module: nn.Module) -> Sharing:
    """Who uses which parameter, read off the gradients of one small minibatch.

    Raises ProblemError if outputs or losses do not fit, or if a task shares nothing and the problem
    does not say so.
    """
    module.eval()
    params = dict(module.named_parameters())
    users: Mapping[str, set[int]] = {name: set() for name in params}
    for position, loss in enumerate(_task_losses(problem, module)):
        for name in _reached(problem, problem.tasks[position], loss, params):
            users[name].add(position)
    enough = min(2, len(problem.tasks))
    shared = tuple(name for name, who in users.items() if len(who) >= enough)
    _refuse_unshared(problem, users, shared)
    heads = tuple(
        tuple(n for n, who in users.items() if who == {position} and n not in shared)
        for position in range(len(problem.tasks))
    )
    return Sharing(shared, heads, _last_layer(params, shared))


def _refuse_unshared(
    problem: Problem, users: Mapping[str, set[int]], shared: Sequence[str]
) -> None:
    if problem.single_task and len(problem.tasks) > 1:
        if shared:
            raise ProblemError(
                f"problem {problem.name!r}: single_task says that tasks share no parameter, but "
                f"{len(shared)} are used by several, the first is {shared[0]!r}. Give each task a "
                "network of its own, or leave single_task out"
            )
        return
    if not shared:
        raise ProblemError(
            f"problem {problem.name!r}: at least one parameter must be shared by two tasks; every "
            "parameter is used by one task or none. Give the network a common trunk, or say "
            "Problem(..., single_task=True) if each task is to have a network of its own"
        )
    for position, task in enumerate(problem.tasks):
        if not any(position in users[name] for name in shared):
            raise ProblemError(
                f"problem {problem.name!r}, task {task.name!r}: every task needs a parameter that "
                "it shares with another; found none, so there is no trade-off with this task. "
                "Give it the common trunk, or train it on its own"
            )


def refuse_unfit(problem: Problem, method: Method) -> None:
    """Raises ProblemError for a method of shared parameters where tasks share none."""
    if not problem.single_task or len(problem.tasks) < 2:
        return
    if not from_losses(method) or method.layer == "last" or method.scheme:
        raise ProblemError(
            f"problem {problem.name!r}: in this network tasks share no parameter, and "
            f"{method.name} works on shared ones; methods that only weight the losses (needs: "
            "losses), like linear, can train it. Choose another network"
        )


def _task_losses(problem: Problem, module: nn.Module) -> list[Tensor]:
    split = first_rows(problem)
    outputs = outputs_of(problem, module, split.inputs)
    losses = []
    for task, output, target in zip(problem.tasks, outputs, split.targets, strict=True):
        loss = loss_of(problem, task, output, target, "train")
        if not loss.requires_grad:
            raise ProblemError(
                f"problem {problem.name!r}, task {task.name!r}: the loss must be a scalar that "
                f"depends on the parameters; found shape {tuple(loss.shape)}, "
                f"requires_grad={loss.requires_grad}"
            )
        losses.append(loss)
    return losses


def _reached(
    problem: Problem, task: Task, loss: Tensor, params: Mapping[str, nn.Parameter]
) -> list[str]:
    """Names of the parameters that a loss depends on."""
    wanted = {name: value for name, value in params.items() if value.requires_grad}
    try:
        grads = torch.autograd.grad(
            loss, list(wanted.values()), retain_graph=True, allow_unused=True
        )
    except Exception as error:  # like a mean squared error of whole numbers
        raise ProblemError(
            f"problem {problem.name!r}, task {task.name!r}: the loss has no gradient: {said(error)}"
        ) from error
    return [name for name, grad in zip(wanted, grads, strict=True) if grad is not None]


def _last_layer(params: Mapping[str, Tensor], shared: Sequence[str]) -> tuple[str, ...]:
    """Shared parameters of the last module that holds a shared weight matrix (or any, if none)."""
    if not shared:
        return ()
    matrices = [name for name in shared if params[name].ndim >= 2] or list(shared)
    owner = matrices[-1].rpartition(".")[0]
    return tuple(name for name in shared if name.rpartition(".")[0] == owner)
