"""A problem's data is prepared once a node: the first process makes it alone, others follow."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def first_alone(sweep: str, problem: str) -> Iterator[None]:
    """Let the first process of a sweep on this node make the problem while the others wait.

    What it downloads or writes is whole when they begin; after that nobody waits. If it fails, the
    next one is the first. The lock is the operating system's and goes with its process. Where
    no such file can be held, nobody waits for anybody.
    """
    name = hashlib.sha256(f"{sweep}\n{problem}".encode()).hexdigest()[:24]
    with contextlib.ExitStack() as held:
        file = None
        with contextlib.suppress(OSError):
            path = Path(tempfile.gettempdir()) / f"mtofront-{os.getuid()}" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            file = held.enter_context(open(path, "a+"))
            fcntl.flock(file, fcntl.LOCK_EX)
            if os.fstat(file.fileno()).st_size:  # somebody was first
                fcntl.flock(file, fcntl.LOCK_UN)
                file = None
        yield
        if file is not None:
            with contextlib.suppress(OSError):
                file.write("prepared\n")
                file.flush()
