"""A problem looked at before it is trained: data, every row's losses, sharing, batching."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mtofront.problems import (
    Overlap,
    Problem,
    ProblemError,
    Split,
    Task,
    known,
    labelled_share,
    refuse_bad_data,
    unfinite_rows,
)

from .evaluate import ROWS, rows_at_once
from .network import why_not_batched
from .sharing import Sharing, first_rows, loss_of, outputs_of, said, sharing_of

CHUNK = 256
GLIMPSE = 4096
"""So many rows of each split, and one for each further label, are tried before a sweep starts."""
STEP_ROWS, STEP_REPEATS = 32, 3
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Examination:
    """What is found of a problem that can be trained.

    parameters: shared, and each task's own. reason: why runs train one by one, empty if batched.
    losses: split -> each task's at initialisation. step_seconds: one step of one run of
    `step_rows` rows, forward and backward. notes: what is allowed and yet may be a mistake.
    """

    problem: Problem
    sharing: Sharing
    shared: int
    heads: tuple[int, ...]
    reason: str
    losses: dict[str, tuple[float, ...]]
    step_seconds: float
    step_rows: int
    notes: tuple[str, ...]


def admit(problem: Problem) -> tuple[str, ...]:
    """Notes for the user on a problem that may be trained. Raises ProblemError if it may not.

    Looks at all data, and at the losses of some thousand rows of each split.
    """
    overlap = refuse_bad_data(problem)
    module = _initial(problem)
    for name in problem.splits():
        _measured(problem, module, name, GLIMPSE)
    sharing_of(problem, module)
    return _notes(problem, overlap)


def examine(problem: Problem) -> Examination:
    """All there is to know without training. Raises ProblemError for what may not be trained.

    Measures every row of every split.
    """
    overlap = refuse_bad_data(problem)
    module = _initial(problem)
    losses = {name: _measured(problem, module, name, None) for name in problem.splits()}
    sharing = sharing_of(problem, module)
    sizes = {name: value.numel() for name, value in module.named_parameters()}
    rows = min(STEP_ROWS, len(problem.train))
    return Examination(
        problem=problem,
        sharing=sharing,
        shared=sum(sizes[name] for name in sharing.shared),
        heads=tuple(sum(sizes[name] for name in head) for head in sharing.heads),
        reason=why_not_batched(problem, module, sharing),
        losses=losses,
        step_seconds=_step_seconds(problem, module, rows),
        step_rows=rows,
        notes=(*_notes(problem, overlap), *_no_means(problem, module), *_idle(sharing, sizes)),
    )


def _notes(problem: Problem, overlap: tuple[Overlap, ...]) -> tuple[str, ...]:
    return tuple(f"problem {problem.name!r}: {found.sentence()}" for found in overlap)


def _initial(problem: Problem) -> nn.Module:
    """A network that says the same at every look. Raises ProblemError if none can be made."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            return problem.model()
        except Exception as error:  # a mistake in someone's own network
            raise ProblemError(
                f"problem {problem.name!r}: its network cannot be made: {said(error)}"
            ) from error


