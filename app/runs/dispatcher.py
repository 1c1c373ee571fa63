"""Takes runs that are ready, whichever process they came to, when this process has a place."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable

from app.runs.executor import Executor
from app.storage.records import Claim, StorageUnavailable

log = logging.getLogger("runwait.runs")

# Processes that wait for the same run do not all ask at the same moment.
JITTER_SECONDS = 0.005
# A thread cannot wait for any number of seconds.
LONGEST_PAUSE_SECONDS = 3600.0
# Longest wait for a run that is just being taken, when the process stops.
LAST_SECONDS = 1.0


class Dispatcher:
    """A thread that sleeps until a run is ready: told so, or by the time when the next is due."""

    def __init__(
        self,
        executor: Executor,
        claim: Callable[[], tuple[Claim | None, float | None]],
        start_run: Callable[[Claim], None],
    ) -> None:
        """Prepare.

        Args:
            executor: where places are reserved.
            claim: takes a run that is ready, or says when the next is due.
            start_run: starts it in the place that was reserved.
        """
        self._executor = executor
        self._claim = claim
        self._start_run = start_run
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dispatcher", daemon=True)
        self._stopped = False
        self._starved = False
        executor.on_free = self._freed

    def start(self) -> None:
        """Take runs from now on."""
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
            self._starved = True
            if not self._executor.reserve():
                return None
            self._starved = False
            try:
                claim, due = self._claim()
            except StorageUnavailable as error:
                self._executor.release()
                log.debug("no run could be taken: %s", error)
                return None  # woken once Redis is back
            except BaseException:
                self._executor.release()
                raise
            if claim is None:
                self._executor.release()
                return None if due is None else due + random.uniform(0, JITTER_SECONDS)
            self._start_run(claim)
        return None
