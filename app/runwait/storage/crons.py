"""Crons as Redis holds them, in the family of keys of the runs (records.py).

    {prefix}:cron:<id>        hash  record     what clients ask of it, as JSON: see CronRecord
                                    terms      JSON list of its index terms
                                    revision   the last change that a client made
                                    next       the ms when it is due; absent: never
                                    missed     how many due times started no run
                                    last_run, last_by  the last run that it started, and the
                                               process that did that
                                    created, updated  ms
                                    thread, assistant, end  their ids, and the ms: to sort by
    {prefix}:cron:<id>:deleted  string  the call that deleted it; stays a few seconds
    {prefix}:crons            zset  ids of all crons, by the ms of their creation
    {prefix}:crons:<term>     zset  the same, of those with an index term: `assistant=<id>`,
                                    `thread=<id>`, `enabled=<0 or 1>`, or one of the metadata's
    {prefix}:crons:due        zset  ids by the ms when they are due

A cron that is due stays in the last of them until lua/crons/start.lua has admitted its run and set
the next time, in one step. So no process has it meanwhile, and none can lose it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal
from uuid import uuid4

from runwait.storage.connection import InTime, Script, Scripts, Storage, named
from runwait.storage.index import find
from runwait.storage.metadata import MetadataQuery, index_terms
from runwait.storage.records import NewThread, RunRecord, RunRecords, Verdict
from runwait.storage.times import shown

log = logging.getLogger("runwait.crons")

# How long it is known who deleted a cron; a call is repeated at once or never.
_DELETED_MS = 10_000
# Read by one call, at most.
_READ_BATCH = 100
# Found by one call, at most.
_FOUND_BATCH = 5000
# Those that are due are read and started in such portions. Redis answers nobody else meanwhile, and
# takes some 60 us for each; whoever starts them waits for it, and for other threads, at each call.
_DUE_MOST = 150
_DUE_BYTES = 131_072

_SORTED_BY = {
    "cron_id": None,
    "assistant_id": "assistant",
    "thread_id": "thread",
    "next_run_date": "next",
    "end_time": "end",
    "created_at": "created",
    "updated_at": "updated",
}
SORTS = tuple(_SORTED_BY)
_NUMBERS = ("next", "end", "created", "updated")

Started = Literal["pending", "over", "missing", "missed", "busy", "waiting", "fault"]


class CronNotFound(Exception):
    """There is no cron of this id."""


class ThreadGone(Exception):
    """The thread of a new cron is not there."""


class AssistantGone(Exception):
    """The assistant of a new cron is not there."""


@dataclass(frozen=True, kw_only=True)
class CronRecord:
    """What is known of a cron.

    Attributes:
        graph_id: the graph of its assistant when it was made.
        thread_id: the thread of all its runs; None: each has one of its own.
        timezone: an IANA name; None for UTC.
        end_time: ms since 1970; after it no run starts. None: no end.
        on_run_completed: what becomes of a run's own thread; None with a thread.
        payload: the fields of its runs as they were sent, but for metadata.
        metadata: of the cron, and of its runs.
        user: as whom its runs run (`User`'s fields); None where nobody was asked.
        headers: those of its maker's request that its runs' configurable has.
        next: ms since 1970, when it is due next; None: never.
        missed_runs: how many due times started no run.
    """

    cron_id: str
    assistant_id: str
    graph_id: str
    thread_id: str | None = None
    schedule: str
    timezone: str | None = None
    end_time: int | None = None
    enabled: bool = True
    on_run_completed: Literal["delete", "keep"] | None = None
    payload: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    user: dict[str, Any] | None = None
    headers: dict[str, str] = field(default_factory=dict)
    next: int | None = None
    missed_runs: int = 0
    created: int = 0
    updated: int = 0
    revision: str = ""

    @property
    def terms(self) -> list[str]:
        """What it is found by."""
        thread = [] if self.thread_id is None else [f"thread={self.thread_id}"]
        mine = [f"assistant={self.assistant_id}", f"enabled={self.enabled:d}", *thread]
        return mine + index_terms(self.metadata)

    def lasting(self) -> str:
        """What clients ask of it, as JSON."""
        return json.dumps({name: getattr(self, name) for name in _LASTING})

    @classmethod
    def restored(cls, cron_id: str, values: Sequence[bytes | None]) -> CronRecord:
        """The cron from the fields that `FIELDS` names."""
        record, after, missed, created, updated, revision = values
        lasting = json.loads(record or b"{}")
        return cls(
            cron_id=cron_id,
            **{name: lasting[name] for name in _LASTING if name in lasting},
            next=None if after is None else int(after),
            missed_runs=int(missed or 0),
            created=int(created or 0),
            updated=int(updated or 0),
            revision=(revision or b"").decode(),
        )

    def public(self) -> dict[str, Any]:
        """The cron as the API shows it."""
        metadata = {"metadata": self.metadata} if self.metadata else {}
        return {
            "cron_id": self.cron_id,
            "assistant_id": self.assistant_id,
            "thread_id": self.thread_id,
            "user_id": None if self.user is None else self.user["identity"],
            "schedule": self.schedule,
            "timezone": self.timezone,
            "end_time": _text(self.end_time),
            "payload": {"assistant_id": self.assistant_id, **self.payload, **metadata},
            "next_run_date": _text(self.next),
            "metadata": self.metadata,
            "on_run_completed": self.on_run_completed,
            "enabled": self.enabled,
            "created_at": _text(self.created),
            "updated_at": _text(self.updated),
            "missed_runs": self.missed_runs,
        }


_STATE = ("cron_id", "next", "missed_runs", "created", "updated", "revision")
_LASTING = tuple(each.name for each in fields(CronRecord) if each.name not in _STATE)
_FIELDS = ("record", "next", "missed", "created", "updated", "revision")


def _text(ms: int | None) -> str | None:
    return None if ms is None else shown(milliseconds=ms)


PUBLIC = tuple(CronRecord(cron_id="", assistant_id="", graph_id="", schedule="").public())
"""What a cron has, as the API shows it."""


@dataclass(frozen=True, kw_only=True)
class CronQuery(MetadataQuery):
    """Which crons are looked for; one that says nothing looks for all."""

    assistant_id: str | None = None
    thread_id: str | None = None
    enabled: bool | None = None
    limit: int = 10
    offset: int = 0
    sort_by: str = "created_at"
    sort_order: str = "desc"

    @property
    def terms(self) -> list[str]:
        """The index terms that a match has, all of them."""
        terms = [
            f"{name}={value}"
            for name, value in (("assistant", self.assistant_id), ("thread", self.thread_id))
            if value is not None
        ]
        if self.enabled is not None:
            terms.append(f"enabled={self.enabled:d}")
        return [*terms, *self.metadata_terms]


@dataclass(frozen=True)
class Start:
    """A run that a cron which is due is to start.

    Attributes:
        cron: the cron as it was read.
        record: the run; nobody waits for it, and any process may claim it.
        thread: the run's thread, if that outlives it.
        next: the time after this one, ms since 1970; None if there is none.
        missed: how many times before this one were missed.
        none: whether no run is to be started for this one either.
        seen_metadata: what came with the verdict `metadata`.
    """

    cron: CronRecord
    record: RunRecord
    thread: NewThread | None
    next: int | None
    missed: int = 0
    none: bool = False
    seen_metadata: bytes | None = None


@dataclass(frozen=True)
class Due:
    """What is due.

    Attributes:
        now: Redis's clock, ms since 1970.
        seconds: until the next is due, where nothing is now; None if nothing is to come.
        crons: of each, its id and the values of its fields.
    """

    now: int
    seconds: float | None
    crons: list[tuple[str, list[bytes | None]]]


class CronRecords:
    """The crons in Redis. Every method may raise StorageUnavailable."""

    def __init__(self, storage: Storage, prefix: str, runs: RunRecords) -> None:
        """Prepare.

        Args:
            storage, prefix: see `Scripts`.
            runs: the runs' records.
        """
        self._scripts = Scripts(storage, prefix)
        self._in_time = Scripts(InTime(storage), prefix)
        self._tag = self._scripts.tag
        self._due = f"{self._tag}:crons:due"
        self._runs = runs

    def now(self) -> int:
        """Redis's clock, ms since 1970."""
        return int(self._scripts.call(_READ, [], fields=["record"])[0])

    def create(self, cron: CronRecord, *, of_system: bool) -> None:
        """Record a new cron.

        Args:
            cron: the cron, with the time when it is due.
            of_system: whether its assistant is one of the system's, which are always there.

        Raises:
            ThreadGone, AssistantGone: it is not there.
        """
        answer = self._write(cron, system=of_system, timed=True)
        if answer == -2:
            raise ThreadGone(cron.thread_id)
        if answer == -3:
            raise AssistantGone(cron.assistant_id)

    def change(self, cron: CronRecord, *, timed: bool) -> bool:
        """Record a change of a cron that was read.

        Args:
            cron: the cron as it is to be.
            timed: whether the time when it is due is changed too.

        Returns:
            False if it was changed since it was read.

        Raises:
            CronNotFound: there is none any more.
        """
        answer = self._write(cron, seen=cron.revision, timed=timed)
        if answer == 0:
            raise CronNotFound(cron.cron_id)
        return answer == 1

    def _write(self, cron: CronRecord, **given: Any) -> int:
        given |= {"thread": cron.thread_id, "assistant": cron.assistant_id, "end": cron.end_time}
        answer: int = self._in_time.call(
            _WRITE,
            [self._key(cron.cron_id)],
            id=cron.cron_id,
            record=cron.lasting(),
            terms=json.dumps(cron.terms),
            revision=uuid4().hex,
            next=cron.next,
            **given,
        )
        return answer

    def get(self, cron_id: str) -> CronRecord:
        """A cron.

        Raises:
            CronNotFound: there is none.
        """
        for cron in self._read([cron_id]):
            return cron
        raise CronNotFound(cron_id)

    def delete(self, cron_id: str) -> None:
        """Delete a cron; its runs stay, and go on.

        Raises:
            CronNotFound: there is none.
        """
        key = f"{self._key(cron_id)}:deleted"
        call = uuid4().hex
        if not self._scripts.call(_DELETE, [key], id=cron_id, call=call, stays=_DELETED_MS):
            raise CronNotFound(cron_id)

    def search(self, query: CronQuery) -> tuple[list[CronRecord], int]:
        """The crons that match, a page of them in order; and how many there are.

        Cost: the ids of all that match, and the page; where the index does not say all that the
        query says, all that match.
        """
        matches = self._matches(query)
        ordered = sorted(
            (match for match in matches if match[0] is not None),
            reverse=query.sort_order == "desc",
        )
        # What has no such value comes last in either order.
        ordered += (match for match in matches if match[0] is None)
        page = [each for _, each in ordered[query.offset : query.offset + query.limit]]
        return list(self._read(page)), len(matches)

    def count(self, query: CronQuery) -> int:
        """How many crons match."""
        return len(self._matches(query))

    def _matches(self, query: CronQuery) -> list[tuple[Any, str]]:
        """What they are sorted by, and the id, of all that match."""
        name = _SORTED_BY[query.sort_by]
        keys = [f"{self._tag}:crons:{term}" for term in query.terms] or [f"{self._tag}:crons"]
        found: dict[str, Any] = {}
        rows: list[Any] = [None]
        while rows:
            skip = len(found)
            rows, _, _ = find(
                self._in_time,
                self._key(""),
                keys,
                "asc",
                skip,
                _FOUND_BATCH,
                [] if name is None else [name],
            )
            for cron_id, *values in rows:
                value: Any = (values[0] or None) if values else cron_id
                if value is not None and name in _NUMBERS:
                    value = int(value)
                found[cron_id.decode()] = value
            if len(rows) < _FOUND_BATCH:
                break
        if not query.is_indexed:
            fitting = {
                cron.cron_id for cron in self._read(list(found)) if query.finds(cron.metadata)
            }
            found = {cron_id: value for cron_id, value in found.items() if cron_id in fitting}
        return [(value, cron_id) for cron_id, value in found.items()]

    def due(self, place: float) -> Due:
        """Some of the crons that are due.

        Args:
            place: where among them to begin, from 0 to 1.
        """
        now, wait, *found = self._scripts.call(
            _DUE,
            [self._due],
            most=_DUE_MOST,
            size=_DUE_BYTES,
            place=str(place),
            fields=json.dumps(_FIELDS),
        )
        crons = [(cron_id.decode(), values) for cron_id, *values in found]
        return Due(now, None if wait < 0 else wait / 1000, crons)

    def start(self, starts: Sequence[Start], lease: float) -> list[Verdict | Started]:
        """Admit the runs of crons that are due, and set when those are due next.

        Args:
            starts: what is to be started.
            lease: seconds of a lease.

        Returns:
            What became of each, see lua/crons/start.lua; or what has to be done first, as
            `RunRecords.admit` has it: `metadata`, or `left over`.
        """
        asked = []
        for each in starts:
            missing: Literal["create", "reject"]
            missing = "create" if each.cron.thread_id is None else "reject"
            key, given = self._runs.unfollowed(each.record, lease, each.thread, missing)
            given |= {
                "seen": None if each.seen_metadata is None else each.seen_metadata.decode(),
                "run": key,
                "cron": each.cron.cron_id,
                "due": each.cron.next,
                "next": each.next,
                "missed": each.missed,
                "none": each.none,
            }
            asked.append([str(value) for value in named(prefix=self._tag, **given)])
        found = self._scripts.call(_START, [], starts=json.dumps(asked))
        outcomes: list[Verdict | Started] = []
        for cron, (kind, *rest) in zip(starts, found, strict=True):
            name = kind.decode()
            if name == "metadata":
                outcomes.append(Verdict(name, metadata=rest[0]))
            elif name == "left over":
                outcomes.append(Verdict(name, token=int(rest[0])))
            else:
                if name == "fault":
                    log.error("cron %s: %s", cron.cron.cron_id, rest[0].decode(errors="replace"))
                outcomes.append(name)
        return outcomes

    def put_off(self, cron_id: str, pause: float) -> None:
        """Have a cron that could not be started looked at again in `pause` seconds."""
        self._scripts.call(_PUT_OFF, [self._due], id=cron_id, pause=round(pause * 1000))

    def _read(self, cron_ids: Sequence[str]) -> Iterator[CronRecord]:
        """Those of the crons that are there."""
        for start in range(0, len(cron_ids), _READ_BATCH):
            batch = cron_ids[start : start + _READ_BATCH]
            _, *rows = self._in_time.call(
                _READ, [self._key(each) for each in batch], fields=_FIELDS
            )
            for cron_id, values in zip(batch, rows, strict=True):
                if values[0] is not None:
                    yield CronRecord.restored(cron_id, values)

    def _key(self, cron_id: str) -> str:
        return f"{self._tag}:cron:{cron_id}"


_LIBRARIES = ("runs/library", "crons/library")
_WRITE = Script.load("crons/write", *_LIBRARIES, "threads/library")
_READ = Script.load("crons/read", *_LIBRARIES, large=True)
_DELETE = Script.load("crons/delete", *_LIBRARIES)
_DUE = Script.load("crons/due", *_LIBRARIES, large=True)
_PUT_OFF = Script.load("crons/put_off", *_LIBRARIES)
_START = Script.over(
    "crons/start", "runs/admit", "admit", *_LIBRARIES, "threads/library", "runs/turns"
)
