"""What a person sees while a sweep runs: a live picture on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console, RenderableType
from rich.live import Live

from mtofront.picture import line, picture
from mtofront.sweep import Folder, Standing, Tracker, is_locked, standing

DRAW_SECONDS = 0.25
"""How often the picture is drawn on a terminal."""
PLAIN_SECONDS = 10.0
"""How far apart lines are at first, where there is no terminal."""
PLAIN_MOST = 120.0
"""How far apart they are at most: each twentieth of the time that has passed adds one."""


class Display:
    """Shows standings. Nothing is drawn before the first one."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self.console, self.clock = console, clock
        self.standing: Standing | None = None
        self._tracker: Tracker | None = None
        self._taken = -DRAW_SECONDS
        self._begin: float | None = None
        self._printed = 0.0
        self._lines = 0

    def show(self, tracker: Tracker) -> None:
        """Take the newest state, if it is time to; called whenever a pack tells something."""
        self._tracker = tracker
        if self.clock() - self._taken >= DRAW_SECONDS:
            self.take(tracker.standing())

    def take(self, now: Standing, *, last: bool = False) -> None:
        """Draw a standing with the next refresh, or print it if it is time for a line."""
        self.standing, self._taken = now, self.clock()
        if self.console.is_terminal:
            return
        for told in now.lines[self._lines :]:
            self._print(told)
        self._lines = len(now.lines)
        if self._begin is None:
            self._begin = self._taken
            due = self._begin
        else:
            pause = min(max((self._printed - self._begin) / 20, PLAIN_SECONDS), PLAIN_MOST)
            due = self._printed + pause
        if last or self._taken >= due:
            self._printed = self._taken
            self._print(line(now))

    def end(self) -> None:
        """Show the last state of what was shown."""
        if self._tracker and self._tracker.latest:
            self.take(self._tracker.standing(exact=True), last=True)

    def draw(self) -> RenderableType:
        """The newest standing, for a live screen."""
        if self.standing is None:
            return ""
        width, height = self.console.size
        return picture(self.standing, width, height, self.clock() - self._taken)

    def _print(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def watching(console: Console) -> Iterator[Display]:
    """A display that draws while the block runs and leaves its last state on the screen."""
    display = Display(console)
    if not console.is_terminal:
        try:
            yield display
        finally:
            display.end()
        return
    with Live(console=console, refresh_per_second=1 / DRAW_SECONDS, get_renderable=display.draw):
        try:
            yield display
        finally:
            display.end()


def watch(directory: Path, console: Console, seconds: float) -> Standing:
    """Show how the sweep in a folder stands, from its files alone, until nobody works on it.

    Returns the last standing. Raises RequestError if the folder holds no sweep.
    """
    folder = Folder(directory)
    now = standing(folder)  # an error is told before a screen is made
    with watching(console) as display:
        while is_locked(folder):
            display.take(now)
            time.sleep(seconds)
            now = standing(folder)
        now = standing(folder)
        display.take(now, last=True)
    return now
