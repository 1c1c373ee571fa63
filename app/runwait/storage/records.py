"""Runs as Redis holds them.

All keys of this family share one hash tag, `{prefix}`, so that one script may touch any of them:

    {prefix}:run:<run id>       hash    record     what never changes of RunRecord, as JSON
                                        status, updated_at, thread_id
                                        owner      the process that has it; absent while none does
                                        token      the fencing token of the last claim
                                        attempts   how often it was taken
                                        postponed, postponed_since  see lua/runs/postpone.lua
                                        handed_back  how often it was given up without a loss
                                        stopped    how often of that its process was stopped
                                        made_thread  1: its kept thread was made with it
                                        cancel     interrupt or rollback: it is to be stopped
                                        ended_by   who ended it; there once it ended
                                        kept       1: its thread outlives it
                                        error      the error of a kept run that failed, as JSON
                                        undone     1: rolled back, or its thread was removed; only
                                                   those who wait may see it
                                        once       1: the result is only for those who waited
                                        strategy   what it does to a busy thread when it is due
                                        watcher    who was told of it first, see follow_thread.lua
                                        idempotency, idempotency_ttl   the key below, and its ms
                                        answered   the key below where its answer did not wait for
                                                   the end
    {prefix}:result:<run id>    string  the document that the run's end left
    {prefix}:waiting:<run id>   set     processes to be told of its end
    {prefix}:events:<run id>    stream  see events.py; {prefix}:listening:<run id> too
    {prefix}:leases             zset    ids of runs that execute, by the ms when their lease lapses
    {prefix}:ready              zset    ids of runs that any process may take, by the ms when due
    {prefix}:queued             zset    ids of runs that wait for their thread, by their arrival
    {prefix}:tokens             string  the last fencing token
    {prefix}:idempotency:<hash> hash    request, run_id, thread_id; document once the run ended;
                                        told   1: it was replayed
                                        admitted   of an answer that names many runs: how many of
                                                   them are there, until all are
    {prefix}:claim:<process>    hash    the last claim of a process: call, id
    {prefix}:claim:<process>:cancelled  the same, of claims of cancelled runs alone
    {prefix}:lapsed:<run id>    string  1: a process was lost with it, within the last day
    {prefix}:beat               hash    at, quiet_until: see lua/runs/beat.lua
    {prefix}:told:<process>     channel "ended <run id>", "cancel <run id> <action>"
    {prefix}:told:all           channel "ready": a run may be taken; "cron": one may be due

Threads are described in threads.py. Clocks are Redis's own, read inside the scripts.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256
from typing import Any, Literal
from uuid import uuid4

import orjson
from redis.exceptions import RedisError

from runwait.changed import changed
from runwait.storage.cluster import server_of
from runwait.storage.connection import (
    InTime,
    Script,
    Scripts,
    Storage,
    StorageUnavailable,
    StorageUnsuitable,
    client,
    named,
)
from runwait.storage.outbox import NewWebhook

# The layout of a record's JSON. A version that changes what a name means has to raise it.
LAYOUT = 1

# How long a result stays once it is delivered, and at most where it is only for those who wait.
DELIVERED_SECONDS = 30.0

Action = Literal["interrupt", "rollback"]


class UnreadableRecord(Exception):
    """A run's record is not as this version of Runwait writes it; the text says what is wrong."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"the run's record is of another version of Runwait: {problem}")


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
    """What is known of a run.

    Attributes:
        kwargs: what was asked for, as the API shows it.
        surroundings: what else is needed to execute it, in whichever process.
    """

    run_id: str
    thread_id: str
    assistant_id: str
    graph_id: str
    metadata: dict[str, Any]
    status: RunStatus
    kwargs: dict[str, Any]
    multitask_strategy: str = "enqueue"
    surroundings: dict[str, Any] = field(default_factory=dict)
    created_at: str = field(default_factory=now)
    updated_at: str = field(default_factory=now)

    def moved_to(self, status: RunStatus) -> RunRecord:
        """This record with another status, changed now."""
        return changed(self, status=status, updated_at=now())

    def public(self) -> dict[str, Any]:
        """The record as the API shows it (contract section 3)."""
        return {name: getattr(self, name) for name in PUBLIC}

    def lasting(self) -> str:
        """What never changes of the record, as JSON."""
        names = {"layout": LAYOUT, **{name: getattr(self, name) for name in _LASTING}}
        try:
            return orjson.dumps(names).decode()
        except orjson.JSONEncodeError:  # an integer of more than 64 bits, or very deep
            return json.dumps(names)

    @classmethod
    def restored(cls, lasting: bytes, status: bytes, updated_at: bytes) -> RunRecord:
        """The record from its parts; names that this version does not know are left alone.

        Raises:
            UnreadableRecord: it lacks what it must have, or its layout is another.
        """
        stored = _parsed(lasting)
        if not stored:
            raise UnreadableRecord("it is not a JSON object")
        layout = stored.get("layout", LAYOUT)
        if layout != LAYOUT:
            raise UnreadableRecord(f"its layout is {layout!r}, not {LAYOUT}")
        lacking = [name for name, kind in _LASTING.items() if not _is(stored.get(name), kind)]
        if lacking:
            raise UnreadableRecord(f"it lacks {', '.join(lacking)}")
        try:
            moved = RunStatus(status.decode())
        except ValueError:
            raise UnreadableRecord(f"its status is {status.decode()!r}") from None
        return cls(
            status=moved,
            updated_at=updated_at.decode(),
            **{name: stored[name] for name in _LASTING},
        )

    @classmethod
    def remains(cls, run_id: str, thread_id: str, lasting: bytes) -> RunRecord:
        """What can be said of a run whose record cannot be read, to end it."""
        stored = _parsed(lasting)
        found = {
            name: stored[name] if _is(stored.get(name), kind) else kind()
            for name, kind in _LASTING.items()
        }
        found |= {"run_id": run_id, "thread_id": thread_id}
        found["created_at"] = found["created_at"] or now()
        return cls(status=RunStatus.RUNNING, **found)


