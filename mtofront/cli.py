"""The command line: what a person types, what is printed, and the exit status."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from mtofront.analysis import (
    ComparisonError,
    Settings,
    coverage,
    explanations,
    judge_table,
    read_table,
    reservations,
    verdict_rows,
    write_report,
)
from mtofront.checks import check_facts, check_table
from mtofront.data import app as data_app
from mtofront.display import watch, watching
from mtofront.ending import FAILED, explained, patient, warned
from mtofront.methods import METHODS
from mtofront.problems import PROBLEMS
from mtofront.sweep import (
    Folder,
    Outcome,
    RequestError,
    Tracker,
    estimate,
    examine,
    load_config,
    named_problem,
    plan,
    status,
)
from mtofront.sweep import resume as resume_sweep
from mtofront.sweep import run as run_sweep
from mtofront.tables import (
    method_rows,
    method_table,
    plan_table,
    problem_rows,
    problem_table,
    status_table,
    verdict_table,
)

app = typer.Typer(
    help="Does multi-task optimisation help on your problem, or would tuned scalarization do?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(data_app, name="data")

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="a YAML file, see configs/")]
SweepFolder = Annotated[Path, typer.Argument(metavar="DIR", help="the folder of a sweep")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON for a script, and nothing else")]
Address = Annotated[
    str | None,
    typer.Option(metavar="ADDR", help="of a Ray cluster to join, like auto or HOST:PORT"),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="override a field, like budget.epochs=3"),
]


@app.command(epilog="Example: mtofront run configs/quickstart.yaml --set seeds=3")
def run(
    config: ConfigFile,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="results folder, default results/NAME")
    ] = None,
    settings: Overrides = None,
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Plan, train, analyse and report. Run again with the same config, it does what is missing."""
    loaded = load_config(config, settings or ())
    _train_and_report(
        lambda listen: run_sweep(loaded, out, address=address, listen=listen, note=_note), as_json
    )


@app.command(epilog="Example: mtofront resume results/quickstart")
def resume(
    directory: SweepFolder,
    storage: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="URI", help="the sweep's storage, if DIR is new or it was moved"
        ),
    ] = None,
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Finish what is missing in a sweep's folder; nothing that is done is done again."""
    _train_and_report(
        lambda listen: resume_sweep(directory, storage=storage, address=address, listen=listen),
        as_json,
    )


@app.command(name="plan", epilog="Example: mtofront plan configs/quickstart.yaml")
def plan_(config: ConfigFile, settings: Overrides = None, as_json: AsJson = False) -> None:
    """What would run: runs, packs, estimated time and backward passes. Nothing is started."""
    planned = plan(load_config(config, settings or ()))
    estimated = estimate(planned)
    for line in planned.notes:
        _note(line)
    if as_json:
        print(json.dumps(estimated.rows()))
    else:
        plan_table(planned, estimated, Console())


@app.command(name="status", epilog="Example: mtofront status results/quickstart --watch")
def status_(
    directory: SweepFolder,
    seconds: Annotated[
        float, typer.Argument(metavar="[SECONDS]", help="between two looks, with --watch", min=0.1)
    ] = 2.0,
    follow: Annotated[
        bool, typer.Option("--watch", help="draw how it stands, until the sweep has ended")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Expected, done, running, stopped, diverged, failed and missing runs, for each arm.

    With --watch: rates, time left, hypervolumes and the live front, from any terminal that sees
    the folder; at its end exit status 1 if runs failed or are missing.
    """
    if follow:
        if as_json:
            raise RequestError("--watch draws for people and --json prints once: choose one")
        last = watch(directory, Console(), seconds)
        if last.count("done") + last.count("stopped") + last.count("diverged") < last.count(
            "expected"
        ):
            Console(stderr=True).print(
                f"Nobody is working on it; go on with: mtofront resume {directory}",
                highlight=False,
                soft_wrap=True,
            )
            raise typer.Exit(FAILED)
        return
    counts = status(Folder(directory))
    ended = coverage(directory).set_index("arm")[["stopped", "diverged"]].T.to_dict()
    rows = [
        {
            "arm": arm,
            "expected": count["expected"],
            "done": count["recorded"] - sum(ended[arm].values()),
            "running": count["running"],
            "stopped": ended[arm]["stopped"],
            "diverged": ended[arm]["diverged"],
            "failed": count["failed"],
            "missing": count["missing"],
        }
        for arm, count in counts.items()
    ]
    if as_json:
        print(json.dumps(rows))
    else:
        status_table(rows, Console())


@app.command(epilog="Example: mtofront report results/quickstart")
def report(directory: SweepFolder, as_json: AsJson = False) -> None:
    """Analyse a sweep's records again: figures, tables and report/index.html."""
    _report(directory, as_json)


@app.command(epilog="Example: mtofront compare results.csv --baseline scalarization")
def compare(
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="CSV or Parquet, one row a run")],
    baseline: Annotated[str, typer.Option(help="the arm to compare with")] = "scalarization",
    tasks: Annotated[
        list[str] | None, typer.Option("--task", help="a task's column; all by default")
    ] = None,
    maximise: Annotated[
        list[str] | None, typer.Option("--maximise", help="a task's column: larger is better")
    ] = None,
    equivalence: Annotated[
        float, typer.Option(help="below which a difference does not matter, of the front's range")
    ] = 0.05,
    as_json: AsJson = False,
) -> None:
    """Verdicts for results from elsewhere: columns arm, seed and one a task, smaller is better."""
    settings = Settings(baseline=baseline, equivalence=equivalence)
    comparison = judge_table(read_table(table), settings, tasks or None, maximise or ())
    for line in reservations(comparison):
        _note(line)
    _print_verdicts(verdict_rows(comparison), as_json)


