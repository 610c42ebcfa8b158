"""What trains the packs: Ray Tune or this process; both run the same job."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .config import Resources
from .errors import Interrupted, StorageError
from .folder import Folder
from .job import Tell, run_pack

QUIET = {
    # Tune's own tables, log files and snapshots of them: our records are the results
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # a user's module and relative data paths are found from the working folder
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # a function trial that ends must leave its thread before the actor is used again
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "60",
    # Ray's memory monitor aborts the whole experiment when it kills one worker
    "RAY_memory_monitor_refresh_ms": "0",
}
"""Environment that Ray reads when it is imported or started; what the user set himself wins."""


@dataclass(frozen=True)
class Work:
    """Which packs of a folder to train, and with what.

    home: where the user's own modules are found. address: of a Ray cluster; None: this machine.
    """

    folder: Folder
    packs: Sequence[int]
    resources: Resources
    home: Path
    address: str | None = None

    @property
    def device(self) -> str:
        """Where tensors live: a GPU if packs ask for a share of one."""
        return "cuda" if self.resources.gpus_per_pack > 0 else "cpu"

    @property
    def workers(self) -> int:
        """How many packs train at once on this machine."""
        return self.resources.cpus or cores()


def cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def inline(work: Work, tell: Tell) -> None:
    """Train the packs one after another in this process.

    Raises StorageError when records cannot be written, Interrupted on Ctrl-C.
    """
    stopped: list[str] = []

    def watch(news: object) -> None:
        storage = getattr(news, "storage", "")
        if storage:
            stopped.append(storage)
        tell(news)  # type: ignore[arg-type]

    try:
        for number in work.packs:
            run_pack(str(work.folder.root), number, str(work.home), work.device, watch)
            if stopped:
                raise StorageError(None, stopped[0])
    except KeyboardInterrupt:
        raise Interrupted(str(work.folder.root)) from None


def ray(work: Work, tell: Tell) -> None:
    """Train the packs as Ray Tune trials, on this machine or the cluster at `work.address`.

    Raises StorageError, Interrupted; RequestError if the cluster cannot be joined.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    from .ray_engine import train  # Ray reads its environment when it is imported

    train(work, tell)


ENGINES: dict[str, Callable[[Work, Tell], None]] = {"inline": inline, "ray": ray}
"""Registry: the name a config gives -> what trains the packs."""
