"""Threads as Redis holds them; what is in a thread is in its checkpoints, elsewhere.

All keys of this family share one hash tag, `{prefix}`, so that one script may touch any of them:

    {prefix}:thread:<id>         hash  metadata   JSON
                                       config     JSON; absent: empty
                                       terms      JSON list of the metadata's index terms
                                       status     idle, busy, interrupted or error
                                       error      JSON of the last run's failure; absent without
                                       created, updated  ms
                                       state_updated     ms; absent before the first state
                                       active     the run that has the thread; absent without
                                       ttl        ms that it lives without use; absent: for ever
                                       prunes     ms without use after which it loses all but its
                                                  latest state; absent: it does not
                                       temporary  a run whose end takes the thread along; such a
                                                  thread is in no index
                                       nonce      the call that made it
    {prefix}:thread:<id>:queue   list  ids of runs that wait for the thread, oldest first
    {prefix}:thread:<id>:scheduled
                                 set   ids of its runs that are not due yet
    {prefix}:thread:<id>:runs    zset  ids of the thread's runs, by ms of creation
    {prefix}:threads:created     zset  ids of all threads, by ms of creation
    {prefix}:threads:updated     zset  the same, by ms of the last change
    {prefix}:threads:created:<mark>, {prefix}:threads:updated:<mark>
                                 zset  the same, of threads with an index term or `status=<status>`
    {prefix}:threads:expiry      zset  ids by the ms when they expire; only those that do
    {prefix}:threads:pruning     zset  the same, of those that are then pruned
    {prefix}:doomed              zset  ids of removed threads whose checkpoints are to be deleted
                                       yet, by the fencing token to do it with

Clocks are Redis's own, read inside the scripts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count as steps
from itertools import islice
from typing import Any, Literal
from uuid import uuid4

from runwait.storage.connection import InTime, Script, Scripts, Storage
from runwait.storage.index import find
from runwait.storage.metadata import MetadataQuery, index_terms
from runwait.storage.times import shown

STATUSES = ("idle", "busy", "interrupted", "error")
SORTS = ("thread_id", "status", "created_at", "updated_at", "state_updated_at")
# Threads removed by one call of `sweep`.
_SWEEP = 100
# Threads read by one call.
_READ_BATCH = 100
# Ids found by one call, at most.
_FOUND_BATCH = 5000
_INDEXES = {"created_at": "created", "updated_at": "updated"}
# Fields to sort by, without an index: the first that is there.
_SORTED_BY = {
    "thread_id": (),
    "status": ("status",),
    "state_updated_at": ("state_updated", "created"),
}
_FIELDS = (
    "metadata",
    "config",
    "status",
    "error",
    "created",
    "updated",
    "state_updated",
    "ttl",
    "prunes",
    "temporary",
)


class ThreadNotFound(Exception):
    """There is no thread of this id."""


class ThreadExists(Exception):
    """There is a thread of this id already."""


class ThreadBusy(Exception):
    """A run has the thread of this id."""


class RemovalUnfinished(Exception):
    """A thread of this id was removed, and its checkpoints are still there."""

    def __init__(self, left_over: LeftOver) -> None:
        """Say which."""
        super().__init__(left_over.thread_id)
        self.left_over = left_over


@dataclass(frozen=True)
class LeftOver:
    """A removed thread whose checkpoints are to be deleted, and the fencing token to do it with."""

    thread_id: str
    token: int


@dataclass(frozen=True)
class ThreadRecord:
    """What is known of a thread, without its state. Times are ms since 1970.

    Attributes:
        ttl: ms that it lives without use; None: for ever.
        prunes: ms without use after which it loses all but its latest state; None: never.
        expires: when either comes, unless it is used.
    """

    thread_id: str
    metadata: dict[str, Any]
    config: dict[str, Any]
    status: str
    error: dict[str, Any] | None
    created: int
    updated: int
    state_updated: int | None
    ttl: int | None
    prunes: int | None
    temporary: bool
    expires: int | None = None

    @property
    def graph_id(self) -> str | None:
        """The graph that ran last on the thread; None before the first."""
        graph_id = self.metadata.get("graph_id")
        return graph_id if isinstance(graph_id, str) else None

    @property
    def created_at(self) -> str:
        """When it was made, as the API gives it."""
        return shown(milliseconds=self.created)

    @property
    def updated_at(self) -> str:
        """When it was last changed, as the API gives it."""
        return shown(milliseconds=self.updated)

    @property
    def state_updated_at(self) -> str:
        """When its state was last changed, as the API gives it; at first, when it was made."""
        return shown(
            milliseconds=self.created if self.state_updated is None else self.state_updated
        )

    @property
    def expires_at(self) -> str | None:
        """When it expires unless it is used, as the API gives it."""
        return None if self.expires is None else shown(milliseconds=self.expires)

    @classmethod
    def restored(
        cls, thread_id: str, values: Sequence[bytes | None], expires: bytes | None = None
    ) -> ThreadRecord:
        """The record from the values of its fields."""
        stored = {name: value for name, value in zip(_FIELDS, values, strict=True) if value}
        state_updated = stored.get("state_updated")
        ttl, prunes = stored.get("ttl"), stored.get("prunes")
        return cls(
            thread_id=thread_id,
            metadata=json.loads(stored["metadata"]),
            config=json.loads(stored.get("config", b"{}")),
            status=stored["status"].decode(),
            error=json.loads(stored.get("error", b"null")),
            created=int(stored["created"]),
            updated=int(stored["updated"]),
            state_updated=None if state_updated is None else int(state_updated),
            ttl=None if ttl is None else int(ttl),
            prunes=None if prunes is None else int(prunes),
            temporary="temporary" in stored,
            expires=None if expires is None else int(expires),
        )


@dataclass(frozen=True, kw_only=True)
class ThreadQuery(MetadataQuery):
    """Which threads are looked for; one that says nothing looks for all."""

    ids: Sequence[str] | None = None
    status: str | None = None
    sort_by: str = "updated_at"
    sort_order: str = "desc"
    limit: int = 10
    offset: int = 0


@dataclass(frozen=True)
class ThreadPage:
    """The threads found, how many there are in all, and whether some come after these.

    `total` is a lower bound, by one more than the page's last, where it could not be had at the
    page's price.
    """

    records: list[ThreadRecord]
    total: int
    more: bool


Keep = Callable[[ThreadRecord], bool]


class ThreadRecords:
    """The threads in Redis. Every method may raise StorageUnavailable."""

    def __init__(
        self,
        storage: Storage,
        prefix: str,
        ttl_seconds: float | None,
        strategy: Literal["delete", "keep_latest"] = "delete",
    ) -> None:
        """Prepare.

        Args:
            storage, prefix: see `Scripts`.
            ttl_seconds: how long a thread lives without use, unless its maker says otherwise;
                None: for ever.
            strategy: what becomes of it then, if its maker says nothing: it goes, or it loses all
                but its latest state.
        """
        self._scripts = Scripts(InTime(storage), prefix)
        self._tag = self._scripts.tag
        self._left_over = f"{self._tag}:doomed"
        ttl = None if ttl_seconds is None else round(ttl_seconds * 1000)
        self._ttl = ttl if strategy == "delete" else None
        self._prunes = ttl if strategy == "keep_latest" else None

    def create(
        self,
        thread_id: str,
        metadata: Mapping[str, Any],
        *,
        ttl: int | None = None,
        config: Mapping[str, Any] | None = None,
        token: int | None = None,
        status: Literal["idle", "interrupted"] | None = None,
    ) -> ThreadRecord:
        """Make an idle thread, or one that was built.

        Args:
            thread_id: its id.
            metadata: JSON.
            ttl: ms that it lives without use; None: as the service has it.
            config: JSON.
            token: what `reserve` gave, for one that was built.
            status: what it is, if it was given a state.

        Raises:
            ThreadExists: there is one.
            RemovalUnfinished: there was one, and its checkpoints must be deleted first.
            ThreadBusy: what was built has been given up since.
        """
        ttl, prunes = (self._ttl, self._prunes) if ttl is None else (ttl, None)
        answer = self._scripts.call(
            _CREATE,
            [self._thread(thread_id)],
            id=thread_id,
            nonce=uuid4().bytes,
            metadata=json.dumps(metadata),
            terms=json.dumps(index_terms(metadata)),
            config=json.dumps(config or {}),
            ttl=ttl,
            prunes=prunes,
            token=token,
            status=status,
        )
        if isinstance(answer, bytes):
            raise RemovalUnfinished(LeftOver(thread_id, int(answer)))
        if answer == 0:
            raise ThreadExists(thread_id)
        if answer == -1:
            raise ThreadBusy(thread_id)
        return self.get(thread_id)

    def reserve(self, thread_id: str) -> int:
        """A fencing token to build a thread with, which is there once it is created.

        Whoever else makes a thread of this id has it given up; after an hour the sweep does.

        Raises:
            ThreadExists: there is one.
            RemovalUnfinished: there was one, and its checkpoints must be deleted first.
        """
        answer = self._scripts.call(_RESERVE, [self._thread(thread_id)], id=thread_id)
        if isinstance(answer, bytes):
            raise RemovalUnfinished(LeftOver(thread_id, int(answer)))
        if answer == 0:
            raise ThreadExists(thread_id)
        return int(answer[0])

    def abandon(self, thread_id: str, token: int) -> LeftOver | None:
        """Give up a thread that is being built; what is left of it to be deleted, if anything."""
        left_over = self._scripts.call(_ABANDON, [], id=thread_id, token=token)
        return None if left_over is None else LeftOver(thread_id, int(left_over))

    def get(self, thread_id: str) -> ThreadRecord:
        """A thread, for someone who uses it: that puts off its expiry.

        Raises:
            ThreadNotFound: there is none.
        """
        for record in self._read([thread_id], use=True):
            return record
        raise ThreadNotFound(thread_id)

    def metadata(self, thread_id: str) -> dict[str, Any]:
        """A thread's metadata, for someone who only looks: nothing is put off.

        Raises:
            ThreadNotFound: there is none.
        """
        metadata: dict[str, Any] = json.loads(self._metadata(thread_id))
        return metadata

    def patch(
        self, thread_id: str, metadata: Mapping[str, Any], *, ttl: int | None = None
    ) -> ThreadRecord:
        """Lay metadata over a thread's, name by name, and set its life.

        Args:
            thread_id: its id.
            metadata: JSON; names that it lacks stay.
            ttl: ms that it lives without use; None: as it is.

        Raises:
            ThreadNotFound: there is none.
        """
        while True:
            given: dict[str, Any] = {"id": thread_id, "ttl": ttl}
            if metadata:
                before = self._metadata(thread_id)
                after = {**json.loads(before), **metadata}
                terms = json.dumps(index_terms(after))
                given |= {"seen": before, "metadata": json.dumps(after), "terms": terms}
            answer = self._scripts.call(_CHANGE, [self._thread(thread_id)], **given)
            if answer == 0:
                raise ThreadNotFound(thread_id)
            if answer == 1:
                return self.get(thread_id)

    def hold(self, thread_id: str) -> int:
        """A fencing token to change the state of a thread that no run has.

        Raises:
            ThreadNotFound: there is none.
            ThreadBusy: a run has it.
        """
        token = self._scripts.call(_HOLD, [self._thread(thread_id)], id=thread_id)
        if token == 0:
            raise ThreadNotFound(thread_id)
        if token == b"":
            raise ThreadBusy(thread_id)
        return int(token)

    def note_state(self, thread_id: str, waiting: bool) -> None:
        """Note that a thread's state was changed, other than by a run.

        Args:
            thread_id: its id; where a run has the thread, or there is none, nothing is changed.
            waiting: whether it waits for someone to resume it.
        """
        status = "interrupted" if waiting else "idle"
        self._scripts.call(_NOTE_STATE, [self._thread(thread_id)], id=thread_id, status=status)

    def delete(self, thread_id: str) -> LeftOver:
        """Remove a thread and its runs; what executes on it is told to stop.

        Returns:
            What is left to do, by whoever has the checkpoints; `sweep` returns it too, until it
            is `cleaned`.

        Raises:
            ThreadNotFound: there is none.
        """
        token = self._scripts.call(_DELETE, [self._left_over], id=thread_id)
        if token is None:
            raise ThreadNotFound(thread_id)
        return LeftOver(thread_id, int(token))

    def cleaned(self, left_over: LeftOver) -> None:
        """Note that the checkpoints of a removed thread are deleted."""
        thread_id, token = left_over.thread_id, left_over.token
        self._scripts.call(_CLEANED, [self._left_over], id=thread_id, token=token)

    def sweep(self) -> tuple[list[LeftOver], list[str], bool]:
        """Remove threads that expired, at most 100.

        Returns:
            Removed threads whose checkpoints are to be deleted, at most 100; ids of threads to be
            pruned, at most 100, which are given again until they are `pruned` or used; and whether
            there may be more removed ones at once.
        """
        more, left_over, pruned = self._scripts.call(
            _SWEEP_OUT,
            [f"{self._tag}:threads:expiry", self._left_over, f"{self._tag}:threads:building"],
            most=_SWEEP,
        )
        pairs = zip(left_over[::2], left_over[1::2], strict=True)
        return (
            [LeftOver(thread_id.decode(), int(token)) for thread_id, token in pairs],
            [thread_id.decode() for thread_id in pruned],
            bool(more),
        )

    def pruned(self, thread_id: str) -> None:
        """Note that all but the latest state of a thread is gone."""
        self._scripts.call(_PRUNED, [f"{self._tag}:threads:pruning"], id=thread_id)

    def _expire(self) -> None:
        """Remove all threads that expired: what goes over indexes is to find none of them."""
        while self._scripts.call(_EXPIRE, [f"{self._tag}:threads:expiry"], most=_SWEEP):
            pass

    def search(self, query: ThreadQuery, keep: Keep | None = None) -> ThreadPage:
        """The threads that match, in order.

        Cost: with one term (a status, or one scalar of the metadata) or none, the page; with
        several, a run through the threads that have the rarest of them, at most. What the index
        does not say (lists, empty objects, `keep`) is asked of each thread in turn until the page
        is full. Sorting by other than created_at and updated_at, all that match are collected.

        Args:
            query: what is looked for.
            keep: which of the threads found count.
        """
        self._expire()
        first, last = query.offset, query.offset + query.limit
        if keep is None and query.ids is None and query.is_indexed:
            if query.sort_by in _INDEXES:
                return self._page(query)
            ids = self._sorted_ids(query)
            return ThreadPage(list(self._read(ids[first:last])), len(ids), last < len(ids))
        found = self._candidates(query)
        if keep is not None:
            found = filter(keep, found)
        matches = list(islice(found, last + 1))
        return ThreadPage(matches[first:last], len(matches), last < len(matches))

    def count(self, query: ThreadQuery, keep: Keep | None = None) -> int:
        """How many threads match; limit, offset and order aside."""
        self._expire()
        if keep is not None or query.ids is not None or not query.is_indexed:
            found = self._candidates(query)
            return sum(1 for _ in (found if keep is None else filter(keep, found)))
        keys, rank, total = self._keys(query), 0, 0
        while rank >= 0:
            count, rank, rarest = self._scripts.call(_COUNT, keys, rank=rank)
            total += count
            keys.insert(0, keys.pop(rarest - 1))
        return total

    def _page(self, query: ThreadQuery) -> ThreadPage:
        keys = self._keys(query)
        # One more tells whether there are more, where the index does not count its matches.
        wanted = query.limit + (len(keys) > 1)
        rows, total, left = self._find(keys, query.sort_order, query.offset, wanted, _FIELDS)
        records = [
            ThreadRecord.restored(each[0].decode(), each[1:])
            for each in rows[: query.limit]
            if each[1] is not None
        ]
        if total < 0:
            total = query.offset - left + len(rows)
        return ThreadPage(records, total, query.offset + query.limit < total)

    def _candidates(self, query: ThreadQuery) -> Iterator[ThreadRecord]:
        """All threads that match, in order, read as they are asked for."""
        if query.ids is not None:
            found: Iterable[ThreadRecord] = sorted(
                self._read(dict.fromkeys(query.ids)),
                key=lambda record: (getattr(record, query.sort_by), record.thread_id),
                reverse=query.sort_order == "desc",
            )
        elif query.sort_by in _INDEXES:
            found = self._read(self._ids(query))
        else:
            found = self._read(self._sorted_ids(query))
        for record in found:
            if (
                not record.temporary
                and query.status in (None, record.status)
                and query.finds(record.metadata)
            ):
                yield record

    def _ids(self, query: ThreadQuery) -> Iterator[str]:
        """The ids that the index gives, in its order."""
        keys, skip, batch = self._keys(query), 0, _READ_BATCH
        seen: set[str] = set()
        while True:
            rows, _, _ = self._find(keys, query.sort_order, skip, batch, ())
            ids = [row[0].decode() for row in rows]
            # A thread that was changed meanwhile may have moved others on.
            yield from (each for each in ids if each not in seen)
            if len(ids) < batch:
                return
            seen.update(ids)
            skip += batch
            batch = min(batch * 10, _FOUND_BATCH)

    def _sorted_ids(self, query: ThreadQuery) -> list[str]:
        """The ids that the index gives, in an order that it does not have."""
        keys, names = self._keys(query), _SORTED_BY[query.sort_by]
        found: dict[bytes, bytes] = {}
        for skip in steps(0, _FOUND_BATCH):
            rows, _, _ = self._find(keys, "asc", skip, _FOUND_BATCH, names)
            for thread_id, *values in rows:
                found[thread_id] = next((value for value in values if value is not None), b"")
            if len(rows) < _FOUND_BATCH:
                break
        ids = sorted(
            found, key=lambda each: (found[each], each), reverse=query.sort_order == "desc"
        )
        return [each.decode() for each in ids]

    def _find(
        self, keys: list[str], order: str, skip: int, wanted: int, names: Sequence[str]
    ) -> tuple[list[Any], int, int]:
        """As `index.find` has it."""
        return find(self._scripts, self._thread(""), keys, order, skip, wanted, names)

    def _keys(self, query: ThreadQuery) -> list[str]:
        """The index zsets that a match is in, all of them."""
        marks = [] if query.status is None else [f"status={query.status}"]
        marks += query.metadata_terms
        # By creation where it does not matter: there nothing moves while it is gone through.
        index = f"{self._tag}:threads:{_INDEXES.get(query.sort_by, 'created')}"
        return [f"{index}:{mark}" for mark in marks] or [index]

    def _metadata(self, thread_id: str) -> bytes:
        key = self._thread(thread_id)
        (row,) = self._scripts.call(_READ, [key], ids=[thread_id], fields=["metadata"])
        if row is None:
            raise ThreadNotFound(thread_id)
        metadata: bytes = row[1]
        return metadata

    def _read(self, thread_ids: Iterable[str], *, use: bool = False) -> Iterator[ThreadRecord]:
        """Those of the threads that are there."""
        remaining = iter(thread_ids)
        while batch := list(islice(remaining, _READ_BATCH)):
            keys = [self._thread(each) for each in batch]
            rows = self._scripts.call(_READ, keys, use=use, ids=batch, fields=_FIELDS)
            for thread_id, row in zip(batch, rows, strict=True):
                if row is not None:
                    yield ThreadRecord.restored(thread_id, row[1:], row[0])

    def _thread(self, thread_id: str) -> str:
        return f"{self._tag}:thread:{thread_id}"


_LIBRARIES = ("runs/library", "crons/library", "threads/library")
_CREATE = Script.load("threads/create", *_LIBRARIES)
_RESERVE = Script.load("threads/reserve", *_LIBRARIES)
_ABANDON = Script.load("threads/abandon", *_LIBRARIES)
_READ = Script.load("threads/read", *_LIBRARIES, large=True)
_CHANGE = Script.load("threads/change", *_LIBRARIES)
_HOLD = Script.load("threads/hold", *_LIBRARIES)
_NOTE_STATE = Script.load("threads/note_state", *_LIBRARIES)
_DELETE = Script.load("threads/delete", *_LIBRARIES)
_CLEANED = Script.load("threads/cleaned")
_SWEEP_OUT = Script.load("threads/sweep", *_LIBRARIES)
_EXPIRE = Script.load("threads/expire", *_LIBRARIES)
_PRUNED = Script.load("threads/pruned", *_LIBRARIES)
_COUNT = Script.load("threads/count")
