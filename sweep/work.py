"""What an engine is given to do: packs of a folder, and what they may use."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .config import Resources
from .folder import Folder
from .logged import Log
from .rungs import Rungs


@dataclass(frozen=True)
class Work:
    """Which packs of a folder to train, and with what.

    home: where the user's own modules are found. address: of a Ray cluster; None: this machine.
    grow: for adaptive arms, called when packs have ended: plans what can be planned then, returns
    the numbers of the new packs. None where all packs are known.
    rungs: what decides which packs go on, where a scheduler has them wait.
    say: takes a line that the user is to see while packs train. log: what experiment trackers are
    told, if any.
    """

    folder: Folder
    packs: Sequence[int]
    resources: Resources
    home: Path
    address: str | None = None
    grow: Callable[[], list[int]] | None = None
    rungs: Rungs | None = None
    say: Callable[[str], None] = lambda line: None
    log: Log | None = None

    @property
    def device(self) -> str:
        """Where tensors live: a GPU if packs ask for a share of one."""
        return "cuda" if self.resources.gpus_per_pack > 0 else "cpu"

    @property
    def workers(self) -> int:
        """How many packs train at once on this machine."""
        return workers(self.resources)


def workers(resources: Resources) -> int:
    """How many packs train at once on this machine: as given, or one a core that may be used."""
    if resources.cpus:
        return resources.cpus
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
