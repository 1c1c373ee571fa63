"""Waiting for runs: each client that waits, and what it is given."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from enum import Enum


class Ended(Enum):
    """Why a wait ended without a document."""

    CLIENT_GONE = "the client went away"
    ELSEWHERE = "this process stops; the document can be had from another"


class Wait:
    """One client that waits for a run's document.

    The request's thread asks `document`; whoever has it gives it, from any thread.
    """

    def __init__(self, thread_id: str, run_id: str) -> None:
        self.thread_id = thread_id
        self.run_id = run_id
        # Whether it is for an answer that was given before.
        self.replayed = False
        self._given: queue.SimpleQueue[bytes | Ended] = queue.SimpleQueue()
        self._first: bytes | Ended | None = None
        self.on_gone: Callable[[], None] = lambda: None
        self.on_close: Callable[[], None] = lambda: None
        self.on_delivered: Callable[[], None] = lambda: None
        self._closed = threading.Lock()

    def document(self, timeout: float) -> bytes | Ended | None:
        """The document once it is there; None if it is not after `timeout` seconds."""
        if self._first is None:
            with contextlib.suppress(queue.Empty):
                self._first = self._given.get(timeout=timeout)
        return self._first

    def result(self) -> bytes | Ended:
        """The document, or why there is none; blocks until the wait has ended."""
        while self._first is None:
            self._first = self._given.get()
        return self._first

    def give(self, what: bytes | Ended) -> None:
        """End the wait; what is given first counts."""
        self._given.put(what)

    def client_gone(self) -> None:
        """The client closed its connection."""
        self.give(Ended.CLIENT_GONE)
        self.on_gone()

    def delivered(self) -> None:
        """The document was written whole to the client."""
        self.on_delivered()

    def close(self) -> None:
        """The request is over, however it went. May be called again."""
        if self._closed.acquire(blocking=False):
            self.on_close()


class Waiters:
    """Counts the waits of a process, since each of them holds a request thread."""

    def __init__(self, most: int) -> None:
        self._places = threading.Semaphore(most)

    def enter(self) -> bool:
        """Take a place, if one is free; `leave` must follow."""
        return self._places.acquire(blocking=False)

    def leave(self) -> None:
        """Give the place back."""
        self._places.release()
