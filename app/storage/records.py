"""Runs as Redis holds them.

All keys of this family share one hash tag, `{prefix}`, so that one script may touch any of them:

    {prefix}:run:<run id>       hash    record     what never changes of RunRecord, as JSON
                                        status, updated_at   what does
                                        owner      the process that runs it
                                        cancel     1: it is to be cancelled
                                        ended_by   the process that ended it; there once it ended
                                        once       1: kept only until those who waited have it
    {prefix}:result:<run id>    string  the document that the run's end left
    {prefix}:waiting:<run id>   set     processes to be told of its end
    {prefix}:leases             zset    ids of runs that execute, by the ms when their lease lapses
    {prefix}:beat               hash    at, quiet_until: see lua/beat.lua
    {prefix}:told:<process>     channel "ended <run id>", "cancel <run id>"

Clocks are Redis's own, read inside the scripts.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from app.storage.connection import Script, Storage, StorageUnavailable

# How long a result stays once it is delivered, and at most where it is only for those who wait.
DELIVERED_SECONDS = 30.0


class RunStatus(StrEnum):
    """Where a run stands (contract section 3)."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCESS = "success"
    ERROR = "error"
    INTERRUPTED = "interrupted"
    TIMEOUT = "timeout"

    @property
    def ended(self) -> bool:
        """Whether nothing can change the run any more."""
        return self not in (RunStatus.PENDING, RunStatus.RUNNING)


def now() -> str:
    """The time as the API gives it: ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat()


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What is known of a run to anyone who asks (contract section 3)."""

    run_id: str
    thread_id: str
    assistant_id: str
    graph_id: str
    metadata: dict[str, Any]
    status: RunStatus
    kwargs: dict[str, Any]
    multitask_strategy: str = "enqueue"
    created_at: str = field(default_factory=now)
    updated_at: str = field(default_factory=now)

    def moved_to(self, status: RunStatus) -> RunRecord:
        """This record with another status, changed now."""
        return replace(self, status=status, updated_at=now())

    def public(self) -> dict[str, Any]:
        """The record as the API shows it."""
        return {
            each.name: getattr(self, each.name) for each in fields(self) if each.name != "graph_id"
        }

    def lasting(self) -> str:
        """What never changes of the record, as JSON."""
        return json.dumps({name: getattr(self, name) for name in _LASTING})

    @classmethod
    def restored(cls, lasting: bytes, status: bytes, updated_at: bytes) -> RunRecord:
        """The record from its parts; names that this version does not know are left alone."""
        stored = json.loads(lasting)
        return cls(
            status=RunStatus(status.decode()),
            updated_at=updated_at.decode(),
            **{name: stored[name] for name in _LASTING},
        )


_LASTING = tuple(
    each.name for each in fields(RunRecord) if each.name not in ("status", "updated_at")
)


@dataclass(frozen=True)
class StoredRun:
    """A run as found in Redis: its record and, once it ended, its document."""

    record: RunRecord
    document: bytes | None


@dataclass(frozen=True)
class Beat:
    """What a process learns from its beat: ids of runs."""

    missing: list[str]
    cancelled: list[str]
    lapsed: list[str]


class RunRecords:
    """The runs in Redis. Every method is one round trip and may raise StorageUnavailable."""

    def __init__(self, storage: Storage, prefix: str, process_id: str, result_ttl: float) -> None:
        """Prepare.

        Args:
            storage: the process's connections.
            prefix: what all keys begin with, so that services can share a Redis.
            process_id: this process's name among those that share it.
            result_ttl: seconds that a result is kept after its run's end.
        """
        self._storage = storage
        self._tag = "{" + prefix + "}"
        self._process_id = process_id
        self._result_ms = round(result_ttl * 1000)
        self._leases = f"{self._tag}:leases"
        self._beat = f"{self._tag}:beat"
        self._channels = f"{self._tag}:told:"

    @property
    def channel(self) -> str:
        """The channel on which this process is told of runs."""
        return self._channels + self._process_id

    def create(self, record: RunRecord, lease: float) -> None:
        """Record a run that this process starts, and take its lease of `lease` seconds."""
        self._storage.call(
            _CREATE,
            [self._run(record.run_id), self._leases],
            [
                record.run_id,
                round(lease * 1000),
                self._process_id,
                record.lasting(),
                record.status,
                record.updated_at,
            ],
        )

    def finish(
        self, record: RunRecord, document: bytes, *, created: bool, if_lapsed: bool = False
    ) -> bool:
        """End a run with a status and a document.

        Args:
            record: the run as it ended.
            document: the answer, JSON.
            created: whether `create` recorded it, so that what never changes need not be sent.
            if_lapsed: only if the run's lease has lapsed.

        Returns:
            Whether this end stands; False where the run ended otherwise before.
        """
        keys = [self._run(record.run_id), self._result(record.run_id)]
        keys += [self._leases, self._waiting(record.run_id)]
        args: list[str | bytes | int] = [
            record.run_id,
            self._process_id,
            self._result_ms,
            round(DELIVERED_SECONDS * 1000),
            self._channels,
            "1" if if_lapsed else "0",
            document,
            record.status,
            record.updated_at,
        ]
        answer = self._storage.call(_FINISH, keys, [*args, "" if created else record.lasting()])
        if answer == -1:  # Redis lost it meanwhile
            answer = self._storage.call(_FINISH, keys, [*args, record.lasting()])
        return bool(answer)

    def read(self, run_id: str, *, wait: bool = False) -> StoredRun | None:
        """A run, or None if there is none.

        Args:
            run_id: the run's id.
            wait: have this process told on its channel when the run ends, if it has not yet.
        """
        lasting, status, updated_at, document = self._storage.call(
            _READ,
            [self._run(run_id), self._result(run_id), self._waiting(run_id)],
            [self._process_id if wait else ""],
        )
        if lasting is None:
            return None
        return StoredRun(RunRecord.restored(lasting, status, updated_at), document)

    def cancel(self, run_id: str) -> None:
        """Have the process that runs it cancel a run, if it has not ended."""
        self._storage.call(_CANCEL, [self._run(run_id)], [run_id, self._channels])

    def beat(self, run_ids: Sequence[str], lease: float) -> Beat:
        """Renew the leases of this process's runs, and look for those of lost processes."""
        missing, cancelled, lapsed = self._storage.call(
            _BEAT,
            [self._leases, self._beat, *(self._run(each) for each in run_ids)],
            [round(lease * 1000), *run_ids],
        )
        return Beat(*([each.decode() for each in ids] for ids in (missing, cancelled, lapsed)))

    def shorten(self, run_ids: Sequence[str], seconds: float) -> None:
        """Keep the results of runs that were delivered only `seconds` longer."""
        keys = [key for each in run_ids for key in (self._run(each), self._result(each))]
        self._storage.call(_SHORTEN, keys, [round(seconds * 1000)])

    def _run(self, run_id: str) -> str:
        return f"{self._tag}:run:{run_id}"

    def _result(self, run_id: str) -> str:
        return f"{self._tag}:result:{run_id}"

    def _waiting(self, run_id: str) -> str:
        return f"{self._tag}:waiting:{run_id}"


_CREATE = Script.load("create")
_FINISH = Script.load("finish")
_READ = Script.load("read")
_CANCEL = Script.load("cancel")
_BEAT = Script.load("beat")
_SHORTEN = Script.load("shorten")

__all__ = ["Beat", "RunRecord", "RunRecords", "RunStatus", "StorageUnavailable", "StoredRun", "now"]
