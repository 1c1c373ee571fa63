"""Crons as clients ask for them: made, read, changed, found and deleted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from typing import Any, Literal
from uuid import UUID

from uuid_utils.compat import uuid7

from runwait.auth.filters import Filters, permits
from runwait.crons.schedule import Schedule, schedule_of
from runwait.graphs.assistants import Assistant, AssistantNotFound
from runwait.runs.admission import Admission
from runwait.runs.request import RunRequest
from runwait.storage.crons import (
    AssistantGone,
    CronNotFound,
    CronQuery,
    CronRecord,
    CronRecords,
    ThreadGone,
)
from runwait.storage.threads import ThreadNotFound

# How often a cron may be changed by others while it is changed.
TRIES = 20


class CronBusy(Exception):
    """The cron is changed over and over by others."""


def schedule_for(cron: CronRecord) -> Schedule:
    """When a cron is due.

    Raises:
        InvalidSchedule, UnknownTimezone: never, where this machine knows the timezone.
    """
    return schedule_of(cron.schedule, cron.timezone)


def next_of(cron: CronRecord, now: int) -> int | None:
    """When a cron is due first after a time; both in ms since 1970. None: never."""
    found = schedule_for(cron).after(at(now)) if cron.enabled else None
    return None if found is None else within(cron, milliseconds(found))


def times_of(cron: CronRecord, now: int) -> tuple[int, int, int | None]:
    """Of a cron that is due, the latest time until now or its end, how many there were before that
    since it is due, and the first after now."""
    assert cron.next is not None
    schedule = schedule_for(cron)
    found = _after(schedule, cron.next)
    following = None if found is None else milliseconds(found)
    last = now if cron.end_time is None else min(now, cron.end_time)
    if following is None or following > now:
        return cron.next, 0, None if following is None else within(cron, following)
    if following > last:
        return cron.next, 0, None
    latest = schedule.latest(at(last))
    assert latest is not None
    # At least this one, which the wall may not show.
    missed = max(1, schedule.count(at(cron.next), latest))
    return milliseconds(latest), missed, next_of(cron, now)


@lru_cache(maxsize=1024)
def _after(schedule: Schedule, ms: int) -> datetime | None:
    """The time after one, in ms since 1970. Crons that are due together often have one schedule."""
    return schedule.after(at(ms))


def within(cron: CronRecord, due: int) -> int | None:
    """A time at which a cron would be due, unless that is after its end."""
    return due if cron.end_time is None or due <= cron.end_time else None


def request_of(cron: CronRecord, request_id: str = "") -> RunRequest:
    """What each run of a cron is asked."""
    asked = dict(cron.payload)
    modes = asked.get("stream_mode")
    if isinstance(modes, str):
        asked["stream_mode"] = [modes]
    return RunRequest(
        **asked,
        assistant_id=cron.assistant_id,
        request_id=request_id,
        thread_id=cron.thread_id,
        metadata={**cron.metadata, "cron_id": cron.cron_id},
        on_completion=cron.on_run_completed or "delete",
        cron_id=cron.cron_id,
        waits=False,
        user=cron.user,
        headers=cron.headers,
    )


def ids_of(cron: CronRecord, due: int) -> tuple[str, str]:
    """The ids of the run that a cron starts for a time, and of a thread made for it.

    They are the same whoever starts it, so that no time can start two, even if Redis lost the last
    seconds and has the cron due again.
    """
    return _id(due, f"run {cron.cron_id}"), _id(due, f"thread {cron.cron_id}")


def due_of(run_id: str) -> int:
    """The time, in ms since 1970, for which a cron started a run."""
    return UUID(run_id).int >> 80


def _id(ms: int, name: str) -> str:
    """A UUID of version 7 that is made of a time and a name."""
    digest = sha256(f"{ms} {name}".encode()).digest()
    value = (ms << 80 | int.from_bytes(digest[:10])) & (1 << 128) - 1
    value = value & ~(0xF << 76) & ~(0x3 << 62) | 0x7 << 76 | 0x2 << 62
    return str(UUID(int=value))


def at(ms: int) -> datetime:
    """A time in ms since 1970."""
    return datetime.fromtimestamp(ms / 1000, UTC)


def milliseconds(time: datetime) -> int:
    """A time as ms since 1970."""
    return round(time.timestamp() * 1000)


class Crons:
    """Makes, shows, finds, changes and deletes crons.

    Where a method names a cron that is not there, it raises CronNotFound; any may raise
    StorageUnavailable.
    """

    def __init__(self, records: CronRecords, admission: Admission) -> None:
        """Put it together.

        Args:
            records: the crons' records.
            admission: checks what their runs are asked.
        """
        self._records = records
        self._admission = admission

    def create(
        self,
        *,
        assistant_id: str,
        schedule: str,
        thread_id: str | None = None,
        on_run_completed: Literal["delete", "keep"] | None = None,
        **asked: Any,
    ) -> dict[str, Any]:
        """Make a cron.

        Args:
            assistant_id: an assistant's UUID, or its graph's name.
            schedule: when it is due.
            thread_id: the thread of all its runs; None: each has one of its own.
            on_run_completed: what becomes of that.
            asked: further fields of CronRecord.

        Raises:
            Exception: what `Admission.check_request` raises, for its runs.
            ThreadNotFound: there is no such thread.
        """
        cron = CronRecord(
            cron_id=str(uuid7()),
            assistant_id=assistant_id,
            graph_id="",
            thread_id=thread_id,
            schedule=schedule,
            on_run_completed=None if thread_id is not None else on_run_completed or "delete",
            **asked,
        )
        _, assistant = self._admission.check_request(request_of(cron))
        cron = replace(cron, assistant_id=assistant.assistant_id, graph_id=assistant.graph_id)
        cron = replace(cron, next=next_of(cron, self._records.now()))
        try:
            self._records.create(cron, of_system=is_of_system(cron))
        except ThreadGone as error:
            raise ThreadNotFound(str(error)) from None
        except AssistantGone:
            raise AssistantNotFound(f"assistant {assistant_id} not found") from None
        return self.get(cron.cron_id)

    def get(self, cron_id: str, filters: Filters | None = None) -> dict[str, Any]:
        """A cron; its metadata must pass the filters, or it is not there."""
        return self._get(cron_id, filters).public()

    def patch(
        self,
        cron_id: str,
        *,
        payload: Mapping[str, Any],
        metadata: Mapping[str, Any] | None = None,
        filters: Filters | None = None,
        **changed: Any,
    ) -> dict[str, Any]:
        """Change a cron.

        Args:
            cron_id: which.
            payload: fields of its runs that are replaced.
            metadata: what is laid over its metadata.
            filters: what that must contain before, or the cron is not there.
            changed: fields of CronRecord that are replaced. A new schedule or timezone, and
                enabling it, count from now.

        Raises:
            Exception: what `Admission.check_request` raises, for its runs.
        """
        for _ in range(TRIES):
            before = self._get(cron_id, filters)
            cron = replace(
                before,
                payload={**before.payload, **payload},
                metadata={**before.metadata, **(metadata or {})},
                **changed,
            )
            if before.thread_id is not None:
                cron = replace(cron, on_run_completed=None)
            self._admission.check_request(request_of(cron))
            if _timing(cron) != _timing(before) or (cron.next is None and cron.enabled):
                cron = replace(cron, next=next_of(cron, self._records.now()))
            elif cron.next is not None:
                cron = replace(cron, next=within(cron, cron.next))
            # What is due stays so, where nothing was said about it.
            if self._records.change(cron, timed=cron.next != before.next):
                return self.get(cron_id)
        raise CronBusy(cron_id)

    def delete(self, cron_id: str, filters: Filters | None = None) -> None:
        """Delete a cron, if its metadata pass the filters; its runs stay, and go on."""
        if filters is not None:
            self._get(cron_id, filters)
        self._records.delete(cron_id)

    def search(self, query: CronQuery) -> tuple[list[dict[str, Any]], int]:
        """A page of the crons that match, and how many there are in all."""
        found, total = self._records.search(query)
        return [each.public() for each in found], total

    def count(self, query: CronQuery) -> int:
        """How many crons match."""
        return self._records.count(query)

    def _get(self, cron_id: str, filters: Filters | None) -> CronRecord:
        cron = self._records.get(cron_id)
        if not permits(filters, cron.metadata):
            raise CronNotFound(cron_id)
        return cron


def is_of_system(cron: CronRecord) -> bool:
    """Whether a cron's assistant is the one that its graph has from the start."""
    return Assistant.of_graph(cron.graph_id).assistant_id == cron.assistant_id


def _timing(cron: CronRecord) -> tuple[str, str | None, bool]:
    return cron.schedule, cron.timezone, cron.enabled
