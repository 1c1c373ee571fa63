"""Logs the events of this process's runs, all on one thread.

While one call to Redis is under way the next events gather, so that a run that streams a thousand
tokens does not pay for a thousand calls.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence

from runwait.runs.events import Event
from runwait.runs.run import Run
from runwait.storage.connection import StorageUnavailable, pauses
from runwait.storage.events import Batch, EventRecords

log = logging.getLogger("runwait.runs")

# Shortest time between two calls: a reader hardly notices it, and it halves the work.
PAUSE_SECONDS = 0.004
# Longest pause between attempts, while Redis is away.
LONGEST_PAUSE_SECONDS = 0.5
# How much is sent at once, and how much may wait to be sent while Redis is away, in bytes.
CALL_BYTES = 48 * 1024
MOST_BYTES = 64 * 1024 * 1024


class EventLog:
    """The events that are to be logged."""

    def __init__(
        self, records: EventRecords, logged: Callable[[str, Sequence[Event]], None]
    ) -> None:
        """Prepare; nothing is logged before `start`.

        Args:
            records: where they go.
            logged: called with a run's id and its events once they are logged.
        """
        self._records = records
        self._logged = logged
        self._waiting: dict[Run, list[Event]] = {}
        self._bytes = 0
        self._changed = threading.Condition()
        self._problem: StorageUnavailable | None = None

    def start(self) -> None:
        """Log from now on, on a thread of its own."""
        threading.Thread(target=self._log_for_ever, name="event log", daemon=True).start()

    def append(self, run: Run, events: Sequence[Event]) -> None:
        """Have a run's next events logged, soon."""
        with self._changed:
            self._waiting.setdefault(run, []).extend(events)
            self._bytes += sum(len(each.data) for each in events)
            self._changed.notify_all()

    def check_room(self) -> None:
        """Raise StorageUnavailable if so much waits for Redis that a run has to wait for it too."""
        with self._changed:
            if self._bytes > MOST_BYTES and self._problem is not None:
                raise self._problem

    def flush(self, run: Run) -> None:
        """Block until all events of a run are logged, or are refused as no longer its sender's.

        Raises:
            StorageUnavailable: Redis does not take them.
        """
        with self._changed:
            while run in self._waiting:
                if self._problem is not None:
                    raise self._problem
                self._changed.wait()

    async def aflush(self, run: Run) -> None:
        """`flush`, for an event loop."""
        while run in self._waiting:
            if self._problem is not None:
                raise self._problem
            await asyncio.sleep(PAUSE_SECONDS)

    def drop(self, run: Run) -> None:
        """The run is another process's: nothing of it is logged here any more."""
        with self._changed:
            self._bytes -= sum(len(each.data) for each in self._waiting.pop(run, ()))
            self._changed.notify_all()

    def _log_for_ever(self) -> None:
        waiting = pauses(LONGEST_PAUSE_SECONDS)
        while True:
            try:
                there_are_more = self._log_some()
                waiting = pauses(LONGEST_PAUSE_SECONDS)
                if not there_are_more:
                    time.sleep(PAUSE_SECONDS)
            except StorageUnavailable as error:
                with self._changed:
                    self._problem = error
                    self._changed.notify_all()
                time.sleep(next(waiting))
            except Exception:
                log.exception("fault while logging events")
                time.sleep(LONGEST_PAUSE_SECONDS)

    def _log_some(self) -> bool:
        """Log what one call takes; whether more waited than that."""
        with self._changed:
            while not self._waiting:
                self._problem = None
                self._changed.wait()
            batches = self._next_batches()
            there_are_more = any(
                len(events) > len(batches.get(run, ())) for run, events in self._waiting.items()
            )
        sent = [
            Batch(run.run_id, events[0].id[0], run.attempt, events)
            for run, events in batches.items()
            if events[0].id is not None
        ]
        taken = self._records.append(sent)
        for (run, events), is_ours in zip(batches.items(), taken, strict=True):
            # Told before it counts as logged, so that the run's end comes after them.
            if is_ours:
                self._logged(run.run_id, events)
        with self._changed:
            self._problem = None
            for (run, events), is_ours in zip(batches.items(), taken, strict=True):
                left = self._waiting.pop(run, [])
                rest = left[len(events) :] if is_ours else []
                self._bytes -= sum(len(each.data) for each in left[: len(left) - len(rest)])
                if rest:
                    self._waiting[run] = rest  # behind all others
            self._changed.notify_all()
        return there_are_more

    def _next_batches(self) -> dict[Run, list[Event]]:
        """The first events of some runs: as much as one call takes, and one event at least."""
        batches: dict[Run, list[Event]] = {}
        left = CALL_BYTES
        for run, events in self._waiting.items():
            for event in events:
                if left < len(event.data) and batches:
                    return batches
                left -= len(event.data)
                batches.setdefault(run, []).append(event)
        return batches
