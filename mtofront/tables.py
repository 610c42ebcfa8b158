"""Tables for the terminal, legible at 80 columns, and the same facts as plain rows."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from mtofront.methods import TREATMENTS, Choice, Count, Hyper, Method, Number, Treatment
from mtofront.picture import clock
from mtofront.problems import FAMILIES, LABEL_OPTIONS, Problem
from mtofront.sweep import Estimate, Plan, passes_per_step

SHORT = 13
"""Letters of an arm's name for which a verdict has room."""
SECOND_PHASE = {
    "mean_weights": "as linear scalarization at the weights they used on average",
    "update_norm": "at these weights, with updates as long as theirs",
    "longer": "with as many backward passes as the other arms' runs cost",
}
"""Control -> how it repeats runs."""
COLOURS = {"beats": "green", "matches": "cyan", "worse": "red", "inconclusive": "yellow"}


def verdict_table(rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    """One line an arm: the verdict, its margin with interval, and the price."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("arm", overflow="fold")
    table.add_column("verdict", no_wrap=True)
    for heading in ("margin", "interval", "HV", "equivalent", "runs"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        colour = COLOURS[row["verdict"]]
        table.add_row(
            _broken(str(row["arm"])),
            f"[{colour}]{row['verdict']}[/]",
            _signed(row["margin"]),
            f"{_signed(row['low'])} … {_signed(row['high'])}",
            _plain(row["hypervolume_ratio"], ".4f"),
            _plain(row["equivalent_runs"], ".0f", missing="never"),
            str(row["runs"]),
        )
    console.print(table)
    console.print(
        "margin: distance beyond (+) or behind (−) the scalarization front, as a share\n"
        "of its range. HV: hypervolume, scalarization = 1. equivalent: scalarization runs\n"
        "that do as well half the time.",
        style="dim",
        highlight=False,
    )


def _broken(name: str) -> str:
    """A long name, with a line of its own from its last dot on."""
    return name if len(name) <= SHORT else "\n.".join(name.rsplit(".", 1))


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.3f}".replace("-", "−")


def _plain(value: float | None, form: str, missing: str = "–") -> str:
    return missing if value is None else format(value, form)


def plan_table(planned: Plan, estimated: Estimate, console: Console) -> None:
    """What would run, an arm a line, and how long it would take here."""
    table = Table(box=None, padding=(0, 1), header_style="bold")
    table.add_column("arm")
    for heading in ("runs", "packs", "backward passes", "worker time"):
        table.add_column(heading, justify="right")
    for arm in estimated.arms:
        table.add_row(
            arm.arm, str(arm.runs), str(arm.packs), f"{arm.backward_passes:,}", clock(arm.seconds)
        )
    console.print(table)
    for name, rounds in planned.rounds.items():
        first, *later = rounds.sizes
        sizes = ", ".join(map(str, later)) or "none"
        console.print(
            f"{name} searches its weights: {first} vectors first, then rounds of {sizes} where the "
            "front needs them.",
            highlight=False,
        )
    for told in _second_phase(planned):
        console.print(told, highlight=False)
    if planned.config.scheduler:
        console.print(_halving(planned, estimated), highlight=False)
    console.print(planned.pack_size.sentence(), highlight=False)
    total = sum(arm.runs for arm in estimated.arms)
    packs = sum(arm.packs for arm in estimated.arms)
    console.print(
        f"{total} runs of {planned.steps_per_run} steps in {packs} packs: about "
        f"{clock(estimated.seconds)} on {estimated.workers} workers. Nothing was started.",
        highlight=False,
    )


def _second_phase(planned: Plan) -> list[str]:
    """What each kind of control repeats, a line a kind."""
    lines = []
    for kind, told in SECOND_PHASE.items():
        found = [control for control, _ in planned.controls.values() if control.kind == kind]
        if found:
            names = ", ".join(dict.fromkeys(control.repeats for control in found))
            lines.append(f"Then {kind}: the runs of {names} again, {told}.")
    return lines


def _halving(planned: Plan, estimated: Estimate) -> str:
    """What a scheduler is expected to save."""
    one = next(iter(planned.runs.values()))
    assert one.scheduler is not None
    rungs, keep = " and ".join(map(str, one.rungs)), one.scheduler["keep"]
    shares = sorted(arm.epochs_share for arm in estimated.arms)
    low, high = f"{shares[0]:.0%}", f"{shares[-1]:.0%}"
    trained = low if low == high else f"{low} to {high}"
    return (
        f"{one.scheduler['name']}: after epochs {rungs} of {one.epochs}, {keep:.3g} of the runs "
        f"of each arm and seed go on; about {trained} of all epochs are trained, and passes and "
        "times count only these."
    )


def status_table(rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    """How many runs of each arm are in which state."""
    table = Table(box=None, padding=(0, 1), header_style="bold")
    for n, heading in enumerate(rows[0]):
        table.add_column(heading, justify="right" if n else "left")
    for row in rows:
        table.add_row(*map(str, row.values()))
    console.print(table)


def method_rows(methods: Mapping[str, Method]) -> list[dict[str, Any]]:
    """Everything a script may want to know of each method."""
    return [
        {
            "name": name,
            "summary": method.summary,
            "needs": method.needs,
            "backward_passes": _passes(method),
            "networks": "T" if method.scheme else "1",
            "hyper": {key: _hyper(hyper) for key, hyper in method.hyper.items()},
            "paper": f"{method.paper.authors} {method.paper.year}, {method.paper.title}",
            "venue": method.paper.venue,
            "arxiv": method.paper.arxiv,
            "deviations": method.deviations,
        }
        for name, method in sorted(methods.items())
    ]


def method_table(methods: Mapping[str, Method], console: Console) -> None:
    """Each method: what it needs and costs, its hyper-parameters, its paper and deviations."""
    for row in method_rows(methods):
        console.print(Text.assemble((row["name"], "bold"), f"  {row['summary']}"))
        needs = f"needs {row['needs']}: " if row["networks"] == "1" else "trains T networks a run: "
        plural = "" if row["backward_passes"] == "1" else "es"
        _indented(console, f"{needs}{row['backward_passes']} backward pass{plural} a step")
        for key, text in row["hyper"].items():
            _indented(console, f"{key}: {text}")
        if row["deviations"]:
            _indented(console, f"deviates: {row['deviations']}")
        arxiv = f", arXiv {row['arxiv']}" if row["arxiv"] else ""
        venue = row["venue"] if row["venue"] != "arXiv" else "Preprint"
        _indented(console, f"{row['paper']}. {venue}{arxiv}", style="dim")
    console.print(Text("Options of an arm, whatever its method", style="bold"))
    for option, settings in TREATMENTS.items():
        listed = "; ".join(f"{setting}: {effect}" for setting, effect in settings.items())
        _indented(console, f"{option}: {listed} (default {next(iter(settings))})")
    console.print(
        "Passes go through the shared parameters; T is the number of tasks.\n"
        "torchjd:NAME(arguments) is any aggregator or weighting of TorchJD, where that is\n"
        "installed: torchjd:UPGrad().",
        style="dim",
        highlight=False,
    )


def _indented(console: Console, text: str, style: str = "") -> None:
    """Print a paragraph two columns in, on every line that it takes."""
    console.print(Padding(Text(text, style=style), (0, 0, 0, 2), expand=False))


def _passes(method: Method) -> str:
    """Backward passes a step through the shared parameters, in terms of T tasks."""
    if method.scheme == "manifold":
        return "windows"
    if method.scheme == "merge":
        return "1, then T"
    return "1" if passes_per_step(method, Treatment(), tasks=2) == 1 else "T"


def _hyper(hyper: Hyper) -> str:
    if isinstance(hyper, Choice):
        return f"{hyper.help} ({' | '.join(hyper.options)}; default {hyper.options[0]})"
    if isinstance(hyper, Number | Count):
        return f"{hyper.help} ({hyper.low:g} … {hyper.high:g}; default {hyper.default:g})"
    return f"{hyper.help} (default equal)"


def problem_rows(problems: Mapping[str, Callable[..., Problem]]) -> list[dict[str, Any]]:
    """Each problem's and family's name, options with defaults and description."""
    families = [(f"{prefix}:NAME", maker) for prefix, maker in sorted(FAMILIES.items())]
    return [
        {
            "name": name,
            "options": {
                key: option.default
                for key, option in inspect.signature(maker).parameters.items()
                if option.default is not option.empty
            },
            "description": inspect.cleandoc(maker.__doc__ or ""),
        }
        for name, maker in [*sorted(problems.items()), *families]
    ]


def problem_table(problems: Mapping[str, Callable[..., Problem]], console: Console) -> None:
    """Each problem: its options and what it is."""
    for row in problem_rows(problems):
        options = ", ".join(f"{key}={value}" for key, value in row["options"].items())
        console.print(Text.assemble((row["name"], "bold"), f"  {options}"))
        for paragraph in row["description"].split("\n\n"):
            _indented(console, " ".join(paragraph.split()))
    console.print(Text("options of every problem with data", "bold"))
    for option, meaning in LABEL_OPTIONS.items():
        _indented(console, f"{option}: {meaning}")
    console.print(
        "One's own: problem: my_module:my_problem, any callable that returns a Problem.",
        style="dim",
        highlight=False,
    )
