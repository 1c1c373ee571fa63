"""What happens to runs, for those who follow them.

A run is a log of events, and its last event is its end. Whoever waits for a run in this process,
or streams it, for whatever process executes it, follows it through the process's one hub: the hub
is told of the events of this process's own runs, and reads those of others from Redis when a
message says that it should.

The events of a run that can be resumed are logged in Redis, and followers are given them only once
they are there: nobody sees what a process that lost the run, or died, never logged. Any other run's
events come from memory, and are logged only while another process asks for them.
"""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import TypeVar

from runwait.pool import put_nothing_off
from runwait.runs import ending
from runwait.runs.executor import Executor
from runwait.runs.timers import Timers
from runwait.serialization import dumps
from runwait.storage.connection import StorageUnavailable
from runwait.storage.events import EventId, EventRecords, FollowedRun, FollowedThread
from runwait.storage.records import RunRecords, StoredRun, UnreadableRecord

log = logging.getLogger("runwait.runs")

# A run that ends within this time is recorded once, as ended: nobody has been told of it before.
AT_ONCE_SECONDS = 0.02
# How much of its events a client may leave unread, in bytes, and all of a process's beyond that: a
# graph with a state of some MB makes events faster than any client reads them.
BACKLOG_BYTES = 4 * 1024 * 1024
SHARED_BACKLOG_BYTES = 64 * 1024 * 1024

METADATA, ERROR, END = "metadata", "error", "end"
# What followers of a thread are given when it, or a run of it, may have been removed.
REMOVED = "removed"


class RunNotFound(Exception):
    """No such run, or not any more."""


class NoRoom(Exception):
    """The process cannot take another run or another client that waits."""


@dataclass(frozen=True)
class Event:
    """One event of a run.

    Attributes:
        name: what a stream calls it, with the namespace of a subgraph: `updates|sub:<task id>`.
        data: JSON.
        id: its place in the run's log, if that is kept.
    """

    name: str
    data: bytes
    id: EventId | None = None


@dataclass(frozen=True)
class End:
    """The end of a run.

    Attributes:
        document: the answer, JSON.
        events: the last events of its stream, `end` among them; none where they are to be had
            from its log alone.
    """

    document: bytes
    events: Sequence[Event] = field(default=(), compare=False)


class Cut(Enum):
    """Why a follower is given no more events, although there was no end."""

    CLIENT_GONE = "the client went away"
    ELSEWHERE = "this process stops; another one has the run"
    TOO_SLOW = "the client does not read what it is sent"


Given = Event | End | Cut


def _nothing() -> None:
    """What is done where nothing is to be done."""


class Room:
    """For what clients leave unread beyond their own part; all of them share it."""

    def __init__(self, size: int) -> None:
        """Have `size` bytes."""
        self._left = size
        self._lock = threading.Lock()

    def take(self, size: int) -> bool:
        """Take so many bytes, if they are there."""
        with self._lock:
            if size > self._left:
                return False
            self._left -= size
            return True

    def give_back(self, size: int) -> None:
        """Give back so many."""
        with self._lock:
            self._left += size


_NO_ROOM = Room(0)


