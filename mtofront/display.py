"""What a person sees while a sweep runs: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mtofront.analysis import hypervolume
from mtofront.sweep import Tracker

PLAIN_SECONDS = 10.0
"""How often a line is printed where there is no terminal."""


class Display:
    """Shows a tracker. Nothing is drawn before the first call of `show`."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.live: Live | None = None
        self.tracker: Tracker | None = None
        self._printed = 0.0
        self._best: tuple[int, str] = (-1, "")

    def show(self, tracker: Tracker) -> None:
        """Take the newest state; called whenever a pack tells something."""
        self.tracker = tracker
        if self.live:
            self.live.update(self._picture(tracker))
        elif time.monotonic() - self._printed > PLAIN_SECONDS:
            self._printed = time.monotonic()
            self.console.print("  ".join(self._facts(tracker)), highlight=False)

    def _picture(self, tracker: Tracker) -> Table:
        grid = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=1.0, completed=tracker.share, width=30)
        facts = self._facts(tracker)
        line = Table.grid(padding=(0, 1))
        line.add_row(bar, Text(f"{tracker.share:4.0%}"), Text(facts[0]))
        grid.add_row(line)
        grid.add_row(Text("  ".join(facts[1:]), style="dim"))
        return grid

    def _facts(self, tracker: Tracker) -> list[str]:
        left = tracker.seconds_left()
        facts = [
            f"{tracker.done}/{tracker.total} runs done",
            f"{tracker.running} running",
            f"{tracker.diverged} diverged",
        ]
        if tracker.stopped:
            facts.append(f"{tracker.stopped} stopped")
        if tracker.failed:
            facts.append(f"{sum(tracker.sizes[n] for n in tracker.failed)} failed")
        facts.append(f"{clock(left)} left" if left is not None else "starting")
        best = self._best_hypervolume(tracker)
        return [*facts, best] if best else facts

    def _best_hypervolume(self, tracker: Tracker) -> str:
        """The arm whose validation losses dominate most of the box below the untrained losses."""
        heard = sum(len(parts) for parts in tracker.points.values())
        if tracker.untrained is None or heard == self._best[0]:
            return self._best[1]
        volumes = {
            arm: hypervolume(np.concatenate(parts) / tracker.untrained, np.ones(len(parts[0][0])))
            for arm, parts in tracker.points.items()
            if (tracker.untrained > 0).all()
        }
        if volumes:
            arm = max(volumes, key=lambda name: volumes[name])
            self._best = (heard, f"best hypervolume {volumes[arm]:.4f} ({arm})")
        return self._best[1]


@contextmanager
def watching(console: Console) -> Iterator[Display]:
    """A display that draws while the block runs and leaves its last state on the screen."""
    display = Display(console)
    if not console.is_terminal:
        yield display
        return
    with Live(console=console, refresh_per_second=4) as live:
        display.live = live
        yield display


def clock(seconds: float) -> str:
    """Minutes and seconds, or hours and minutes."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
