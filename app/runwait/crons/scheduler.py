"""Starts the runs of crons that are due, in whichever process is first."""

from __future__ import annotations

import contextlib
import logging
import random
from dataclasses import replace

from runwait.assistants.assistants import Assistants
from runwait.auth.errors import AuthBusy, Refused
from runwait.crons.crons import (
    due_of,
    ids_of,
    request_of,
    times_of,
)
from runwait.graphs.assistants import Assistant, AssistantNotFound, UnknownGraph
from runwait.pool import Sleeper, jittered
from runwait.runs.admission import new_record
from runwait.runs.observer import Observer
from runwait.runs.permission import Permission
from runwait.runs.runner import TRIES, thread_of, with_ids
from runwait.settings import Settings
from runwait.storage.connection import StorageUnavailable
from runwait.storage.crons import CronNotFound, CronRecord, CronRecords, Start, Started
from runwait.storage.records import Verdict
from runwait.storage.threads import LeftOver, ThreadBusy, ThreadNotFound
from runwait.threads.threads import Threads

log = logging.getLogger("runwait.crons")

# Redis is asked again after so long where it did not answer and nobody says that it is back.
AGAIN_SECONDS = 1.0
# A cron that no run can be made of is looked at again after so long.
PUT_OFF_SECONDS = 60.0
# A time up to a cron's end may be started so much after the end.
LATE_MS = 5000


class Scheduler(Sleeper):
    """A thread that sleeps until a cron is due: woken by a message, or when the next is due.

    Every process has one. Whoever is first starts the run; for the others there is nothing left to
    do (lua/crons/start.lua). What time it is, is Redis's to say.
    """

    def __init__(
        self,
        settings: Settings,
        records: CronRecords,
        assistants: Assistants,
        threads: Threads,
        observer: Observer,
        permission: Permission,
    ) -> None:
        """Prepare."""
        super().__init__("crons")
        self._settings = settings
        self._records = records
        self._assistants = assistants
        self._threads = threads
        self._observer = observer
        self._permission = permission

    def _work(self) -> float | None:
        try:
            return self.start_all()
        except StorageUnavailable as error:
            log.debug("no cron could be started: %s", error)
            return AGAIN_SECONDS

    def start_all(self) -> float | None:
        """Start what is due; the seconds until the next is, None if none is to come."""
        while not self.stopped:
            # Processes that ask at the same time begin at different places.
            due = self._records.due(random.random())  # nosec B311 # no secret
            if due.seconds is None:
                return None
            if due.seconds > 0:
                return jittered(due.seconds)
            starts = []
            for cron_id, values in due.crons:
                try:
                    if start := self._start_of(CronRecord.restored(cron_id, values), due.now):
                        starts.append(start)
                except StorageUnavailable:
                    raise
                except (Refused, AuthBusy, ThreadNotFound) as error:
                    log.warning("cron %s may not start a run: %s", cron_id, error)
                    self._records.put_off(cron_id, PUT_OFF_SECONDS)
                except Exception:
                    # Whatever is wrong with one must not hold up the others.
                    log.exception("cron %s cannot be started", cron_id)
                    self._records.put_off(cron_id, PUT_OFF_SECONDS)
            self._start(starts, due.now)
        return None

    def _start_of(self, cron: CronRecord, now: int) -> Start | None:
        """The run that a cron is to start: of several times that were missed, the latest's."""
        due, missed, following = times_of(cron, now)
        try:
            assistant = self._assistant_of(cron)
        except AssistantNotFound:
            # It goes with its assistant, which an earlier version of Runwait may have deleted.
            with contextlib.suppress(CronNotFound):
                self._records.delete(cron.cron_id)
            return None
        ids = ids_of(cron, due)
        # Whoever made it may have lost the right to have it run.
        request, _ = self._permission.run(request_of(cron, request_id=ids[0]))
        self._permission.assistant(assistant, request)
        request = request.over(assistant)
        record = new_record(request, assistant, ids)
        return Start(
            cron,
            record,
            thread_of(record, self._settings) if request.kept else None,
            next=following,
            missed=missed,
            none=cron.end_time is not None and now > cron.end_time + LATE_MS,
        )

    def _start(self, starts: list[Start], now: int) -> None:
        """Start runs, and hear what became of them."""
        for _ in range(TRIES):
            if not starts:
                return
            outcomes = self._records.start(starts, self._settings.run_lease_seconds)
            again = []
            for start, each in zip(starts, outcomes, strict=True):
                if isinstance(each, str):
                    self._hear(start, each, now)
                else:
                    again.append(self._prepared(start, each))
            starts = again
        raise ThreadBusy(", ".join(each.record.thread_id for each in starts))

    def _prepared(self, start: Start, verdict: Verdict) -> Start:
        """A start that its thread is not ready for yet, once it is; as admission has it."""
        record, thread = start.record, start.thread
        if verdict.kind == "metadata":
            assert verdict.metadata is not None and thread is not None
            thread = with_ids(verdict.metadata, record, thread)
            return replace(start, thread=thread, seen_metadata=verdict.metadata)
        assert verdict.token is not None
        self._threads.clean(LeftOver(record.thread_id, verdict.token))
        return start

    def _hear(self, start: Start, outcome: Started, now: int) -> None:
        cron_id = start.cron.cron_id
        if outcome == "pending":
            late = (now - due_of(start.record.run_id)) / 1000
            self._observer.cron_started(cron_id, start.record, late=late, missed=start.missed)
        elif outcome == "fault":
            self._records.put_off(cron_id, PUT_OFF_SECONDS)
        elif outcome != "over":
            log.info("cron %s starts no run: %s", cron_id, _REASONS[outcome])

    def _assistant_of(self, cron: CronRecord) -> Assistant:
        """The assistant of a cron, also if this process does not have its graph.

        Raises:
            AssistantNotFound: there is none any more.
        """
        system = Assistant.of_graph(cron.graph_id)
        if cron.assistant_id == system.assistant_id:
            return system
        try:
            return self._assistants.resolve(cron.assistant_id)
        except UnknownGraph:
            # Whoever claims the run may have it.
            return Assistant(cron.assistant_id, cron.graph_id)


_REASONS = {
    "missing": "its thread is gone, and so is the cron",
    "missed": "its end has come",
    "busy": "another run has its thread",
    "waiting": "its last run has yet to start",
}