class Follower:
    """One client that follows a run. Events are given to it by any thread; one takes them.

    Attributes:
        streams: whether it is given all events, and the run's end as the event `end`; else it is
            given an `End` alone.
        wants_document: whether, streaming, it is given the `End` too.
        is_early: whether the run is still on its way to Redis.
        is_over: whether it was given the event `end`.
        room: what it may use, where its client leaves more unread than it may have for itself.
        on_gone: called when the client closed its connection.
        on_close: called once, when the request is over.
        on_delivered: called when all was written to the client.
        on_lasting: called when a run did not end at once, before its client is told of it.
    """

    def __init__(
        self, thread_id: str, run_id: str, *, streams: bool = False, placed: bool = True
    ) -> None:
        """Prepare.

        Args:
            thread_id, run_id: the run.
            streams: whether it is to be given all events.
            placed: whether it begins with the first event; else it is given none that is logged
                before `place` says where.
        """
        self.thread_id = thread_id
        self.run_id = run_id
        self.streams = streams
        self.wants_document = False
        # The last logged event that it was given; and whether there are later ones that have to be
        # read from the log, before it can be given any as they come.
        self.cursor: EventId = (0, 0)
        self._behind = False
        self._missed = False
        self.is_placed = placed
        self.is_early = False
        self.is_over = False
        self._giving = threading.Lock()
        self._events: queue.SimpleQueue[Given] = queue.SimpleQueue()
        self._taken: list[Given] = []
        self._backlog = 0
        self.room = _NO_ROOM
        self._shared = 0
        self._wake: Callable[[], None] | None = None
        self._is_awake = False
        self.on_drained: Callable[[], None] = _nothing
        self.on_gone: Callable[[], None] = _nothing
        self.on_close: Callable[[], None] = _nothing
        self.on_delivered: Callable[[], None] = _nothing
        self.on_lasting: Callable[[], None] = _nothing
        self._open = threading.Lock()

    def give(self, given: Given) -> None:
        """Give it an event; nothing counts after an end or a cut."""
        if not self.streams:
            if not isinstance(given, Event):
                self._put(given)
        elif isinstance(given, End):
            for event in given.events:
                self.give(event)
            if self.wants_document:
                self._put(given)
        elif isinstance(given, Cut):
            self._put(given)
        else:
            with self._giving:
                if given.id is not None and (self._behind or not self.is_placed):
                    self._behind = self._missed = True
                elif self._has_room_for(given) or self._shares_room_for(given):
                    self._give_event(given)
                else:
                    # What is logged can be read later.
                    self._behind = given.id is not None
                    if not self._behind:
                        self._put(Cut.TOO_SLOW)

    def place(self, after: EventId, *, behind: bool = False) -> bool:
        """Say after which event it goes on.

        Args:
            after: the event.
            behind: whether its next events are to be read from the run's log.

        Returns:
            Whether they are, since there are some, or were while it was not placed.
        """
        with self._giving:
            self.cursor, self.is_placed = after, True
            self._behind = self._behind or behind
            return self._behind

    def fall_behind(self) -> None:
        """There may be events in the log that it was not given."""
        with self._giving:
            self._behind = True

    def catch_up(self, run_id: str, events: Sequence[Event], *, to_the_end: bool) -> bool:
        """Give it events that were read from a run's log, after its cursor.

        Args:
            run_id: the run; if that is not the one any more that it follows, nothing happens.
            events: the next ones.
            to_the_end: whether there were no more.

        Returns:
            Whether there may be more, and room for them.
        """
        with self._giving:
            if run_id != self.run_id:
                return False  # that it came to this one's end says nothing of the next
            missed, self._missed = self._missed, False
            for event in events:
                if not self._has_room_for(event):
                    self._behind = True
                    return False  # read again once some of them were taken
                self._give_event(event)
            self._behind = missed or not to_the_end
            return self._behind

    def _has_room_for(self, event: Event) -> bool:
        # One event alone may be as large as it is.
        return not self._backlog or self._backlog + len(event.data) <= BACKLOG_BYTES

    def _shares_room_for(self, event: Event) -> bool:
        size = len(event.data)
        if event.id is not None or not self.room.take(size):
            return False
        self._shared += size
        return True

    def _give_back(self) -> None:
        if self._shared:
            self.room.give_back(self._shared)
            self._shared = 0

    def _give_event(self, event: Event) -> None:
        if event.id is not None:
            if event.id <= self.cursor:
                return  # it has come by another way
            self.cursor = event.id
        self.is_over = event.name == END
        self._backlog += len(event.data)
        self._put(event)

    def _put(self, given: Given) -> None:
        self._events.put(given)
        # One call wakes whoever takes the events, however many there are by then.
        if (wake := self._wake) is not None and not self._is_awake:
            self._is_awake = True
            wake()

    def listen(self, wake: Callable[[], None]) -> None:
        """Have `wake` called, from any thread, when there are events; at once if there may be."""
        self._wake = wake
        self._is_awake = True
        wake()

    def take(self) -> list[Given]:
        """The events given since the last call."""
        self._is_awake = False
        events, self._taken = self._taken, []
        with contextlib.suppress(queue.Empty):
            while True:
                events.append(self._events.get_nowait())
        if self.streams and events:
            with self._giving:
                self._backlog -= sum(len(each.data) for each in events if isinstance(each, Event))
                drained = self._behind
                self._give_back()
            if drained:
                self.on_drained()
        return events

    def wait(self, seconds: float | None) -> bool:
        """Block until there is an event, for so long at most; whether there is."""
        if not self._taken:
            put_nothing_off()
            with contextlib.suppress(queue.Empty):
                self._taken.append(self._events.get(timeout=seconds))
        return bool(self._taken)

    def result(self) -> Given:
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
            with self._giving:
                self._give_back()
                self.room = _NO_ROOM
            # These have it, and it has the run's document, until garbage is collected.
            self._wake = None
            self.on_close = self.on_drained = _nothing