_LASTING: dict[str, type[Any]] = {
    **dict.fromkeys(("run_id", "thread_id", "assistant_id", "graph_id"), str),
    **dict.fromkeys(("metadata", "kwargs"), dict),
    "multitask_strategy": str,
    "surroundings": dict,
    "created_at": str,
}


def _parsed(lasting: bytes) -> dict[str, Any]:
    try:
        stored = json.loads(lasting)
    except ValueError:
        return {}
    return stored if isinstance(stored, dict) else {}


def _is(value: Any, kind: type[Any]) -> bool:
    return isinstance(value, kind)


PUBLIC = tuple(
    each.name for each in fields(RunRecord) if each.name not in ("graph_id", "surroundings")
)
"""What a run has, as the API shows it."""


@dataclass(frozen=True)
class StoredRun:
    """A run as found in Redis.

    Attributes:
        document: what its end left, for as long as that is kept.
        kept: whether its thread outlives it.
        error: of a kept run that failed: {error, message}.
        logged: whether there is a log of its events.
        once: what is here is only for those who waited for its end.
    """

    record: RunRecord
    document: bytes | None
    kept: bool = False
    error: dict[str, str] | None = None
    logged: bool = False
    once: bool = False


@dataclass(frozen=True)
class NewThread:
    """The thread of a run, where it has to be made.

    Attributes:
        metadata: its metadata.
        terms: the index terms of the metadata.
        ttl_ms: its idle life in ms; None: for ever.
        prunes: whether it is then pruned, and does not go.
    """

    metadata: dict[str, Any]
    terms: list[str]
    ttl_ms: int | None
    prunes: bool = False


@dataclass(frozen=True)
class IdempotencyKey:
    """What a client sends to be able to repeat a request (contract section 1).

    Attributes:
        name: the key, with whatever else tells it from the same key of others.
        request: a fingerprint of the request.
        ttl: seconds that the answer is kept.
    """

    name: str
    request: str
    ttl: float


