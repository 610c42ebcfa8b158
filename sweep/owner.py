"""One driver at a time on a storage: an object that says whose it is, written again and again.

Storages have no locks, and pyarrow puts no object on a condition. So a driver that finds an owner
watches whether it still writes, by its counter and not by anybody's clock; and one that has put its
own name there looks once more whether it stayed. Two drivers that begin within the same second may
both go on until the next beat of either; what they record is the same, as runs follow from specs.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import secrets
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import EngineError, Interrupted, RequestError, StorageError
from .folder import write_json
from .layout import OWNER
from .stored_path import StoredPath

BEAT_SECONDS = 5.0
"""How often an owner writes that it lives."""
SILENT_SECONDS = 20.0
"""How long an owner may write nothing before another driver takes its place."""
SETTLE_SECONDS = 1.0
"""How long a new owner waits before it looks whether its name stayed."""


@dataclass
class _Claim:
    """A driver's own name on a storage, and whether another's has replaced it."""

    storage: StoredPath
    token: str = field(default_factory=lambda: secrets.token_hex(16))
    beats: int = 0
    lost: bool = False

    def put(self) -> None:
        self.beats += 1
        who = f"process {os.getpid()} on {platform.node()}"
        told = {"owner": who, "token": self.token, "beats": self.beats}
        write_json(self.storage / OWNER, {**told, "home": _home(), "process": os.getpid()})

    def is_mine(self) -> bool:
        return bool(_read(self.storage).get("token", self.token) == self.token)

    def beat(self) -> None:
        """Write once more, or stop this process's sweep: another driver has taken its place."""
        if self.is_mine():
            self.put()
        else:
            self.lost = True
            os.kill(os.getpid(), signal.SIGINT)


@contextlib.contextmanager
def owned(storage: StoredPath) -> Iterator[None]:
    """Be the storage's only driver while the block runs.

    Raises RequestError if another one is at work, EngineError if another one took over meanwhile,
    StorageError.
    """
    _wait_for_silence(storage)
    claim = _Claim(storage)
    claim.put()
    time.sleep(SETTLE_SECONDS)
    if not claim.is_mine():
        raise _refusal(storage, _read(storage))
    over = threading.Event()

    def live() -> None:
        while not over.wait(BEAT_SECONDS) and not claim.lost:
            with contextlib.suppress(StorageError):  # whoever must write something tells
                claim.beat()

    thread = threading.Thread(target=live, name="owner", daemon=True)
    thread.start()
    try:
        yield
    except (KeyboardInterrupt, Interrupted):
        if claim.lost:
            raise EngineError(
                f"{storage}: another mtofront took over this storage while this one was silent for "
                f"{SILENT_SECONDS:g} seconds or more; this one has stopped"
            ) from None
        raise
    finally:
        over.set()
        thread.join()
        with contextlib.suppress(StorageError):
            if not claim.lost and claim.is_mine():
                (storage / OWNER).unlink(missing_ok=True)


def _wait_for_silence(storage: StoredPath) -> None:
    """Return when nobody has written a beat for long enough. Raises RequestError if one does."""
    found = _read(storage)
    if found and _is_dead(found):
        return
    end = time.monotonic() + SILENT_SECONDS
    while found and time.monotonic() < end:
        time.sleep(BEAT_SECONDS / 2)
        now = _read(storage)
        if now and now != found:
            raise _refusal(storage, now)
        found = now


def _read(storage: StoredPath) -> dict[str, Any]:
    """What the owner wrote last; nothing if there is none, or none that can be read."""
    try:
        found = json.loads((storage / OWNER).read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return dict(found) if isinstance(found, dict) else {}


def _home() -> str:
    """Among which processes a process number means this one: a boot of a machine, a namespace."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _is_dead(found: dict[str, Any]) -> bool:
    """Whether it is certain that the owner's process has ended, so that nobody need be awaited."""
    if not _home() or found.get("home") != _home():
        return False
    return not Path(f"/proc/{found.get('process')}").exists()


def _refusal(storage: StoredPath, found: dict[str, Any]) -> RequestError:
    return RequestError(
        f"{storage}: another mtofront is working with this storage "
        f"({found.get('owner', 'an unknown process')}); wait for it or stop it"
    )