def _measured(
    problem: Problem, module: nn.Module, name: str, glimpse: int | None
) -> tuple[float, ...]:
    """Each task's loss on (a glimpse of) a split, before training.

    Raises ProblemError with task, split and row if a loss cannot be computed or is not finite.
    """
    split = problem.splits()[name]
    module.eval()
    block = rows_at_once(split)
    rows = _rows(split, glimpse and min(glimpse, GLIMPSE * block // ROWS))
    totals = [0.0] * len(problem.tasks)
    with torch.no_grad():
        for part in torch.split(rows, min(CHUNK, block)):
            values = _losses(problem, module, name, part)
            for n, value in enumerate(values):
                task, target = problem.tasks[n], split.targets[n]
                share: float | Tensor = len(part) / len(rows)
                if task.missing:
                    share = labelled_share(task, target[part], target[rows])
                totals[n] += value * float(share)
    return tuple(totals)


def _rows(split: Split, glimpse: int | None) -> Tensor:
    """Numbers of the rows to look at: all, or the first, one of each label and a bad one."""
    count = len(split)
    if glimpse is None or count <= glimpse:
        return torch.arange(count)
    chosen = [np.arange(glimpse)]
    for target in split.targets:
        chosen.append(unfinite_rows(target)[:1].numpy())
        if target.ndim == 1 and not target.is_floating_point():
            labels, first = np.unique(target.cpu().numpy(), return_index=True)
            if len(labels) <= glimpse:
                chosen.append(first)
    return torch.from_numpy(np.unique(np.concatenate(chosen)))


def _losses(problem: Problem, module: nn.Module, name: str, rows: Tensor) -> Iterator[float]:
    split = problem.splits()[name]
    part = split.rows(rows.to(split.inputs.device))
    outputs = outputs_of(problem, module, part.inputs)
    for n, (task, output) in enumerate(zip(problem.tasks, outputs, strict=True)):
        if len(output) != len(rows):
            raise ProblemError(
                f"problem {problem.name!r}, task {task.name!r}, split {name!r}: an output needs "
                f"one row an input row; found shape {tuple(output.shape)} for {len(rows)} rows"
            )
        if task.missing and not torch.isfinite(output).all():  # though the row has no label
            _refuse_row(problem, task, output, part.targets[n], name, rows)
        try:
            loss = loss_of(problem, task, output, part.targets[n], name)
        except ProblemError:
            _refuse_row(problem, task, output, part.targets[n], name, rows)
            raise
        if not torch.isfinite(loss):
            _refuse_row(problem, task, output, part.targets[n], name, rows)
            raise ProblemError(
                f"problem {problem.name!r}, task {task.name!r}, split {name!r}: the loss is "
                f"{loss.item()} at initialisation for rows {rows[0]} to {rows[-1]}"
            )
        yield loss.item()


def _refuse_row(
    problem: Problem, task: Task, output: Tensor, target: Tensor, name: str, rows: Tensor
) -> None:
    """Raise ProblemError for the first row whose loss fails where other rows' do not."""
    reasons = [_wrong(problem, task, output[n], target[n], name) for n in range(len(rows))]
    failing = [n for n, reason in enumerate(reasons) if reason]
    if not failing:
        return
    own = ("NaN", "out of range", "IndexError")
    if len(failing) == len(rows) and not any(word in reasons[0] for word in own):
        return  # it is no row's fault, but that of all shapes
    first = failing[0]
    raise ProblemError(
        f"problem {problem.name!r}, task {task.name!r}, split {name!r}, row {int(rows[first])}: "
        f"{reasons[first]}"
    )


def _wrong(problem: Problem, task: Task, output: Tensor, target: Tensor, name: str) -> str:
    """What is wrong with one row's loss; empty if nothing is."""
    if not torch.isfinite(output).all():
        return "the network's output is NaN or infinite at initialisation"
    try:
        loss = loss_of(problem, task, output.unsqueeze(0), target.unsqueeze(0), name)
    except ProblemError as error:
        cause = error.__cause__
        reason = said(cause) if isinstance(cause, Exception) else str(error)
        if isinstance(cause, IndexError) and target.ndim == 0 and output.ndim == 1:
            return (
                f"label {target.item()} is out of range for the {len(output)} classes of the "
                f"network's output ({reason})"
            )
        return reason
    if torch.isfinite(loss):
        return ""
    held = "; its target holds NaN or infinity" if len(unfinite_rows(target.unsqueeze(0))) else ""
    return f"the loss is NaN or infinite ({loss.item()}){held}"


def _no_means(problem: Problem, module: nn.Module) -> Iterator[str]:
    """Tasks whose loss is not the mean of the rows' losses, as when shapes broadcast."""
    module.eval()
    with torch.no_grad():
        for n, task in enumerate(problem.tasks):
            rows = problem.train.rows(_first_labelled(task, problem.train.targets[n]))
            if len(rows) < 2:
                continue
            output = outputs_of(problem, module, rows.inputs)[n]
            target = rows.targets[n]
            both = task.loss(output, target).item()
            rows_apart = [(output[k : k + 1], target[k : k + 1]) for k in range(2)]
            single = [task.loss(*row).item() for row in rows_apart]
            shares = [float(labelled_share(task, row[1], target)) for row in rows_apart]
            mean = statistics.fmean(single, shares)
            if not abs(both - mean) <= TOLERANCE * max(abs(both), abs(mean)):
                yield (
                    f"problem {problem.name!r}, task {task.name!r}: the loss of two rows, "
                    f"{both:.6g}, is not the mean of the two rows' losses, {mean:.6g}. That is "
                    "right for a weighted mean, and wrong if output "
                    f"{tuple(output.shape)} and target {tuple(target.shape)} do not fit"
                )


def _first_labelled(task: Task, target: Tensor) -> Tensor:
    """Numbers of the first two rows that have a label."""
    if not task.missing:
        return torch.arange(min(2, len(target)))
    return known(target).reshape(len(target), -1).any(1).nonzero()[:2, 0]


def _idle(sharing: Sharing, sizes: dict[str, int]) -> Iterator[str]:
    """Parameters that no loss depends on."""
    idle = [name for name in sizes if name not in sharing.trained]
    if idle:
        yield f"no task uses {len(idle)} parameter tensors, the first is {idle[0]!r}"


def _step_seconds(problem: Problem, module: nn.Module, rows: int) -> float:
    """Forward and backward of all tasks together, the median of a few."""
    part = first_rows(problem, rows)
    module.train()
    trained = [value for value in module.parameters() if value.requires_grad]
    taken = []
    for _ in range(STEP_REPEATS):
        start = time.perf_counter()
        outputs = module(part.inputs)
        losses = [
            task.loss(output, target)
            for task, output, target in zip(problem.tasks, outputs, part.targets, strict=True)
        ]
        torch.autograd.grad(torch.stack(losses).sum(), trained, allow_unused=True)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)