class ThreadFollower(Follower):
    """One client that follows the runs of a thread, one after the other.

    Ids grow from one run of a thread to the next, since they have it in turn.
    """

    def __init__(self, thread_id: str, permits: Callable[[str], bool] | None = None) -> None:
        """Prepare.

        Args:
            thread_id: the thread.
            permits: whether it may follow the thread's next run; None: all of them. It may be
                another's thread by then. Asks Redis.
        """
        super().__init__(thread_id, "", streams=True, placed=False)
        self.permits = permits
        # Runs that have begun after the one that is followed now, by `run_id`.
        self._following: deque[str] = deque()
        self._over: deque[str] = deque(maxlen=100)
        self.on_run_end: Callable[[], None] = _nothing

    def begins(self, run_id: str) -> bool:
        """Note that a run has begun; whether it is to be followed now."""
        with self._giving:
            if run_id in (self.run_id, *self._following, *self._over):
                return False
            self._following.append(run_id)
            return self.is_placed and not self.run_id

    def place_before(self, after: EventId, run_ids: Iterable[str]) -> None:
        """Say after which event it goes on, and which runs come before those that begin."""
        with self._giving:
            self._following = deque(dict.fromkeys([*run_ids, *self._following]))
            self.cursor, self.is_placed = after, True

    def next_run(self, ended: str) -> str | None:
        """Go on to the next run, once one has ended ("": there was none); its id, if there is one.

        Several may say the same at once: it goes on once.
        """
        with self._giving:
            if self.run_id != ended:
                return None
            self._behind = True
            self._over.append(ended)
            self.run_id = self._following.popleft() if self._following else ""
            return self.run_id or None

    def _give_event(self, event: Event) -> None:
        super()._give_event(event)
        if self.is_over:
            # The next one is read from its log.
            self.is_over, self._behind = False, True
            self.on_run_end()


