"""Those in this process who wait for runs of other processes, or of none yet."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

from runwait.runs import outcomes
from runwait.runs.executor import Executor
from runwait.runs.timers import Timers
from runwait.runs.waits import Ended, Wait
from runwait.serialization import dumps
from runwait.storage.connection import StorageUnavailable
from runwait.storage.records import RunRecords, StoredRun, UnreadableRecord


class RunNotFound(Exception):
    """No such run, or not any more."""


class RemoteWaits:
    """Waits by run. A message says when to look; so does every reconnect, since some get lost."""

    def __init__(
        self,
        records: RunRecords,
        executor: Executor,
        timers: Timers,
        patience: float,
        later: Callable[[StoredRun], bytes],
    ) -> None:
        """Prepare.

        Args:
            records: the runs.
            executor: for work that may block.
            timers: for looking again.
            patience: seconds that a run may be unknown to Redis before it is taken for lost.
            later: makes the document of a kept run whose result is not there any more.
        """
        self._records = records
        self._executor = executor
        self._timers = timers
        self._patience = patience
        self._later = later
        self._waits: dict[str, list[Wait]] = {}
        self._lock = threading.Lock()

    def join(self, wait: Wait) -> None:
        """Have the wait given its run's document, now or when it is there.

        Raises:
            RunNotFound: there is no such run on that thread.
            StorageUnavailable: Redis cannot be asked.
            UnreadableRecord: another version of Runwait wrote its record.
        """
        # Listed before Redis is read: an end that comes in between is then not missed.
        self.add([wait])
        stored = self._records.read(wait.run_id, wait=True)
        if stored is None or stored.record.thread_id != wait.thread_id:
            raise RunNotFound(wait.run_id)
        if (document := self._document(stored)) is not None:
            # To all of this process: it may have been there for this reading alone.
            for each in self.take(wait.run_id):
                each.give(document)
        elif stored.record.status.ended:
            raise RunNotFound(wait.run_id)

    def add(self, waits: list[Wait]) -> None:
        """List those that wait, in a process that Redis knows to be waiting."""
        with self._lock:
            for wait in waits:
                self._waits.setdefault(wait.run_id, []).append(wait)

    def look_soon(self, waits: list[Wait]) -> None:
        """List those that wait, and see to it that Redis is asked."""
        if waits:
            self.add(waits)
            self.told(waits[0].run_id)

    def remove(self, wait: Wait) -> None:
        """The wait is over."""
        with self._lock:
            waits = self._waits.get(wait.run_id)
            if waits and wait in waits:
                waits.remove(wait)
                if not waits:
                    del self._waits[wait.run_id]

    def take(self, run_id: str) -> list[Wait]:
        """Those who wait for a run, which this process has now."""
        with self._lock:
            return self._waits.pop(run_id, [])

    def told(self, run_id: str) -> None:
        """The run may have ended."""
        self._executor.help(partial(self._look, run_id))

    def look_at_all(self) -> None:
        """Messages may have been lost: see to everything that is waited for."""
        with self._lock:
            run_ids = list(self._waits)
        for run_id in run_ids:
            self.told(run_id)

    def end(self) -> None:
        """This process stops: whoever waits has to ask another."""
        with self._lock:
            waits = [wait for waits in self._waits.values() for wait in waits]
        for wait in waits:
            wait.give(Ended.ELSEWHERE)

    def _document(self, stored: StoredRun) -> bytes | None:
        if stored.document is None and stored.kept and stored.record.status.ended:
            return self._later(stored)
        return stored.document

    def _look(self, run_id: str, *, last_time: bool = False) -> None:
        with self._lock:
            if run_id not in self._waits:
                return
            thread_id = self._waits[run_id][0].thread_id
        try:
            stored = self._records.read(run_id, wait=True)
            document = self._document(stored) if stored is not None else None
            if stored is None and self._records.is_gone(thread_id):
                # It went with its thread.
                document = dumps(outcomes.cancelled(None).answer)
        except StorageUnavailable:
            return  # looked at again once Redis is back
        except UnreadableRecord:
            return  # whoever takes it ends it, and says so
        if document is None and stored is None and last_time:
            document = dumps(outcomes.lost().answer)
        if document is None:
            if stored is None:
                # Redis lost the record. Whoever executes the run records it again with its beat.
                again = partial(self._look, run_id, last_time=True)
                self._timers.after(self._patience, lambda: self._executor.help(again))
            return
        for wait in self.take(run_id):
            wait.give(document)
