"""Memory is given back: to Python, and to the system.

A run leaves thousands of objects in cycles, some of which hold its values. Python's collector
counts objects, and would let hundreds of documents of some MB pile up; here their bytes count. And
glibc keeps what was freed, in an arena for nearly each thread, unless it is told otherwise.
"""

from __future__ import annotations

import ctypes
import gc
import threading
from collections.abc import Callable

# Of documents that ended, before what they left is collected.
COLLECT_BYTES = 32 * 1024 * 1024
# What is left of the last ones is collected after so many seconds.
LATER_SECONDS = 2.0
# Smaller ones do not count: Python's own collections see to them.
LARGE_BYTES = 64 * 1024

# mallopt's parameters, of glibc's malloc.h.
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8


class Collector:
    """Collects garbage once so many bytes of documents may have become that, or nothing follows."""

    def __init__(
        self,
        soon: Callable[[Callable[[], None]], None],
        after: Callable[[float, Callable[[], None]], object],
    ) -> None:
        """Prepare; `soon` does something on another thread, `after` some seconds later."""
        self._soon = soon
        self._after = after
        self._bytes = 0
        self._waits = False
        self._lock = threading.Lock()

    def note(self, size: int) -> None:
        """A document of so many bytes is done with, or will be in a moment."""
        if size < LARGE_BYTES:
            return
        with self._lock:
            self._bytes += size
            now = self._bytes >= COLLECT_BYTES
            if now:
                self._bytes = 0
            later, self._waits = not self._waits, True
        if now:
            self._soon(collect)
        if later:
            self._after(LATER_SECONDS, lambda: self._soon(self._collect_the_rest))

    def _collect_the_rest(self) -> None:
        with self._lock:
            self._bytes, self._waits = 0, False
        collect()


def collect() -> None:
    """Collect garbage, and give what is free back to the system."""
    gc.collect()
    if (trim := getattr(_libc(), "malloc_trim", None)) is not None:
        trim(0)


def set_up() -> None:
    """Have the C library give back what is freed; before threads are started."""
    if (mallopt := getattr(_libc(), "mallopt", None)) is not None:
        mallopt(_M_ARENA_MAX, 2)
        # Set, it does not grow with the blocks that are freed: large ones always go back at once.
        mallopt(_M_MMAP_THRESHOLD, 128 * 1024)


def _libc() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(None)
    except OSError:
        return None
