"""How a process keeps the memory that it will need again at the next step."""

from __future__ import annotations

import ctypes
import sys

M_MMAP_THRESHOLD, M_TRIM_THRESHOLD = -3, -1
"""Parameters of glibc's mallopt, from malloc.h."""


def keep_freed_memory() -> None:
    """Let the C library keep what tensors free, where it is glibc; elsewhere do nothing.

    By default it hands every large temporary back to the kernel, which clears the pages again
    at the next step.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # another C library
        return
    mallopt(M_MMAP_THRESHOLD, 1 << 30)
    mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)
