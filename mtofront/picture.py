"""A sweep's standing as it is drawn on a terminal, and as one plain line for a log."""

from __future__ import annotations

import string
from dataclasses import fields

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mtofront.scatter import SHARED, scatter
from mtofront.sweep import ArmStanding, Standing

STATES = tuple(
    field.name for field in fields(ArmStanding) if field.type == "int" and field.name != "expected"
)
LETTERS = string.ascii_uppercase + string.ascii_lowercase
TALLEST = 16
"""Lines of the front's picture, at most."""
LOWEST = 7
"""With fewer lines left there is no picture."""


def picture(standing: Standing, width: int, height: int, since: float = 0.0) -> RenderableType:
    """The whole standing within `height` lines: progress, rates, arms and the live front.

    since: seconds that have passed since it was taken; they no longer count as left.
    """
    room = height - 4 - len(standing.lines)
    arms = _arms(standing, max(room, 1))
    room -= min(len(standing.arms), max(room, 1)) + 1
    parts: list[RenderableType] = [_progress(standing, width, since), *_facts(standing), arms]
    if room >= LOWEST and len(standing.tasks) >= 2:
        parts += _front(standing, min(width - 1, 78), min(room, TALLEST))
    parts += [Text(line, style="dim", no_wrap=True, overflow="ellipsis") for line in standing.lines]
    return Group(*parts)


def line(standing: Standing) -> str:
    """The standing in one line without control characters."""
    facts = [
        f"{standing.share:4.0%}",
        f"{_recorded(standing)}/{standing.count('expected')} runs",
        f"{standing.count('running')} running",
        *(f"{standing.count(s)} {s}" for s in STATES[2:] if standing.count(s)),
    ]
    if standing.runs_per_second:
        facts.append(rate(standing.runs_per_second))
    if standing.seconds_left is not None and standing.share < 1:
        facts.append(f"{clock(standing.seconds_left)} left")
    if standing.best:
        facts.append(f"HV {standing.best.hypervolume:.4f} {standing.best.arm}")
    return "  ".join(facts)


def rate(runs_per_second: float) -> str:
    """Runs a second, a minute or an hour, whichever is easy to read."""
    for unit, seconds in (("s", 1), ("min", 60), ("h", 3600)):
        runs = runs_per_second * seconds
        if runs >= 1 or unit == "h":
            break
    return f"{runs:,.1f} runs/{unit}" if runs < 100 else f"{runs:,.0f} runs/{unit}"


def clock(seconds: float) -> str:
    """Minutes and seconds, or hours and minutes."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _recorded(standing: Standing) -> int:
    """Runs that are over, stopped and diverged ones among them."""
    return sum(standing.count(state) for state in ("done", "stopped", "diverged"))


def _progress(standing: Standing, width: int, since: float) -> Table:
    row = Table.grid(padding=(0, 1))
    left = standing.seconds_left
    over = standing.share >= 1
    row.add_row(
        ProgressBar(total=1.0, completed=standing.share, width=min(30, width // 3)),
        Text(f"{standing.share:4.0%}"),
        Text(f"{_recorded(standing)}/{standing.count('expected')} runs"),
        Text("" if over else "starting" if left is None else f"{clock(max(left - since, 0))} left"),
    )
    return row


def _facts(standing: Standing) -> list[Text]:
    facts = []
    if standing.runs_per_second:
        facts.append(rate(standing.runs_per_second))
    if standing.steps_per_second:
        facts.append(f"{standing.steps_per_second:,.0f} steps/s")
    if standing.best:
        facts.append(f"best hypervolume {standing.best.hypervolume:.4f} ({standing.best.arm})")
    return [Text("  ".join(facts), style="dim", no_wrap=True, overflow="ellipsis")] if facts else []


def _arms(standing: Standing, most: int) -> Table:
    """One line an arm, those with the largest hypervolume if there is no room for all."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("", no_wrap=True)
    table.add_column("arm", no_wrap=True, overflow="ellipsis", max_width=24)
    for heading in ("runs", *STATES, "HV"):
        table.add_column(heading, justify="right", no_wrap=True)
    lettered = list(zip(LETTERS + "?" * len(standing.arms), standing.arms, strict=False))
    if len(lettered) > most:
        lettered.sort(key=lambda pair: -(pair[1].hypervolume or 0.0))
        lettered = lettered[:most]
    for letter, arm in lettered:
        counts = [arm.expected, *(getattr(arm, state) for state in STATES)]
        volume = "" if arm.hypervolume is None else f"{arm.hypervolume:.4f}"
        table.add_row(letter, arm.arm, *(str(n) if n else "" for n in counts), volume)
    return table


def _front(standing: Standing, width: int, height: int) -> list[Text]:
    """Each arm's non-dominated validation losses in the first two tasks."""
    groups: dict[str, list[tuple[float, float]]] = {}
    for letter, arm in zip(LETTERS + "?" * len(standing.arms), standing.arms, strict=False):
        groups.setdefault(letter, []).extend(arm.front)
    across, upward = standing.tasks[:2]
    drawn = scatter(groups, (across, upward), width, height - 1)
    if drawn:
        drawn.insert(0, f"Fronts of validation losses; {SHARED}: of several arms.")
    return [Text(text, no_wrap=True, overflow="crop") for text in drawn]