@dataclass(frozen=True)
class Verdict:
    """What became of a run that was to be admitted.

    Attributes:
        kind: `running` here; `pending`, for its time, its turn or a free process. Not taken in:
            `ended`, before; `missing`, there is no such thread; `busy`, another run has it;
            `left over`, what an earlier thread of this id left has to be cleaned away first;
            `metadata`, the thread's own has to be sent along; `replayed`, `in flight` and `other`:
            the idempotency key was used before, by a run that ended, by one that has not, or with
            another request.
        token: the fencing token, where it is running; that to clean up with, else.
        listened: whether somebody follows its thread, where it is running.
        metadata: the thread's metadata as it is stored.
        run_id, thread_id: those of the run that had the key.
        document: that run's answer.
        admitted: how many of the runs of that answer were taken in, if not all of them.
    """

    kind: Literal[
        "running",
        "pending",
        "ended",
        "missing",
        "busy",
        "left over",
        "metadata",
        "replayed",
        "in flight",
        "other",
    ]
    token: int | None = None
    listened: bool = False
    admitted: int | None = None
    metadata: bytes | None = None
    run_id: str = ""
    thread_id: str = ""
    document: bytes = b""


def _verdict(kind: Any, rest: list[Any]) -> Verdict:
    if kind in ("running", "left over"):
        return Verdict(kind, token=int(rest[0]), listened=rest[-1] == 1)
    if kind == "metadata":
        return Verdict(kind, metadata=rest[0])
    if kind in ("replayed", "in flight"):
        return Verdict(
            kind, run_id=rest[0].decode(), thread_id=rest[1].decode(), document=b"".join(rest[2:])
        )
    return Verdict(kind)


@dataclass(frozen=True)
class Claim:
    """A run that this process took.

    Attributes:
        record: the run.
        token: its fencing token.
        attempt: how often it was started, this time included.
        losses: how often its process was lost, or it could not go on there.
        stops: how often its process was stopped, and gave it back.
        problem: why its record cannot be read, if it cannot; `record` is what is left of it.
        cancel: it is not to be executed but ended, in this way.
        kept: whether its thread outlives it.
        has_thread: whether it is its turn on that thread; not if it is cancelled while it waits.
        is_graphs: whether the thread is known to be that of the run's graph and assistant.
        listened: whether a process listens to its events.
    """

    record: RunRecord
    token: int
    attempt: int
    cancel: Action | None
    kept: bool
    has_thread: bool
    is_graphs: bool
    losses: int = 0
    listened: bool = False
    stops: int = 0
    problem: str | None = None


@dataclass(frozen=True)
class ThreadEnd:
    """What a kept run's end makes of its thread.

    Attributes:
        status: the thread's status; None for what it was before the run.
        error: the run's error, if it failed: {error, message}; the thread's too, with a new status.
    """

    status: Literal["idle", "interrupted", "error"] | None = None
    error: dict[str, str] | None = None


@dataclass(frozen=True)
class Beat:
    """What a process learns from its beat: ids of its runs.

    Attributes:
        missing: Redis has no record of these.
        cancelled: to be stopped, each in which way.
        lost: another process's now, or ended by one, since this one was taken for dead.
        recovered: how many runs of lost processes it made ready.
    """

    missing: list[str]
    cancelled: list[tuple[str, Action]]
    lost: list[str]
    recovered: int


@dataclass(frozen=True)
class Queue:
    """How many runs there are that have not ended, as Redis knows them; seconds of the oldest.

    Attributes:
        running: they execute. Runs of a few ms come and go without being counted.
        ready: they are due, and wait for a place.
        scheduled: they wait for their time.
        queued: they wait for their thread.
        ready_age, queued_age: for how long the first of those has waited; 0 if there is none.
        webhooks, dead_webhooks: those to be delivered, and those that were given up.
    """

    running: int
    ready: int
    scheduled: int
    queued: int
    ready_age: float
    queued_age: float
    webhooks: int
    dead_webhooks: int


