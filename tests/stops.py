"""Sweeps that are stopped after every pack, and go on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mtofront.sweep import Config, Interrupted, resume, run
from mtofront.sweep import engines as engines_module

Job = Callable[..., Any]


def stopped_after_each_pack(
    config: Config, folder: str, monkeypatch: pytest.MonkeyPatch, look: Callable[[int], None]
) -> int:
    """Run a sweep that is stopped after each of its packs, to its end: how often it was.

    look: called after each stop, with their number.
    """
    job, stops = engines_module.run_pack, 0
    while True:
        monkeypatch.setattr(engines_module, "run_pack", stopping(job, 1))
        try:
            if stops == 0:
                run(config, folder)
            else:
                resume(folder)
            return stops
        except Interrupted:
            stops += 1
            look(stops)


def stopping(job: Job, after: int) -> Job:
    """The job, and Ctrl-C instead of the one after so many."""
    left = [after]

    def count(*arguments: Any) -> Any:
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        return job(*arguments)

    return count
