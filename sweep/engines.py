"""What trains the packs: Ray Tune or this process; both run the same job."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from .errors import StorageError
from .job import News, Tell, run_pack
from .rungs import Rungs
from .work import Work

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


def inline(work: Work, tell: Tell) -> None:
    """Train the packs one after another in this process.

    Raises StorageError when records cannot be written.
    """

    def watch(news: News) -> None:
        tell(news)
        if news.storage:
            raise StorageError(None, news.storage)
        if work.rungs:
            work.rungs.hear(news)

    root, home = work.resources.storage or str(work.folder.root), str(work.home)
    every = work.resources.checkpoint_seconds
    packs: Sequence[int] = work.packs
    while packs:
        waiting: set[int] = set()
        for number in _in_turn(packs, waiting, work.rungs):
            if run_pack(root, number, home, work.device, every, watch):
                waiting.add(number)
        packs = work.grow() if work.grow else []


def _in_turn(packs: Sequence[int], waiting: set[int], rungs: Rungs | None) -> Iterator[int]:
    """Every pack; and as soon as they may go on, those that wait at a rung, which are left out."""
    fresh = deque(packs)
    while True:
        ready = [number for number in waiting if rungs and rungs.may_go_on(number)]
        if ready:
            waiting.discard(min(ready))
            yield min(ready)
        elif fresh:
            yield fresh.popleft()
        else:
            return


def ray(work: Work, tell: Tell) -> None:
    """Train the packs as Ray Tune trials, on this machine or the cluster at `work.address`.

    Raises StorageError, Interrupted; RequestError if the cluster cannot be joined.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if (work.address or os.environ.get("RAY_ADDRESS")) and _has_token():
        # `ray start` asks for the token it finds, but joining HOST:PORT does not send it by itself
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    from .ray_engine import train  # Ray reads its environment when it is imported

    train(work, tell)


def _has_token() -> bool:
    """Whether this user has a Ray token, in one of the places where Ray looks for it."""
    named = any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    return named or (Path.home() / ".ray" / "auth_token").exists()


ENGINES: dict[str, Callable[[Work, Tell], None]] = {"inline": inline, "ray": ray}
"""Registry: the name a config gives -> what trains the packs."""
