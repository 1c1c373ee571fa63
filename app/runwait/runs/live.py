"""A run while a process has it."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from runwait.runs.executor import Execution
from runwait.runs.requests import RunRequest
from runwait.runs.timers import Timer
from runwait.runs.waits import Wait
from runwait.storage.records import RunRecord, ThreadEnd, now


@dataclass(frozen=True)
class Ending:
    """How a run ended, for as long as that is not recorded.

    Attributes:
        document: the answer, JSON.
        struck: it was ended from outside, so that the graph may still be at work.
        undone: it is rolled back.
        thread: what becomes of its thread, if that outlives it.
        webhook: whom to tell of it, and what.
        at: when, by the monotonic clock, in seconds.
    """

    document: bytes
    struck: bool
    undone: bool
    thread: ThreadEnd | None
    webhook: tuple[str, bytes] | None
    at: float = field(default_factory=time.monotonic)


@dataclass(eq=False)
class LiveRun:
    """A run that executes in this process, or whose end is not recorded yet.

    Attributes:
        token: its fencing token; None while Redis knows nothing of it.
        attempt: how often it was started, this time included.
        has_thread: whether it is its turn on a kept thread.
        settled: what becomes of it here is decided.
        unreadable: its record in Redis cannot be read.
        forgotten: Redis lost its record, while it executed.
        sure_until: until when, by the monotonic clock, no other process can have taken it.
    """

    record: RunRecord
    request: RunRequest
    token: int | None = None
    attempt: int = 1
    has_thread: bool = True
    started: float = field(default_factory=time.monotonic)
    started_at: str = field(default_factory=now)
    execution: Execution | None = None
    waits: list[Wait] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    settled: bool = False
    ending: Ending | None = None
    document: bytes | None = None
    feedback: Future[dict[str, str]] | None = None
    limit: Timer | None = None
    unreadable: bool = False
    forgotten: bool = False
    sure_until: float = 0.0

    @property
    def kept(self) -> bool:
        """Whether its thread outlives it."""
        return self.request.kept

    @property
    def values(self) -> Any:
        """The graph's values so far; None before the first."""
        return self.execution.values if self.execution is not None else None

    def settle(self) -> bool:
        """Decide what becomes of it, unless that is decided; whether this call did."""
        with self.lock:
            if self.settled:
                return False
            self.settled = True
        if self.limit is not None:
            self.limit.cancel()
        return True

    def attach(self, wait: Wait) -> bool:
        """Have the wait given the document, now or when it is there.

        Returns:
            Whether it will be; False once the run's waits were taken away.
        """
        with self.lock:
            if self.document is None:
                if self.waits is _TAKEN:
                    return False
                self.waits.append(wait)
                return True
            document = self.document
        wait.give(document)
        return True

    def answer(self, document: bytes) -> None:
        """Give the document to all who wait."""
        with self.lock:
            self.document = document
            waits, self.waits = self.waits, []
        for wait in waits:
            wait.give(document)

    def take_waits(self) -> list[Wait]:
        """Those who wait, since they will not be answered here; nobody can be attached after."""
        with self.lock:
            waits, self.waits = self.waits, _TAKEN
        return list(waits)


_TAKEN: list[Wait] = []