class Hub:
    """All who follow runs in this process, by run.

    A message from Redis says when to look; so does every reconnect, since messages get lost.
    """

    def __init__(
        self,
        records: RunRecords,
        logs: EventRecords,
        executor: Executor,
        timers: Timers,
        places: int,
        patience: float,
        document_of: Callable[[StoredRun], bytes],
    ) -> None:
        """Prepare.

        Args:
            records: the runs.
            logs: their events, as far as they are logged.
            executor: for work that may block.
            timers: for looking again.
            places: how many may follow runs at once.
            patience: seconds that a run may be unknown to Redis before it counts as lost.
            document_of: makes the document of a kept run whose result is not there any more.
        """
        self._records = records
        self._logs = logs
        self._executor = executor
        self._timers = timers
        self._places = threading.Semaphore(places)
        self._patience = patience
        self._document_of = document_of
        self._followers: dict[str, list[Follower]] = {}
        self._of_threads: dict[str, list[ThreadFollower]] = {}
        self._lock = threading.Lock()
        self._telling = [threading.Lock() for _ in range(64)]
        # Held while a run's log is read. Of two who read at once, the one who saw less would take
        # the followers to have all that there is.
        self._read = [threading.Lock() for _ in range(64)]
        self._stopped = False
        self._room = Room(SHARED_BACKLOG_BYTES)
        # Runs whose logs have events that were not read yet.
        self._unread: set[str] = set()
        self._reading = False
        # Whether a run is this process's, whose events come without Redis; set by the service.
        self.is_here: Callable[[str], bool] = lambda run_id: False

    def _asking(self, run_or_thread_id: str) -> threading.Lock:
        """Held while Redis is told that somebody here follows, or that nobody does any more: the
        latter must not come late and undo the former."""
        return self._telling[hash(run_or_thread_id) % len(self._telling)]

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

    def follow(
        self, thread_id: str, run_id: str, *, streams: bool = False, placed: bool = True
    ) -> Follower:
        """Follow a run from now on: what is published of it reaches the follower.

        Args:
            thread_id, run_id: the run.
            streams, placed: see `Follower`.

        Returns:
            The follower, which must be closed.

        Raises:
            NoRoom: all places to wait are taken, or the process is stopping.
        """
        self._enter()
        follower = Follower(thread_id, run_id, streams=streams, placed=placed)
        follower.room = self._room
        follower.on_close = partial(self._leave, follower)
        follower.on_drained = partial(self.look_at_events, run_id)
        with self._lock:
            self._followers.setdefault(run_id, []).append(follower)
        return follower

    def streams(self, run_id: str) -> bool:
        """Whether anybody in this process is given all events of a run."""
        return any(each.streams for each in self._followers.get(run_id, ()))

    def append(self, run_id: str, events: Sequence[Event]) -> None:
        """Give all who stream a run its next events."""
        with self._lock:
            followers = list(self._followers.get(run_id, ()))
        for follower in followers:
            for event in events:
                follower.give(event)

    def publish(self, run_id: str, last: End | Cut) -> None:
        """Give all who follow a run its end; those who stream it, if its last events come along."""
        with self._lock:
            followers = self._followers.pop(run_id, [])
            streaming = [each for each in followers if each.streams]
            if isinstance(last, End) and streaming:
                # They may have something to read from the log still.
                self._followers[run_id] = streaming
        for follower in followers:
            follower.give(last)

    def read(self, follower: Follower) -> None:
        """Have a follower given the end of a run that is not this process's.

        Raises:
            RunNotFound: there is no such run on that thread.
            StorageUnavailable: Redis cannot be asked.
            UnreadableRecord: another version of Runwait wrote its record.
        """
        # The follower is listed: an end that comes after this reading is not missed.
        stored = self._records.read(follower.run_id, follow=True)
        if stored is None:
            raise self.missing(follower.run_id)
        if stored.record.thread_id != follower.thread_id:
            raise RunNotFound(follower.run_id)
        if (document := self._document(stored)) is not None:
            # To all of this process: it may have been there for this reading alone.
            self.publish(follower.run_id, End(document))
            if stored.once:
                # Those had waited; who comes now has not.
                raise RunNotFound(follower.run_id)
        elif stored.record.status.ended:
            raise RunNotFound(follower.run_id)

    def missing(self, run_id: str) -> RunNotFound | StorageUnavailable:
        """What to say of a run that Redis does not know.

        While Redis is away, runs on threads of their own are served, and their clients know their
        ids; what Redis missed it is told within a lease of when it is back.
        """
        if time.monotonic() < self._records.back_since + self._patience:
            return StorageUnavailable(
                f"Redis was away a moment ago, and may not have been told of run {run_id} yet"
            )
        return RunNotFound(run_id)

    def read_stream(self, follower: Follower, after: EventId | None) -> None:
        """Have a follower given the events of a run from its log, and what follows.

        Args:
            follower: listed, and not placed yet.
            after: the event after which it goes on; None for what comes from now on.

        Raises:
            RunNotFound, StorageUnavailable, UnreadableRecord: as `read` does.
            UnknownEvent, ForgottenEvent: there was no such event, or its log is cut since.
        """
        run_id = follower.run_id
        with self._asking(run_id):
            found = self._logs.follow(run_id, after)
        if found is None:
            raise self.missing(run_id)
        if found.run.record.thread_id != follower.thread_id:
            raise RunNotFound(run_id)
        ended = found.run.record.status.ended
        self._tell_of_the_beginning(follower, found, found.after)
        # What else there is of a run that ended was not logged, is not kept, or not asked for.
        is_logged = not (ended and found.at_the_end)
        follower.place(found.after, behind=is_logged)
        if ended:
            self._tell_of_the_end(follower, found, after)
        if is_logged:
            self.look_at_events(run_id)

    def _tell_of_the_beginning(
        self, follower: Follower, found: FollowedRun, after: EventId | None
    ) -> None:
        """Give a follower the event that began a run, unless it is the first that it is to have of
        the run's log."""
        record = found.run.record
        # It begins a log even where it is still on its way there.
        is_coming = record.kwargs.get("resumable") and not (found.logged or record.status.ended)
        if found.attempt and not (after == (0, 0) and (found.begins or is_coming)):
            follower.give(metadata_of(follower.thread_id, record.run_id, found.attempt))

    def _tell_of_the_end(
        self, follower: Follower, found: FollowedRun, after: EventId | None
    ) -> None:
        """Give a follower what the log of a run that ended does not have, or not any more."""
        run_id, stored = follower.run_id, found.run
        if (document := self._document(stored)) is None:
            raise RunNotFound(run_id)
        values = after in (None, (0, 0)) and (found.at_the_end or not found.begins)
        status = str(stored.record.status)
        for event in replay_of(run_id, document, status, stored.error, values=values):
            # Of a log that is read, values stand in place of what it does not have any more.
            if found.at_the_end or event.name == "values":
                follower.give(event)

    def follow_thread(
        self,
        thread_id: str,
        after: EventId | int | None,
        *,
        later: bool = False,
        watches: bool = False,
        permits: Callable[[str], bool] | None = None,
    ) -> ThreadFollower | None:
        """Follow the runs of a thread, in whichever process they execute.

        Args:
            thread_id: the thread.
            after: the event after which to go on, by its id or the sum of that; (0, 0) for all
                that is kept, None for now.
            later: whether the thread may be made later.
            watches: see `EventRecords.follow_thread`; `after` counts for nothing then.
            permits: see `ThreadFollower`.

        Returns:
            Who follows it, which must be closed; None if there is no such thread, nor may be.

        Raises:
            NoRoom: all places to wait are taken, or the process is stopping.
            StorageUnavailable: Redis cannot be asked.
        """
        self._enter()
        follower = ThreadFollower(thread_id, permits)
        follower.room = self._room
        follower.on_close = partial(self._leave_thread, follower)
        follower.on_drained = lambda: self.look_at_events(follower.run_id)
        follower.on_run_end = lambda: self._executor.help(
            partial(self._next_run, follower, follower.run_id)
        )
        with self._lock:
            self._of_threads.setdefault(thread_id, []).append(follower)
        try:
            with self._asking(thread_id):
                found = self._logs.follow_thread(thread_id, watches=watches)
        except BaseException:
            follower.close()
            raise
        if found is None:
            if not later:
                follower.close()
                return None
            found = FollowedThread()
        if found.active is not None and after in (None, (0, 0)) and not watches:
            self._tell_of_active(follower, found.active[0], after)
        if found.silent is not None and after == 0 and not watches:
            self._tell_of_silent(follower, found.silent)
        if watches:
            after = found.unwanted
        elif isinstance(after, int):
            after = _place_of(after, [last for _, last in found.logged])
        if after is None:
            after = found.now
        follower.place_before(after, found.runs_after(after))
        self._next_run(follower, "")
        return follower

    def _tell_of_active(
        self, follower: ThreadFollower, run_id: str, after: EventId | int | None
    ) -> None:
        """Give who comes while a run has the thread what began that."""
        assert not isinstance(after, int)
        with contextlib.suppress(UnreadableRecord):
            if (found := self._logs.follow(run_id, None)) is not None:
                self._tell_of_the_beginning(follower, found, after)

    def _tell_of_silent(self, follower: ThreadFollower, run_id: str) -> None:
        """Give who comes too late for a run how it ended: a page may take it to be at work still.

        Values are for a page that read the thread's state before the end. Where the thread stands
        at an interrupt or a breakpoint, they may have been changed since.
        """
        with contextlib.suppress(UnreadableRecord):
            stored = self._records.read(run_id)
            if stored is None or not stored.record.status.ended:
                return
            status, document = str(stored.record.status), stored.document
            values = document is not None and status == "success"
            for event in replay_of(
                run_id, document or b"null", status, stored.error, values=values
            ):
                follower.give(event)

    def run_begins(self, thread_id: str, run_id: str) -> None:
        """A message says that a run begins on a thread that is followed here."""
        for follower in list(self._of_threads.get(thread_id, ())):
            self._begins(follower, run_id)

    def tell_thread(self, thread_id: str, event: Event) -> None:
        """Give all who follow a thread an event that is of none of its runs."""
        for follower in list(self._of_threads.get(thread_id, ())):
            if follower.permits is None or follower.permits(thread_id):
                follower.give(event)

    def tell_of_removal(self, thread_id: str) -> None:
        """Tell all who follow a thread that it, or a run of it, may have been removed."""
        for follower in list(self._of_threads.get(thread_id, ())):
            follower.give(Event(REMOVED, b"null"))

    def follows_thread(self, thread_id: str) -> bool:
        """Whether anybody in this process follows a thread."""
        return thread_id in self._of_threads

    def _begins(self, follower: ThreadFollower, run_id: str) -> None:
        if follower.permits is not None:
            self._executor.help(partial(self._begins_if_permitted, follower, run_id))
        elif follower.begins(run_id):
            self._next_run(follower, "")

    def _begins_if_permitted(self, follower: ThreadFollower, run_id: str) -> None:
        with contextlib.suppress(StorageUnavailable):  # asked again once Redis is back
            assert follower.permits is not None
            if follower.permits(follower.thread_id) and follower.begins(run_id):
                self._next_run(follower, "")

    def _next_run(self, follower: ThreadFollower, ended: str) -> None:
        with self._lock:
            _unlist(self._followers, ended, follower)
            run_id = follower.next_run(ended)
            if run_id is None or follower not in self._of_threads.get(follower.thread_id, ()):
                return
            self._followers.setdefault(run_id, []).append(follower)
        self.look_at_events(run_id)
        # It may have ended before the follower was listed, with nothing in its log.
        self.look(run_id)

    def _follow_threads(self, thread_ids: Iterable[str]) -> None:
        """Messages of runs that began may have been lost."""
        with contextlib.suppress(StorageUnavailable):  # done again once Redis is back
            for thread_id in thread_ids:
                found = self._logs.follow_thread(thread_id) or FollowedThread()
                self.tell_of_removal(thread_id)
                for follower in list(self._of_threads.get(thread_id, ())):
                    for run_id in found.runs_after(follower.cursor):
                        self._begins(follower, run_id)

    def catch_up(self, run_id: str) -> None:
        """Have all who stream a run given what other processes have logged of it."""
        for follower in list(self._followers.get(run_id, ())):
            follower.fall_behind()
        self.look_at_events(run_id)

    def look(self, run_id: str) -> None:
        """Read a run of another process that is followed here, soon: it may have ended."""
        self._executor.help(partial(self._look, run_id))

    def look_at_events(self, run_id: str) -> None:
        """Read the log of a run of another process that is streamed here, soon: there is more."""
        with self._lock:
            if run_id not in self._followers:
                return
            self._unread.add(run_id)
            if self._reading:
                return
            self._reading = True
        self._executor.help(self._read_logs)

    def look_at_all(self) -> None:
        """Messages may have been lost: read all runs of other processes that are followed."""
        with self._lock:
            run_ids, thread_ids = list(self._followers), list(self._of_threads)
        for run_id in run_ids:
            self.look(run_id)
        if thread_ids:
            self._executor.help(partial(self._follow_threads, thread_ids))

    @property
    def crowd(self) -> tuple[int, int]:
        """How many wait here for ends of runs, and how many for events."""
        with self._lock:
            followers = [each for those in self._followers.values() for each in those]
        streams = sum(each.streams for each in followers)
        return len(followers) - streams, streams

    @property
    def followed(self) -> list[str]:
        """The runs of other processes that are followed here."""
        with self._lock:
            run_ids = list(self._followers)
        return [run_id for run_id in run_ids if not self.is_here(run_id)]

    def stop(self) -> None:
        """This process stops: whoever follows a run has to ask another."""
        with self._lock:
            run_ids = list(self._followers)
            of_threads = [each for those in self._of_threads.values() for each in those]
        for run_id in run_ids:
            self.publish(run_id, Cut.ELSEWHERE)
        for follower in of_threads:
            follower.give(Cut.ELSEWHERE)

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
            is_last = _unlist(self._followers, follower.run_id, follower)
        if is_last and follower.streams and not (follower.is_over or self.is_here(follower.run_id)):
            self._unfollow(follower.run_id)

    def _leave_thread(self, follower: ThreadFollower) -> None:
        self._places.release()
        with self._lock:
            _unlist(self._followers, follower.run_id, follower)
            is_last = _unlist(self._of_threads, follower.thread_id, follower)
        if is_last:
            self._unfollow(follower.thread_id)

    def _unfollow(self, run_or_thread_id: str) -> None:
        """Tell Redis, soon, that nobody here follows any more, unless somebody does again."""

        def unfollow() -> None:
            with contextlib.suppress(StorageUnavailable), self._asking(run_or_thread_id):
                # Who is not listed yet follows after this.
                if not (run_or_thread_id in self._of_threads or self.streams(run_or_thread_id)):
                    self._logs.unfollow(run_or_thread_id)

        self._executor.help(unfollow)

    def _document(self, stored: StoredRun) -> bytes | None:
        if stored.document is None and stored.kept and stored.record.status.ended:
            return self._document_of(stored)
        return stored.document

    def _look(self, run_id: str, *, last_time: bool = False) -> None:
        with self._lock:
            followers = list(self._followers.get(run_id, ()))
        if not followers or self.is_here(run_id):
            return
        streamed = any(each.streams for each in followers)
        events: list[Event] = []
        try:
            stored = self._records.read(run_id, follow=True, streams=streamed)
            document = self._document(stored) if stored is not None else None
            if stored is None and self._records.is_gone(followers[0].thread_id):
                # It went with its thread.
                document = dumps(ending.cancelled(None).answer)
            if streamed and stored is not None and stored.logged:
                self._read_log(run_id)
            elif document is not None:
                status = str(stored.record.status) if stored is not None else "interrupted"
                error = stored.error if stored is not None else None
                # Who followed it here may not have been told what its last process made of it.
                asked = stored.record.kwargs.get("stream_mode") if stored is not None else None
                # Where its record cannot be read, nobody knows.
                asked = asked if isinstance(asked, list) else None
                values = stored is not None and "values" in (asked or ["values"])
                events = replay_of(run_id, document, status, error, values=values)
        except StorageUnavailable:
            return  # looked at again once Redis is back
        except UnreadableRecord:
            return  # whoever claims it ends it, and says so
        if stored is not None and document is None and stored.record.status.ended:
            # Redis dropped its result.
            document = dumps(ending.lost().answer)
        if document is None and stored is None and last_time:
            outcome = ending.lost()
            document = dumps(outcome.answer)
            events = replay_of(run_id, document, str(outcome.status), outcome.error)
        if document is not None:
            self.publish(run_id, End(document, events))
        elif stored is None and not any(each.is_early for each in followers):
            # Redis lost the record. Whoever executes the run records it again with its beat.
            again = partial(self._look, run_id, last_time=True)
            self._timers.after(self._patience, lambda: self._executor.help(again))

    def _read_logs(self) -> None:
        while True:
            with self._lock:
                unread, self._unread = self._unread, set()
                if not unread:
                    self._reading = False
                    return
            for run_id in unread:
                try:
                    self._read_log(run_id)
                except StorageUnavailable:
                    break  # looked at again once Redis is back
                except Exception:
                    log.exception("fault while reading the events of run %s", run_id)

    def _read_log(self, run_id: str) -> None:
        """Give those who stream a run what was logged since they were given something."""
        with self._read[hash(run_id) % len(self._read)]:
            listed = self._followers.get(run_id, ())
            followers = [each for each in listed if each.streams and each.is_placed]
            while followers:
                by_cursor: dict[EventId, list[Follower]] = {}
                for each in followers:
                    by_cursor.setdefault(each.cursor, []).append(each)
                followers = []
                for cursor, those in by_cursor.items():
                    logged, to_the_end = self._logs.after(run_id, cursor)
                    events = [Event(each.name, each.data, each.id) for each in logged]
                    followers += [
                        each
                        for each in those
                        if each.catch_up(run_id, events, to_the_end=to_the_end)
                    ]


