"""Takes runs that are ready, whichever process they came to, when this process has a place."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from typing import Protocol

from runwait.runs.executor import Executor
from runwait.storage.connection import StorageUnavailable
from runwait.storage.records import Claim

log = logging.getLogger("runwait.runs")

# Processes that wait for the same run do not all ask at the same moment.
JITTER_SECONDS = 0.005
# A thread cannot wait for any number of seconds.
LONGEST_PAUSE_SECONDS = 3600.0
# Longest wait for a run that is just being taken, when the process stops.
LAST_SECONDS = 1.0


class Claiming(Protocol):
    """Takes a run that is ready, or says in how many seconds the next is due."""

    def __call__(self, *, cancelled: bool = False) -> tuple[Claim | None, float | None]:
        """See `RunRecords.claim`."""


class Dispatcher:
    """A thread that sleeps until a run is ready: told so, or by the time when the next is due.

    A run that was cancelled before it was started is only to be ended: for that no place is needed.
    """

    def __init__(
        self,
        executor: Executor,
        claim: Claiming,
        start_run: Callable[[Claim], None],
        end_run: Callable[[Claim], None],
    ) -> None:
        """Prepare.

        Args:
            executor: where places are reserved.
            claim: takes a run that is ready, or says when the next is due.
            start_run: starts it in the place that was reserved.
            end_run: ends one that was cancelled.
        """
        self._executor = executor
        self._claim = claim
        self._start_run = start_run
        self._end_run = end_run
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dispatcher", daemon=True)
        self._stopped = False
        self._takes = True
        self._starved = False
        executor.on_free = self._freed

    def start(self, *, takes: bool = True) -> None:
        """Take runs from now on.

        Args:
            takes: whether to take any to execute; else only those that are to be ended.
        """
        self._takes = takes
        self._thread.start()

    def stop(self) -> None:
        """Take no more; what is just being taken is there on return."""
        self._stopped = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(LAST_SECONDS)

    def wake(self) -> None:
        """A run may be ready."""
        self._wake.set()

    @property
    def starved(self) -> bool:
        """Whether runs may be ready for which there is no place: a new one must not pass them."""
        return self._starved

    def _freed(self) -> None:
        if self._starved:
            self._wake.set()

    def _run(self) -> None:
        pause: float | None = 0.0
        while not self._stopped:
            self._wake.wait(pause if pause is None else min(pause, LONGEST_PAUSE_SECONDS))
            self._wake.clear()
            try:
                pause = self._take_all()
            except Exception:
                log.exception("fault while taking runs")
                pause = 1.0

    def _take_all(self) -> float | None:
        """Take what is ready; the seconds until the next is due."""
        while not self._stopped:
            # Said before it is tried, so that a place which comes free in between wakes this.
            self._starved = self._takes
            has_place = self._takes and self._executor.reserve()
            if has_place:
                self._starved = False
            claim = due = None
            try:
                claim, due = self._claim(cancelled=not has_place)
            except StorageUnavailable as error:
                log.debug("no run could be taken: %s", error)  # woken once Redis is back
            finally:
                if has_place and claim is None:
                    self._executor.release()
            if claim is None:
                return None if due is None else due + random.uniform(0, JITTER_SECONDS)
            if has_place:
                self._start_run(claim)
            else:
                self._end_run(claim)
        return None
