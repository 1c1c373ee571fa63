"""What happens to runs, for those who follow them.

A run is a log of events, and its last event is its end. Whoever waits for a run in this process,
for whatever process executes it, follows it through the process's one hub: the hub is told of the
events of this process's own runs, and reads those of others from Redis when a message says that it
should.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from functools import partial

from runwait.runs import ending
from runwait.runs.executor import Executor
from runwait.runs.timers import Timers
from runwait.serialization import dumps
from runwait.storage.connection import StorageUnavailable
from runwait.storage.records import RunRecords, StoredRun, UnreadableRecord


class RunNotFound(Exception):
    """No such run, or not any more."""


class NoRoom(Exception):
    """The process cannot take another run or another client that waits."""


@dataclass(frozen=True)
class End:
    """The last event of a run.

    Attributes:
        document: the answer, JSON.
    """

    document: bytes


class Cut(Enum):
    """Why a follower is given no more events, although there was no end."""

    CLIENT_GONE = "the client went away"
    ELSEWHERE = "this process stops; another one has the run"


Event = End | Cut


class Follower:
    """One client that follows a run. Events are given to it by any thread; one takes them.

    Attributes:
        on_gone: called when the client closed its connection.
        on_close: called once, when the request is over.
        on_delivered: called when all was written to the client.
    """

    def __init__(self, thread_id: str, run_id: str) -> None:
        self.thread_id = thread_id
        self.run_id = run_id
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._taken: list[Event] = []
        self._wake: Callable[[], None] | None = None
        self.on_gone: Callable[[], None] = lambda: None
        self.on_close: Callable[[], None] = lambda: None
        self.on_delivered: Callable[[], None] = lambda: None
        self._open = threading.Lock()

    def give(self, event: Event) -> None:
        """Give it an event; nothing counts after an end or a cut."""
        self._events.put(event)
        if (wake := self._wake) is not None:
            wake()

    def listen(self, wake: Callable[[], None]) -> None:
        """Have `wake` called, from any thread, when there are events; at once if there may be."""
        self._wake = wake
        wake()

    def take(self) -> list[Event]:
        """The events given since the last call."""
        events, self._taken = self._taken, []
        with contextlib.suppress(queue.Empty):
            while True:
                events.append(self._events.get_nowait())
        return events

    def wait(self, seconds: float | None) -> bool:
        """Block until there is an event, for so long at most; whether there is."""
        if not self._taken:
            with contextlib.suppress(queue.Empty):
                self._taken.append(self._events.get(timeout=seconds))
        return bool(self._taken)

    def result(self) -> Event:
        """Block until the run ended, or is not to be followed here any more."""
        self.wait(None)
        return self._taken[0]

    def client_gone(self) -> None:
        """The client closed its connection."""
        self.give(Cut.CLIENT_GONE)
        self.on_gone()

    def delivered(self) -> None:
        """All was written to the client."""
        self.on_delivered()

    def close(self) -> None:
        """The request is over, however it went. May be called again."""
        if self._open.acquire(blocking=False):
            self.on_close()


class Hub:
    """All who follow runs in this process, by run.

    A message from Redis says when to look; so does every reconnect, since messages get lost.
    """

    def __init__(
        self,
        records: RunRecords,
        executor: Executor,
        timers: Timers,
        places: int,
        patience: float,
        document_of: Callable[[StoredRun], bytes],
    ) -> None:
        """Prepare.

        Args:
            records: the runs.
            executor: for work that may block.
            timers: for looking again.
            places: how many may follow runs at once.
            patience: seconds that a run may be unknown to Redis before it counts as lost.
            document_of: makes the document of a kept run whose result is not there any more.
        """
        self._records = records
        self._executor = executor
        self._timers = timers
        self._places = threading.Semaphore(places)
        self._patience = patience
        self._document_of = document_of
        self._followers: dict[str, list[Follower]] = {}
        self._lock = threading.Lock()
        self._stopped = False
        # Whether a run is this process's, whose events come without Redis; set by the service.
        self.is_here: Callable[[str], bool] = lambda run_id: False

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """A place to wait in, for something else than a run.

        Raises:
            NoRoom: all are taken.
        """
        self._enter()
        try:
            yield
        finally:
            self._places.release()

    def follow(self, thread_id: str, run_id: str) -> Follower:
        """Follow a run from now on: what is published of it reaches the follower.

        Returns:
            The follower, which must be closed.

        Raises:
            NoRoom: all places to wait are taken, or the process is stopping.
        """
        self._enter()
        follower = Follower(thread_id, run_id)
        follower.on_close = partial(self._leave, follower)
        with self._lock:
            self._followers.setdefault(run_id, []).append(follower)
        return follower

    def publish(self, run_id: str, event: Event) -> None:
        """Give all who follow a run its last event."""
        with self._lock:
            followers = self._followers.pop(run_id, [])
        for follower in followers:
            follower.give(event)

    def read(self, follower: Follower) -> None:
        """Have a follower given the events of a run that is not this process's.

        Raises:
            RunNotFound: there is no such run on that thread.
            StorageUnavailable: Redis cannot be asked.
            UnreadableRecord: another version of Runwait wrote its record.
        """
        # The follower is listed: an end that comes after this reading is not missed.
        stored = self._records.read(follower.run_id, follow=True)
        if stored is None or stored.record.thread_id != follower.thread_id:
            raise RunNotFound(follower.run_id)
        if (document := self._document(stored)) is not None:
            # To all of this process: it may have been there for this reading alone.
            self.publish(follower.run_id, End(document))
        elif stored.record.status.ended:
            raise RunNotFound(follower.run_id)

    def look(self, run_id: str) -> None:
        """Read a run of another process that is followed here, soon: it may have ended."""
        self._executor.help(partial(self._look, run_id))

    def look_at_all(self) -> None:
        """Messages may have been lost: read all runs of other processes that are followed."""
        with self._lock:
            run_ids = list(self._followers)
        for run_id in run_ids:
            self.look(run_id)

    def stop(self) -> None:
        """This process stops: whoever follows a run has to ask another."""
        with self._lock:
            run_ids = list(self._followers)
        for run_id in run_ids:
            self.publish(run_id, Cut.ELSEWHERE)

    def close(self) -> None:
        """Let nobody in any more."""
        self._stopped = True

    def _enter(self) -> None:
        if self._stopped:
            raise NoRoom("the process is shutting down")
        if not self._places.acquire(blocking=False):
            raise NoRoom("all places to wait are taken")

    def _leave(self, follower: Follower) -> None:
        self._places.release()
        with self._lock:
            followers = self._followers.get(follower.run_id)
            if followers and follower in followers:
                followers.remove(follower)
                if not followers:
                    del self._followers[follower.run_id]

    def _document(self, stored: StoredRun) -> bytes | None:
        if stored.document is None and stored.kept and stored.record.status.ended:
            return self._document_of(stored)
        return stored.document

    def _look(self, run_id: str, *, last_time: bool = False) -> None:
        with self._lock:
            followers = self._followers.get(run_id)
            thread_id = followers[0].thread_id if followers else None
        if thread_id is None or self.is_here(run_id):
            return
        try:
            stored = self._records.read(run_id, follow=True)
            document = self._document(stored) if stored is not None else None
            if stored is None and self._records.is_gone(thread_id):
                # It went with its thread.
                document = dumps(ending.cancelled(None).answer)
        except StorageUnavailable:
            return  # looked at again once Redis is back
        except UnreadableRecord:
            return  # whoever claims it ends it, and says so
        if document is None and stored is None and last_time:
            document = dumps(ending.lost().answer)
        if document is not None:
            self.publish(run_id, End(document))
        elif stored is None:
            # Redis lost the record. Whoever executes the run records it again with its beat.
            again = partial(self._look, run_id, last_time=True)
            self._timers.after(self._patience, lambda: self._executor.help(again))