class RunRecords:
    """The runs in Redis. Every method is one round trip and may raise StorageUnavailable."""

    def __init__(self, storage: Storage, prefix: str, process_id: str, result_ttl: float) -> None:
        """Prepare.

        Args:
            storage, prefix: see `Scripts`.
            process_id: this process's name among those that share it.
            result_ttl: seconds that a result is kept after its run's end.
        """
        self._storage = storage
        self._scripts = Scripts(storage, prefix)
        self._in_time = Scripts(InTime(storage), prefix)
        self._tag = self._scripts.tag
        self._process_id = process_id
        self._result_ms = round(result_ttl * 1000)
        self._leases = f"{self._tag}:leases"
        self._ready = f"{self._tag}:ready"
        self._queued = f"{self._tag}:queued"
        # What tells a claim from others, for as long as its answer did not come; of any run, and of
        # cancelled ones alone.
        self._claims = {False: uuid4().hex, True: uuid4().hex}

    @property
    def back_since(self) -> float:
        """When Redis was found again last, on the monotonic clock; -inf if it was never away."""
        return self._storage.back_since

    @property
    def channels(self) -> list[str]:
        """The channels on which this process is told of runs."""
        return [f"{self._tag}:told:{self._process_id}", f"{self._tag}:told:all"]

    def admit(
        self,
        record: RunRecord,
        lease: float,
        *,
        may_start: bool,
        delay: float = 0.0,
        key: IdempotencyKey | None = None,
        thread: NewThread | None = None,
        missing: Literal["create", "reject", "again"] = "create",
        seen_metadata: bytes | None = None,
        followed: bool = True,
        streamed: bool = False,
        answer: bytes | None = None,
        losses: int = 0,
    ) -> Verdict:
        """Admit a run.

        Args:
            record: the run.
            lease: seconds after which it is taken for lost, if it starts here.
            may_start: whether this process has a place for it.
            delay: seconds until it is due.
            key: what makes a repeated request find this run instead of making another.
            thread: its thread, if that outlives it: as it is to be made, or as it is to be changed
                after the verdict `metadata`.
            missing: where there is no such thread: make it or not; `again` for a run that Redis
                lost, which does not bring back a thread that was removed.
            seen_metadata: what came with that verdict.
            followed: whether somebody in this process follows the run.
            streamed: whether that somebody is to be given all its events.
            answer: the answer to the request, where that does not wait for the run's end.
            losses: how often it was lost, if it is recorded again.
        """
        run = self._run(record.run_id)
        keys = [run, run if key is None else self._key(key)]
        given = self._admitted(record, lease)
        given |= {
            "may_start": may_start,
            "followed": followed,
            "streamed": streamed,
            "delay": round(delay * 1000),
            "losses": losses,
        }
        if key is not None:
            given |= {"fingerprint": key.request, "key_ttl": round(key.ttl * 1000)}
            given["answer"] = answer
        if thread is not None:
            given |= self._with_thread(record, thread, missing)
            given["seen"] = seen_metadata
        kind, *rest = self._in_time.call(_ADMIT, keys, **given)
        return _verdict(kind.decode(), rest)

    def admit_all(
        self,
        runs: Sequence[tuple[RunRecord, float, NewThread | None]],
        lease: float,
        *,
        start: int = 0,
        most: int | None = None,
        key: IdempotencyKey | None = None,
        answer: bytes,
    ) -> Verdict:
        """Admit runs of one request that nobody waits for: these, or none of them.

        Args:
            runs: all of the request: each run, the seconds until it is due, and its thread if that
                outlives it; none is on a thread that is there already.
            lease, key, answer: as in `admit`.
            start, most: which of them are admitted by this call.
        """
        asked = []
        end = len(runs) if most is None else min(len(runs), start + most)
        for record, delay, thread in runs[start:end]:
            run, given = self.unfollowed(record, lease, thread)
            given["delay"] = round(delay * 1000)
            fields = map(str, named(prefix=self._tag, **given))
            asked.append((run, list(fields)))
        together: dict[str, Any] = {"runs": json.dumps(asked)}
        if key is not None:
            first = runs[0][0]
            together |= {"fingerprint": key.request, "key_ttl": round(key.ttl * 1000)}
            together |= {"id": first.run_id, "thread": first.thread_id}
            together |= {"so_far": end, "more": end < len(runs)}
            together["answer"] = answer if start == 0 else None
        keys = [] if key is None else [self._key(key)]
        kind, *rest = self._in_time.call(_ADMIT_ALL, keys, **together)
        name = kind.decode()
        admitted = rest.pop() if name in ("replayed", "in flight", "other") else b""
        verdict = _verdict(name, rest)
        return replace(verdict, admitted=int(admitted)) if admitted else verdict

    def unfollowed(
        self,
        record: RunRecord,
        lease: float,
        thread: NewThread | None,
        missing: Literal["create", "reject"] = "create",
    ) -> tuple[str, dict[str, Any]]:
        """What lua/runs/admit.lua is given for a run that nobody waits for: its key, and fields."""
        given = self._admitted(record, lease) | {"losses": 0}
        if thread is not None:
            given |= self._with_thread(record, thread, missing)
        return self._run(record.run_id), given

    def _admitted(self, record: RunRecord, lease: float) -> dict[str, Any]:
        return {
            "id": record.run_id,
            "thread": record.thread_id,
            "owner": self._process_id,
            "lease": round(lease * 1000),
            "record": record.lasting(),
            "updated_at": record.updated_at,
            "strategy": record.multitask_strategy,
            "metadata": json.dumps(record.metadata),
        }

    def _with_thread(self, record: RunRecord, thread: NewThread, missing: str) -> dict[str, Any]:
        return {
            "missing": missing,
            "metadata": json.dumps(thread.metadata),
            "terms": json.dumps(thread.terms),
            "thread_ttl": None if thread.prunes else thread.ttl_ms,
            "prunes": thread.ttl_ms if thread.prunes else None,
            "graph": _ids(record),
        }

    def repeated(self, key: IdempotencyKey) -> Verdict | None:
        """What `admit` would say of a key that was used before; None for a new one."""
        answer = self._scripts.call(_REPEATED, [self._key(key)], fingerprint=key.request)
        return _verdict(answer[0].decode(), answer[1:]) if answer else None

    def withdraw(self, record: RunRecord) -> None:
        """Take back an admission of which it is not known whether it happened."""
        self._scripts.call(
            _WITHDRAW,
            [self._run(record.run_id), self._waiting(record.run_id)],
            id=record.run_id,
            thread=record.thread_id,
            owner=self._process_id,
        )

    def claim(self, lease: float, *, cancelled: bool = False) -> tuple[Claim | None, float | None]:
        """Claim the run that has been ready longest; one call at a time.

        A call whose answer was lost took a run, perhaps: the next call is given that one.

        Args:
            lease: seconds after which it is taken for lost.
            cancelled: whether to take only one that is to be ended, not executed.

        Returns:
            The run, if one was ready; and the seconds until the next is due, None if none is to
            come.
        """
        last = f"{self._tag}:claim:{self._process_id}" + (":cancelled" if cancelled else "")
        run_id, token, attempt, lasting, cancel, kept, graph, due, back, thread_id, *more = (
            self._scripts.call(
                _CLAIM,
                [self._ready, last],
                owner=self._process_id,
                lease=round(lease * 1000),
                call=self._claims[cancelled],
                cancelled=cancelled,
            )
        )
        if run_id is None:
            self._claims[cancelled] = uuid4().hex
            return None, None if due < 0 else due / 1000
        if lasting == b"":
            lasting = self._storage.call(_RECORD, [self._run(run_id.decode())], []) or b""
        self._claims[cancelled] = uuid4().hex
        problem = None
        try:
            record = RunRecord.restored(lasting, RunStatus.RUNNING.encode(), now().encode())
        except UnreadableRecord as error:
            record = RunRecord.remains(run_id.decode(), thread_id.decode(), lasting)
            problem = str(error)
        action = cancel.decode() if cancel else None
        is_graphs = graph == _ids(record).encode()
        claim = Claim(
            record,
            int(token),
            attempt,
            action,
            kept is not None,
            graph is not None,
            is_graphs,
            losses=attempt - 1 - back,
            listened=more[0] > 0,
            stops=more[1],
            problem=problem,
        )
        return claim, 0.0

    def assign_thread(self, record: RunRecord, thread: NewThread, seen: bytes) -> bytes | None:
        """Assign a thread to the graph and assistant of the run that has it.

        Args:
            record: the run.
            thread: the thread's metadata with their ids laid over.
            seen: the thread's metadata before.

        Returns:
            None when done; the thread's metadata, if that is not `seen`.
        """
        metadata: bytes | None = self._scripts.call(
            _ASSIGN_THREAD,
            [f"{self._tag}:thread:{record.thread_id}"],
            thread=record.thread_id,
            id=record.run_id,
            graph=_ids(record),
            metadata=json.dumps(thread.metadata),
            terms=json.dumps(thread.terms),
            seen=seen,
        )
        return metadata

    def finish(
        self,
        record: RunRecord,
        document: bytes,
        *,
        token: int | None = None,
        undone: bool = False,
        thread: ThreadEnd | None = None,
        webhook: NewWebhook | None = None,
        rewritten: bool = False,
        attempt: int = 1,
        events: Sequence[tuple[str, bytes]] = (),
        event: int = 0,
    ) -> bool:
        """End a run with a status and a document.

        Args:
            record: the run as it ended.
            document: the answer, JSON.
            token: the run's fencing token; None if it was not recorded before.
            undone: it was rolled back: only those who wait may see any of it.
            thread: what becomes of its thread; None if that goes with the run.
            webhook: whom to tell, and what.
            rewritten: whether to write the record anew, since what is there cannot be read.
            attempt: how often the run was started.
            events: the last of its log, if there is one: names and data.
            event: the number of the first of them.

        Returns:
            Whether this end stands; False where the run ended otherwise before, or is another
            process's now.
        """
        run_id = record.run_id
        keys = [self._run(run_id), self._result(run_id), self._waiting(run_id)]
        given: dict[str, Any] = {
            "id": run_id,
            "thread": record.thread_id,
            "owner": self._process_id,
            "token": token,
            "result_ttl": self._result_ms,
            "waiting_ttl": round(DELIVERED_SECONDS * 1000),
            "document": document,
            "status": record.status,
            "updated_at": record.updated_at,
            "rolled_back": undone,
        }
        if webhook is not None:
            given |= {"webhook_url": webhook.url, "webhook_body": webhook.body}
            given["webhook_trace"] = json.dumps(dict(webhook.trace)) if webhook.trace else None
        if events:
            given |= {"event": event, "attempt": attempt}
            given["events"] = json.dumps([[name, data.decode()] for name, data in events])
        if thread is not None:
            given |= {
                "kept": True,
                "thread_status": thread.status,
                "error": json.dumps(thread.error) if thread.error else None,
            }
        if token is None or rewritten:
            given["record"] = record.lasting()
        answer = self._scripts.call(_FINISH, keys, **given)
        if answer == -1:  # Redis lost it meanwhile
            given["record"] = record.lasting()
            answer = self._scripts.call(_FINISH, keys, **given)
        return bool(answer)

    def read(self, run_id: str, *, follow: bool = False, streams: bool = False) -> StoredRun | None:
        """A run, or None if there is none.

        Args:
            run_id: the run's id.
            follow: have this process told on its channel when the run ends, if it has not yet.
            streams: have it told of the run's events too.

        Raises:
            UnreadableRecord: another version of Runwait wrote it.
        """
        keys = [self._run(run_id), self._result(run_id), self._waiting(run_id)]
        process = self._process_id if follow else None
        found = self._scripts.call(
            _READ,
            [*keys, f"{self._tag}:events:{run_id}"],
            id=run_id,
            follower=process,
            streams=follow and streams,
        )
        if found[0] is None:
            return None
        lasting, status, updated_at, document, kept, error, waited, once, logged = found
        record = RunRecord.restored(lasting, status, updated_at)
        if waited:
            # Not by reading it, which may be done twice. In time it goes by itself.
            with contextlib.suppress(StorageUnavailable):
                self._scripts.call(_TAKEN, keys, follower=process)
        return StoredRun(
            record,
            document,
            kept is not None,
            json.loads(error) if error else None,
            once=once is not None,
            logged=logged is not None,
        )

    def tidy(self, run_ids: Sequence[str]) -> list[str]:
        """Have go on what waits for a key that Redis dropped.

        Args:
            run_ids: runs of others that are followed in this process.

        Returns:
            Those that ended or are gone, of which this process was not told.
        """
        keys = [self._leases, self._ready, self._queued]
        told = self._scripts.call(_TIDY, keys, ids=json.dumps(run_ids))
        return [each.decode() for each in told]

    def is_gone(self, thread_id: str) -> bool:
        """Whether a thread was removed, within the last hour."""
        answer: int = self._scripts.call(_GONE, [f"{self._tag}:gone:{thread_id}"])
        return answer == 1

    def cancel(self, run_ids: Sequence[str], action: Action) -> int:
        """Have runs stopped, wherever they are; how many had not ended."""
        keys = [self._run(each) for each in run_ids]
        asked: int = self._in_time.call(_CANCEL, keys, action=action, ids=json.dumps(run_ids))
        return asked

    def in_flight(
        self, thread_id: str | None, status: Literal["pending", "running", "all"]
    ) -> list[str]:
        """The ids of runs that have not ended; those of a thread, or all."""
        thread = f"{self._tag}:thread:{thread_id or ''}"
        keys = [self._leases, self._ready, self._queued, thread, f"{thread}:runs"]
        ids = self._scripts.call(_IN_FLIGHT, keys, of_thread=bool(thread_id), status=status)
        return [each.decode() for each in ids]

    def of_thread(
        self, thread_id: str, limit: int, offset: int, status: str | None
    ) -> list[RunRecord] | None:
        """A thread's runs, newest first; None if there is no such thread."""
        thread = f"{self._tag}:thread:{thread_id}"
        keys = [thread, f"{thread}:runs"]
        found = self._scripts.call(
            _LIST, keys, id=thread_id, limit=limit, offset=offset, status=status
        )
        return None if found is None else [RunRecord.restored(*each) for each in found]

    def remove(self, thread_id: str, run_id: str) -> bool | None:
        """Remove a run that ended. False if it has not; None if there is none on that thread."""
        answer = self._in_time.call(_REMOVE, [self._run(run_id)], id=run_id, thread=thread_id)
        return {1: True, 0: None, -1: False}[answer]

    def beat(self, runs: Iterable[tuple[str, int]], lease: float) -> Beat:
        """Renew the leases of this process's runs, and free those of lost processes.

        Args:
            runs: id and fencing token of each.
            lease: its length in seconds.
        """
        asked = time.monotonic()
        keys = [self._leases, f"{self._tag}:beat"]
        *answer, recovered, clock = self._scripts.call(
            _BEAT, keys, lease=round(lease * 1000), runs=_pairs(runs)
        )
        self._storage.clock = clock, asked
        missing, cancelled, lost = ([each.decode() for each in found] for found in answer)
        stopped = list(zip(cancelled[::2], cancelled[1::2], strict=True))
        return Beat(missing, stopped, lost, recovered)

    def queue(self) -> Queue:
        """What there is to do, in all processes."""
        keys = [self._leases, self._ready, f"{self._tag}:queued"]
        found = self._scripts.call(_QUEUE, keys)
        running, ready, scheduled, queued, ready_ms, queued_ms, *webhooks = found
        ages = ready_ms / 1000, queued_ms / 1000
        return Queue(running, ready, scheduled, queued, *ages, *webhooks)

    def hand_back(
        self, runs: Iterable[tuple[str, int]], *, pause: float = 0.0, counts: bool = False
    ) -> None:
        """Give up runs that this process cannot end.

        Args:
            runs: id and fencing token of each.
            pause: seconds until they may be taken.
            counts: whether this is a loss, as if their process had died.
        """
        pause_ms = round(pause * 1000)
        self._scripts.call(
            _HAND_BACK, [self._ready], runs=_pairs(runs), pause=pause_ms, counts=counts
        )

    def postpone(self, run_id: str, token: int, pause: float, longest: float) -> bool:
        """Give up a run that this process cannot execute, to be taken again in `pause` seconds.

        Returns:
            Whether it was; not if this has been done for `longest` seconds without a break, or
            another process has the run.
        """
        postponed = self._scripts.call(
            _POSTPONE,
            [self._run(run_id)],
            id=run_id,
            token=token,
            pause=round(pause * 1000),
            longest=round(longest * 1000),
        )
        return bool(postponed)

    def shorten(self, run_ids: Sequence[str], seconds: float) -> None:
        """Keep the results of runs that were delivered only `seconds` longer.

        Those whose events are logged stay as they are: a stream may be read by many.
        """
        keys = [
            key
            for each in run_ids
            for key in (f"{self._tag}:events:{each}", self._run(each), self._result(each))
        ]
        self._scripts.call(_SHORTEN, keys, ttl=round(seconds * 1000))

    def _key(self, key: IdempotencyKey) -> str:
        # Of one length, whatever clients make up.
        return f"{self._tag}:idempotency:{sha256(key.name.encode()).hexdigest()}"

    def _run(self, run_id: str) -> str:
        return f"{self._tag}:run:{run_id}"

    def _result(self, run_id: str) -> str:
        return f"{self._tag}:result:{run_id}"

    def _waiting(self, run_id: str) -> str:
        return f"{self._tag}:waiting:{run_id}"


