"""Kept threads (contract section 4): a record each, and the state that its checkpoints make."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar

from langgraph.checkpoint.base import BaseCheckpointSaver
from uuid_utils.compat import uuid7

from runwait.serialization import dumps, loads
from runwait.storage.checkpoint import Fenced, RedisSaver, StateLost
from runwait.storage.connection import StorageUnavailable
from runwait.storage.metadata import contains
from runwait.storage.threads import (
    Keep,
    LeftOver,
    RemovalUnfinished,
    ThreadBusy,
    ThreadExists,
    ThreadNotFound,
    ThreadQuery,
    ThreadRecord,
    ThreadRecords,
)
from runwait.threads.states import States

log = logging.getLogger("runwait.runs")

FIELDS = (
    "thread_id",
    "created_at",
    "updated_at",
    "state_updated_at",
    "metadata",
    "status",
    "config",
    "values",
    "error",
    "interrupts",
)
"""What a thread has, as the API shows it."""

_OF_STATE = {"values", "interrupts"}
Status = Literal["idle", "interrupted"]
T = TypeVar("T")

# How often a thread may be removed while it is made.
TRIES = 20

PATH = re.compile(r"(?:config|interrupts|metadata|values)(?:\.[^.\[\]]+|\[-?[0-9]{1,9}\])*")
"""A path into a thread, as in `values.messages[-1].content`."""

_STEP = re.compile(r"\.([^.\[\]]+)|\[(-?[0-9]+)\]")


class Threads:
    """Makes, shows, finds, copies and removes threads.

    Where a method names a thread that is not there, it raises ThreadNotFound; any may raise
    StorageUnavailable.
    """

    def __init__(
        self,
        records: ThreadRecords,
        states: States,
        saver: BaseCheckpointSaver[Any],
    ) -> None:
        """Put it together.

        Args:
            records: the threads' records.
            states: what is in the threads.
            saver: where that is.
        """
        self._records = records
        self._states = states
        self._saver = saver

    def create(
        self,
        *,
        thread_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        if_exists: str = "raise",
        ttl: int | None = None,
        supersteps: Sequence[Mapping[str, Any]] = (),
        is_there: Callable[[Mapping[str, Any]], bool] | None = None,
    ) -> dict[str, Any]:
        """Make a thread.

        Args:
            thread_id: its id; by default a new one, ordered by time.
            metadata: JSON.
            if_exists: "do_nothing" to be answered with the thread that is there.
            ttl: ms that it lives without use; by default as the service has it.
            supersteps: updates to build its state from; see `States.supersteps`.
            is_there: whether a thread with such metadata is there for who asks, to be the answer;
                None: it is, whatever its metadata.

        Raises:
            ThreadExists: there is one, and `if_exists` is "raise".
            ThreadBusy: others make and remove it over and over.
            NoGraph, StateIncompatible, UpdateRefused: the supersteps cannot be done; there is no
                thread.
        """
        metadata = metadata or {}
        graph_id = metadata.get("graph_id")
        if supersteps:
            self._states.check_supersteps(graph_id, supersteps)
        new_id = thread_id or str(uuid7())

        def build(token: int) -> Status:
            self._states.supersteps(new_id, graph_id, supersteps, token)
            return "interrupted" if self._states.waits(new_id, str(graph_id)) else "idle"

        for _ in range(TRIES):
            try:
                if supersteps:
                    return self._public(self._build(new_id, metadata, build, ttl=ttl))
                return self._public(self._create(new_id, metadata, ttl=ttl))
            except ThreadExists:
                if if_exists == "raise":
                    raise
                with contextlib.suppress(ThreadNotFound):
                    # Who may not see it does not put off its end either.
                    if is_there is not None and not is_there(self._records.metadata(new_id)):
                        raise
                    return self.get(new_id)
        raise ThreadBusy(new_id)

    def get(self, thread_id: str, *, ttl: bool = False) -> dict[str, Any]:
        """A thread.

        Args:
            thread_id: its id.
            ttl: whether to say how long it lives.
        """
        record = self._records.get(thread_id)
        shown = self._public(record)
        if ttl:
            life = record.ttl or record.prunes
            shown["ttl"] = life and {
                "strategy": "delete" if record.ttl else "keep_latest",
                "ttl_minutes": life / 60_000,
                "expires_at": record.expires_at,
            }
        return shown

    def patch(
        self,
        thread_id: str,
        *,
        metadata: Mapping[str, Any] | None = None,
        ttl: int | None = None,
        minimal: bool = False,
    ) -> dict[str, Any] | None:
        """Lay metadata over a thread's, name by name, and set its life.

        Args:
            thread_id: its id.
            metadata: JSON.
            ttl: ms that it lives without use; None: as it is.
            minimal: whether nobody wants to see the thread.
        """
        record = self._records.patch(thread_id, metadata or {}, ttl=ttl)
        return None if minimal else self._public(record)

    def tell(self, thread_id: str) -> None:
        """Have those who follow a thread that waits for an answer look at it again."""
        self._records.note_state(thread_id, waiting=True)

    def delete(self, thread_id: str) -> None:
        """Remove a thread with its runs and checkpoints; a run that executes is stopped."""
        self._clean_if_possible([self._records.delete(thread_id)])

    def search(
        self,
        query: ThreadQuery,
        *,
        values: Mapping[str, Any] | None = None,
        select: Sequence[str] = (),
        extract: Mapping[str, str] | None = None,
    ) -> tuple[list[dict[str, Any]], int, bool]:
        """Threads that match.

        Args:
            query: what their records have.
            values: what their latest values contain. The values of each thread that matches
                otherwise are read, until the page is full.
            select: what of a thread is shown; nothing stands for all of it.
            extract: paths (see `PATH`) by names of their own. What is there is shown too, as
                `extracted`; null where nothing is.

        Returns:
            The threads, how many there are (see ThreadPage), and whether some come after these.
        """
        page = self._records.search(query, self._with(values))
        names = select or FIELDS
        if extract:
            shown = [self._with_extracted(each, names, extract) for each in page.records]
        else:
            shown = [self._public(each, names) for each in page.records]
        return shown, page.total, page.more

    def count(self, query: ThreadQuery, *, values: Mapping[str, Any] | None = None) -> int:
        """How many threads match."""
        return self._records.count(query, self._with(values))

    def copy(self, thread_id: str, metadata: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """A new thread with the metadata, the life and the checkpoints of another, but no runs.

        It waits for what the other one waits for. Of a thread that a run has, it gets what was
        checkpointed so far.

        Args:
            thread_id: the other one's id.
            metadata: what is laid over its metadata in the new one.
        """
        source = self._records.get(thread_id)
        copied = str(uuid7())

        def build(token: int) -> Status | None:
            if not source.temporary:
                self._fenced(copied, token).copy_thread(thread_id, copied)
            _, interrupts = self._summary(source, copied)
            if self._records.get(thread_id).created != source.created:
                raise ThreadNotFound(thread_id)  # it was removed, and only a part of it copied
            if source.state_updated is None and not interrupts:
                return None
            return "interrupted" if source.status == "interrupted" or interrupts else "idle"

        options = {"ttl": source.ttl, "config": source.config}
        return self._public(
            self._build(copied, {**source.metadata, **(metadata or {})}, build, **options)
        )

    def prune(self, thread_ids: Iterable[str], strategy: str = "delete") -> int:
        """Remove threads, or all but their latest state.

        Args:
            thread_ids: which; those that are not there are left out.
            strategy: "delete", or "keep_latest", which leaves alone what a run is about to change.

        Returns:
            How many of them it was done to.
        """
        pruned = 0
        for each in dict.fromkeys(thread_ids):
            try:
                if strategy == "delete":
                    self.delete(each)
                else:
                    self._keep_latest(each)
            except (ThreadNotFound, ThreadBusy, Fenced):
                continue
            pruned += 1
        return pruned

    def _keep_latest(self, thread_id: str) -> None:
        # A run that has the thread from now on has a higher token.
        saver = self._fenced(thread_id, self._records.hold(thread_id))
        saver.prune([thread_id], strategy="keep_latest")

    def _fenced(self, thread_id: str, token: int) -> BaseCheckpointSaver[Any]:
        """The saver of one who has the thread by this token."""
        if not isinstance(self._saver, RedisSaver):
            return self._saver
        self._saver.raise_fence(thread_id, token)
        return self._saver.fenced(token)

    def sweep(self) -> None:
        """Remove all threads that expired, and what is left of removed ones; prune others.

        To be called now and then, by any process.
        """
        more = True
        while more:
            left_over, to_prune, more = self._records.sweep()
            if not self._clean_if_possible(left_over):
                return
        for each in to_prune:
            # What a run has, or another process prunes, is looked at again.
            with contextlib.suppress(ThreadNotFound, ThreadBusy, Fenced):
                self._keep_latest(each)
                self._records.pruned(each)

    def clean(self, left_over: LeftOver) -> None:
        """Delete what a removed thread left.

        Where a thread of the same id was made since and has run, nothing is.
        """
        saver = self._saver
        if isinstance(saver, RedisSaver):
            saver = saver.fenced(left_over.token)
        try:
            saver.delete_thread(left_over.thread_id)
        except Fenced:
            log.warning("thread %s was made anew", left_over.thread_id)
        self._records.cleaned(left_over)

    def _clean_if_possible(self, left_over: Iterable[LeftOver]) -> bool:
        """Whether it was; the next sweep tries again."""
        try:
            for each in left_over:
                self.clean(each)
        except StorageUnavailable as error:
            log.warning("checkpoints of removed threads are deleted later: %s", error)
            return False
        return True

    def _create(self, thread_id: str, metadata: Mapping[str, Any], **options: Any) -> ThreadRecord:
        return self._once_clean(self._records.create, thread_id, metadata, **options)

    def _build(
        self,
        thread_id: str,
        metadata: Mapping[str, Any],
        build: Callable[[int], Status | None],
        **options: Any,
    ) -> ThreadRecord:
        """Make a thread with a state: nobody sees it before all of it is there.

        Args:
            build: stores its checkpoints, as one who has the thread by this token; what it is then,
                None if it has no state.
        """
        token = self._once_clean(self._records.reserve, thread_id)
        try:
            status = build(token)
            return self._records.create(thread_id, metadata, token=token, status=status, **options)
        except Exception as error:
            if isinstance(error, Fenced) and not isinstance(error, StateLost):
                raise ThreadBusy(thread_id) from error
            # Else the sweep does it, an hour later.
            with contextlib.suppress(StorageUnavailable):
                if left_over := self._records.abandon(thread_id, token):
                    self.clean(left_over)
            raise

    def _once_clean(self, make: Callable[..., T], thread_id: str, *given: Any, **options: Any) -> T:
        """What `make` does for a thread, once nothing is left of an earlier one of its id."""
        for _ in range(TRIES):
            try:
                return make(thread_id, *given, **options)
            except RemovalUnfinished as error:
                self.clean(error.left_over)
            except ThreadNotFound:
                pass  # removed before it was read
        raise ThreadBusy(thread_id)

    def _with(self, values: Mapping[str, Any] | None) -> Keep | None:
        """Which threads have these values."""
        if not values:
            return None

        def keep(record: ThreadRecord) -> bool:
            # As they would be shown.
            return contains(loads(dumps(self._summary(record)[0])), values)

        return keep

    def _summary(
        self, record: ThreadRecord, thread_id: str | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """The values and interrupts of this thread, or of another that is like it."""
        if record.temporary or record.graph_id is None:
            return None, {}
        return self._states.summary(thread_id or record.thread_id, record.graph_id)

    def _with_extracted(
        self, record: ThreadRecord, names: Sequence[str], paths: Mapping[str, str]
    ) -> dict[str, Any]:
        roots = {re.split(r"[.\[]", path, maxsplit=1)[0] for path in paths.values()}
        whole = self._public(record, [*names, *roots])
        # As they would be shown: messages, say, as objects.
        source = loads(dumps({root: whole[root] for root in roots}))
        extracted = {name: _found(source, path) for name, path in paths.items()}
        return {name: whole[name] for name in names} | {"extracted": extracted}

    def _public(self, record: ThreadRecord, names: Sequence[str] = FIELDS) -> dict[str, Any]:
        state: dict[str, Any] = {}
        if not _OF_STATE.isdisjoint(names):
            state["values"], state["interrupts"] = self._summary(record)
        return {name: state[name] if name in _OF_STATE else getattr(record, name) for name in names}


def _found(value: Any, path: str) -> Any:
    """What a JSON value has at a path; None where it has nothing."""
    for name, index in _STEP.findall(f".{path}"):
        if name and isinstance(value, dict):
            value = value.get(name)
        elif index and isinstance(value, list) and -len(value) <= int(index) < len(value):
            value = value[int(index)]
        else:
            return None
    return value
