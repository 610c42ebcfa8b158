"""What `mtofront check` prints of a problem, and the same facts for a script."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from mtofront.problems import known
from mtofront.sweep import Examination


def check_facts(examined: Examination) -> dict[str, Any]:
    """Everything that was found, as plain values."""
    problem, truth = examined.problem, examined.problem.truth
    return {
        "problem": problem.name,
        "tasks": [task.name for task in problem.tasks],
        "metrics": {task.name: sorted(task.metrics) for task in problem.tasks},
        "rows": {name: len(split) for name, split in problem.splits().items()},
        "labels": {
            task.name: {
                name: int(known(split.targets[n]).sum()) for name, split in problem.splits().items()
            }
            for n, task in enumerate(problem.tasks)
            if task.missing
        },
        "initial_losses": {
            name: dict(zip((task.name for task in problem.tasks), losses, strict=True))
            for name, losses in examined.losses.items()
        },
        "shared_parameters": examined.shared,
        "own_parameters": dict(
            zip((task.name for task in problem.tasks), examined.heads, strict=True)
        ),
        "batched": not examined.reason,
        "reason": examined.reason,
        "step_seconds": examined.step_seconds,
        "step_rows": examined.step_rows,
        "reference": truth.reference.tolist() if truth else None,
        "best_hypervolume": truth.hypervolume if truth else None,
        "notes": list(examined.notes),
    }


def check_table(examined: Examination, console: Console) -> None:
    """A line a task, and what holds for all of them."""
    facts = check_facts(examined)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("task", overflow="fold")
    for heading in (*(f"{name} loss" for name in facts["rows"]), "own parameters", "metrics"):
        table.add_column(heading, justify="left" if heading == "metrics" else "right")
    for task in facts["tasks"]:
        losses = [format(by_task[task], ".4g") for by_task in facts["initial_losses"].values()]
        own = f"{facts['own_parameters'][task]:,}"
        table.add_row(task, *losses, own, ", ".join(facts["metrics"][task]) or "–")
    console.print(table)
    rows = ", ".join(f"{name} {count:,}" for name, count in facts["rows"].items())
    labels = [
        f"Labels of {task}: {', '.join(f'{name} {count:,}' for name, count in counts.items())}."
        for task, counts in facts["labels"].items()
    ]
    shared = f"{facts['shared_parameters']:,} parameters are shared by two tasks or more."
    if not facts["shared_parameters"]:
        shared = "Tasks share no parameter: only methods that weight the losses can train it."
    lines = [
        f"Losses are those before training. Rows: {rows}.",
        *labels,
        shared,
        "Runs train side by side, as one batched computation."
        if facts["batched"]
        else f"Runs train one by one: {facts['reason']}.",
        f"A step of one run with {facts['step_rows']} rows, forward and backward: "
        f"{1000 * facts['step_seconds']:.1f} ms.",
    ]
    if facts["best_hypervolume"] is not None:
        point = ", ".join(format(value, ".4g") for value in facts["reference"])
        lines.append(
            f"The true front is known: best hypervolume {facts['best_hypervolume']:.5g} from "
            f"({point})."
        )
    lines += [f"note: {note}" for note in facts["notes"]]
    lines.append("The problem can be trained.")
    for line in lines:
        console.print(line, highlight=False, markup=False)