def ready_now(url: str, prefix: str) -> int:
    """How many runs any process may take at once; 0 if Redis does not answer. Starts no thread."""
    with (
        contextlib.suppress(RedisError, StorageUnsuitable),
        client(server_of(url, prefix)) as redis,
    ):
        seconds, microseconds = redis.time()
        now = seconds * 1000 + microseconds / 1000
        return int(redis.zcount(f"{{{prefix}}}:ready", "-inf", now))
    return 0


def _pairs(runs: Iterable[tuple[str, int]]) -> str:
    """Ids and tokens by turns, as JSON. Tokens are text: Lua's numbers are doubles."""
    return json.dumps([str(each) for run in runs for each in run])


def _ids(record: RunRecord) -> str:
    return f"{record.graph_id} {record.assistant_id}"


_SHARED = ("runs/library", "crons/library", "threads/library", "runs/turns")
_ADMIT = Script.load("runs/admit", *_SHARED)
_ADMIT_ALL = Script.over("runs/admit_all", "runs/admit", "admit", *_SHARED)
_REPEATED = Script.load("runs/repeated", "runs/library", large=True)
_WITHDRAW = Script.load("runs/withdraw", *_SHARED)
_ASSIGN_THREAD = Script.load("runs/assign_thread", *_SHARED)
_CLAIM = Script.load("runs/claim", *_SHARED)
_FINISH = Script.load("runs/finish", *_SHARED, "outbox/library")
_READ = Script.load("runs/read", "runs/library", large=True)
_RECORD = Script.of("return redis.call('HGET', KEYS[1], 'record')", large=True)
_TIDY = Script.load("runs/tidy", *_SHARED)
_TAKEN = Script.load("runs/taken")
_CANCEL = Script.load("runs/cancel", *_SHARED)
_IN_FLIGHT = Script.load("runs/in_flight")
_GONE = Script.load("threads/gone")
_LIST = Script.load("runs/list", *_SHARED, large=True)
_REMOVE = Script.load("runs/remove", "runs/library")
_QUEUE = Script.load("runs/queue", "runs/library")
_BEAT = Script.load("runs/beat", *_SHARED)
_HAND_BACK = Script.load("runs/hand_back", *_SHARED)
_POSTPONE = Script.load("runs/postpone", *_SHARED)
_SHORTEN = Script.load("runs/shorten")
