"""What callers may do to runs and threads, for whoever makes runs: over HTTP, by the clock, ...

Each run is asked for here, so that no way to make one goes around it.
"""

from __future__ import annotations

from dataclasses import fields, replace
from uuid import UUID

from runwait.auth.access import Access
from runwait.auth.errors import Refused
from runwait.auth.filters import Filters, permits
from runwait.auth.user import User
from runwait.graphs.assistants import Assistant, AssistantNotFound, uuid_of
from runwait.runs.request import RunRequest
from runwait.storage.records import RunRecord
from runwait.storage.threads import ThreadNotFound, ThreadRecords

# What handlers are shown of a run beside its `kwargs`.
_OUTSIDE = ("metadata", "multitask_strategy", "if_not_exists", "after_seconds")
_NO_KWARGS = {
    *_OUTSIDE,
    "assistant_id",
    "assistant_metadata",
    "thread_id",
    "request_id",
    "idempotency_key",
    "fingerprint",
    "waits",
    "user",
    "cron_id",
}
_KWARGS = tuple(each.name for each in fields(RunRequest) if each.name not in _NO_KWARGS)


class Permission:
    """Asks whether there is a way to a run or a thread for a caller."""

    def __init__(self, access: Access | None, thread_records: ThreadRecords) -> None:
        """Prepare.

        Args:
            access: who decides; None: everybody may do everything.
            thread_records: the threads.
        """
        self._access = access
        self._thread_records = thread_records

    def run(self, request: RunRequest) -> tuple[RunRequest, Filters | None]:
        """Ask whether its caller may have a run.

        Returns:
            The request, as its caller may have it; and what the metadata of its thread must
            contain, unless it makes that.

        Raises:
            ThreadNotFound: its thread is not there for the caller.
            Refused, AuthFailed, AuthBusy, StorageUnavailable.
        """
        if self._access is None:
            return request, None
        user = _user_of(request)
        kwargs = {name: getattr(request, name) for name in _KWARGS}
        value = {
            "thread_id": UUID(request.thread_id) if request.thread_id else None,
            "assistant_id": uuid_of(request.assistant_id),
            "run_id": None,
            "status": "pending",
            "prevent_insert_if_inflight": request.multitask_strategy == "reject",
            **{name: getattr(request, name) for name in _OUTSIDE},
            "kwargs": kwargs,
        }
        filters = self._access.authorize(user, "threads", "create_run", value)
        changed = {name: value[name] for name in _OUTSIDE if name in value}
        changed |= {name: kwargs[name] for name in _KWARGS if name in kwargs}
        request = replace(request, **changed)
        if request.thread_id is not None:
            may_be_made = request.if_not_exists == "create"
            self.thread(request.thread_id, filters, may_be_made=may_be_made)
        return request, filters

    def assistant(self, assistant: Assistant, request: RunRequest) -> None:
        """Raise AssistantNotFound where a run's assistant is not there for its caller."""
        if self._access is None or not self._access.isolates or assistant.is_of_system:
            return
        value = {"assistant_id": UUID(assistant.assistant_id), "metadata": {}}
        filters = self._access.authorize(_user_of(request), "assistants", "read", value)
        if not permits(filters, assistant.metadata):
            raise AssistantNotFound(f"assistant {assistant.assistant_id} not found")

    def thread(self, thread_id: str, filters: Filters | None, *, may_be_made: bool = False) -> None:
        """Raise ThreadNotFound where a thread is not there for whom these filters are.

        Args:
            may_be_made: whether it is all right if there is none for anybody.
        """
        if filters is None:
            return
        try:
            metadata = self._thread_records.metadata(thread_id)
        except ThreadNotFound:
            if may_be_made:
                return
            raise
        if not permits(filters, metadata):
            raise ThreadNotFound(thread_id)

    def has(self, thread_id: str, filters: Filters) -> bool:
        """Whether a thread is there for whom these filters are."""
        try:
            self.thread(thread_id, filters)
        except ThreadNotFound:
            return False
        return True

    def record(self, record: RunRecord, filters: Filters | None) -> bool:
        """Whether a run is there for whom these filters are: it is if its thread is."""
        if filters is None:
            return True
        # A thread that goes with its run has no record of its own yet, where the run is short.
        if record.kwargs.get("temporary"):
            return permits(filters, record.metadata)
        return self.has(record.thread_id, filters)


def _user_of(request: RunRequest) -> User:
    if request.user is None:
        raise Refused(403, "this run has no caller who may have it")
    return User(request.user)