def _place_of(after: int, last: Sequence[EventId]) -> EventId:
    """An id that is above those whose sum is not above a number, but for some of one run at most.

    Args:
        after: the number.
        last: the ids of the last events of runs that had their thread in turn.
    """
    place = (0, 0)
    for each in sorted(last):
        if sum(each) > after:
            # Of an earlier attempt, the token is not known: all of the run is above then.
            return max(place, (each[0], after - each[0])) if each[0] <= after else place
        place = each
    return place


F = TypeVar("F", bound=Follower)


def _unlist(listed: dict[str, list[F]], key: str, follower: F) -> bool:
    """Take a follower from a list of them; whether it was the last one there."""
    followers = listed.get(key, [])
    if follower not in followers:
        return False
    followers.remove(follower)
    if not followers:
        del listed[key]
    return not followers


def metadata_of(thread_id: str, run_id: str, attempt: int, **more: str) -> Event:
    """The event that begins a run; `more` is what else is to be said of that."""
    begun = {"run_id": run_id, "attempt": attempt, "thread_id": thread_id}
    return Event(METADATA, _json({**begun, **more}))


def last_events(run_id: str, status: str, error: dict[str, str] | None) -> list[tuple[str, bytes]]:
    """Names and data of the events that end a run."""
    events = [(ERROR, dumps(error))] if error is not None else []
    return [*events, (END, _json({"run_id": run_id, "status": status}))]


def replay_of(
    run_id: str,
    document: bytes,
    status: str | None,
    error: dict[str, str] | None,
    *,
    values: bool = True,
) -> list[Event]:
    """What is left to be told of a run that ended and whose events were not logged.

    Args:
        run_id: the run.
        document: its answer.
        status: how it ended; None if nothing but the answer says so.
        error: of a run that failed, if that is known.
        values: whether to give its last values too.
    """
    if status is None or (error is None and status in ("error", "timeout")):
        answer = json.loads(document)
        fields = answer if isinstance(answer, dict) else {}
        error = fields.get(ending.ERROR)
        ended = "interrupted" if ending.INTERRUPT in fields else "success"
        status = status or ("error" if error else ended)
    events = [Event("values", document)] if values and error is None else []
    return events + [Event(*each) for each in last_events(run_id, status, error)]


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