@app.command(epilog="Example: mtofront methods --json")
def methods(as_json: AsJson = False) -> None:
    """What methods there are, what each needs and costs, and its paper."""
    if as_json:
        print(json.dumps(method_rows(METHODS)))
    else:
        method_table(METHODS, Console())


@app.command(epilog="Example: mtofront problems")
def problems(as_json: AsJson = False) -> None:
    """What problems there are, and their options."""
    if as_json:
        print(json.dumps(problem_rows(PROBLEMS)))
    else:
        problem_table(PROBLEMS, Console())


@app.command(epilog="Example: mtofront check multidigits --set offset=3")
def check(
    problem: Annotated[
        str,
        typer.Argument(metavar="PROBLEM", help="a registry key, module:callable, or a config file"),
    ],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="an option of the problem"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Whether a problem can be trained, and what is in it. Nothing is trained or written."""
    examined = examine(named_problem(problem, settings or ()))
    if as_json:
        print(json.dumps(check_facts(examined)))
    else:
        check_table(examined, Console())


def _train_and_report(train: Callable[[Callable[[Tracker], None]], Outcome], as_json: bool) -> None:
    errors = Console(stderr=True)
    with watching(errors) as display:
        outcome = train(display.show)
    if outcome.evaluation_share is not None:
        share = f"{outcome.evaluation_share:.0%}"
        errors.print(f"Evaluations took {share} of the training workers' time.", highlight=False)
    for notice in outcome.notices:
        _note(notice)
    if outcome.failed:
        for line, packs in Counter(outcome.failed.values()).items():
            errors.print(f"{packs} packs failed: {line}", highlight=False, markup=False)
        errors.print(f"Try failed runs again with: mtofront resume {outcome.folder}")
    try:
        _report(outcome.folder, as_json)
    except ComparisonError as error:  # nothing was wrong with the request
        errors.print(f"no verdicts: {error}", highlight=False, markup=False)
        raise typer.Exit(FAILED) from None
    if outcome.failed:
        raise typer.Exit(FAILED)


def _note(line: str) -> None:
    """Say what a person should know, apart from what a script reads."""
    Console(stderr=True).print(f"note: {line}", highlight=False, markup=False)


def _report(directory: Path, as_json: bool) -> None:
    page = write_report(directory)
    rows = json.loads((page.parent / "verdicts.json").read_text())
    for line in json.loads((page.parent / "notes.json").read_text()):
        _note(line)
    _print_verdicts(rows, as_json)
    controls = page.parent / "tables" / "controls.csv"
    if not as_json:
        for line in explanations(read_table(controls)) if controls.exists() else ():
            Console().print(line, highlight=False, markup=False)
        Console().print(f"Report: {page}", highlight=False, soft_wrap=True)


def _print_verdicts(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print(json.dumps(rows))
    else:
        verdict_table(rows, Console())


def main() -> None:
    """The `mtofront` command."""
    with patient(), warned(), explained():
        app()
