"""How a command ends: errors as messages, exit statuses, Ctrl-C once and twice, warnings once."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console

from mtofront.analysis import ComparisonError, RecordsError, RecordsWarning
from mtofront.problems import ProblemError
from mtofront.sweep import EngineError, Interrupted, RequestError

FAILED, WRONG, INTERRUPTED = 1, 2, 130
"""Exit statuses beside 0: some runs failed; the request was wrong; Ctrl-C."""


@contextmanager
def explained() -> Iterator[None]:
    """Turn what a user can mend into one message and an exit status, never a traceback."""
    errors = Console(stderr=True)

    def end(message: str, code: int) -> None:
        errors.print(message, highlight=False, markup=False, soft_wrap=True)
        sys.exit(code)

    try:
        yield
    except (RequestError, ProblemError, RecordsError, ComparisonError) as error:
        end(f"error: {error}", WRONG)
    except OSError as error:  # StorageError, or a report that cannot be written
        where = f"{error.filename}: " if error.filename else ""
        end(f"error: {where}{error.strerror or error}\nFinished runs are kept.", FAILED)
    except EngineError as error:
        end(f"error: {error}", FAILED)
    except Interrupted as folder:
        kept = "Finished runs and checkpoints are kept"
        end(f"Stopped. {kept}; go on with: mtofront resume {folder}", INTERRUPTED)


def _interrupt(*_: object) -> None:
    """The first Ctrl-C ends a command cleanly; one more ends it at once."""
    signal.signal(signal.SIGINT, _end_at_once)
    raise KeyboardInterrupt


def _end_at_once(*_: object) -> None:
    shown = b"\x1b[?25h" if sys.stderr.isatty() else b""  # the cursor, which progress hides
    os.write(2, shown + b"Stopped at once. Finished runs and checkpoints are kept.\n")
    os._exit(INTERRUPTED)


@contextmanager
def patient() -> Iterator[None]:
    """Have the first Ctrl-C seen to cleanly, and the next end everything."""
    before = signal.signal(signal.SIGINT, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def warned() -> Iterator[None]:
    """Show each warning about records once, as one line; other warnings as ever."""
    usual, told = warnings.showwarning, set()

    def show(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
        if not issubclass(category, RecordsWarning):
            usual(message, category, *rest, **more)
        elif str(message) not in told:
            told.add(str(message))
            print(f"warning: {message}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.simplefilter("always", RecordsWarning)
        warnings.showwarning = show
        yield
