"""The events of runs as Redis holds them, for those who follow runs of other processes.

In the family of keys of records.py:

    {prefix}:events:<run id>     stream  its events, each under its id: n a name, d data, a attempt
    {prefix}:listening:<run id>  set     processes to be told when there are more of them; with a
                                         thread's id, of its runs as they begin
    {prefix}:told:<process>      channel "events <run id>", "listen <run id>",
                                         "run <thread id> <run id>", "state <thread id>",
                                         "removed <thread id>": it is, or a run of it

An event's id is the fencing token of whoever executed the run then, and a number: the microseconds
since that was given, by the clock of that process if it can be, or one more than the last. So ids
grow from one owner to the next, and Redis refuses what an earlier one adds after a later one has.
Their sums grow too, from run to run of a thread, and are times, as tokens are. The log of a run
lives as long as its result; while it executes, a week from its last event.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import uuid4

from runwait.storage.connection import Script, Scripts, Storage
from runwait.storage.records import RunRecord, StoredRun

EventId = tuple[int, int]
"""A fencing token and a number; (0, 0) comes before all."""

# How many events are read at once.
PAGE = 200
# Nobody logs nothing for longer, in ms.
_QUIET_MS = 7 * 24 * 3600 * 1000


class Loggable(Protocol):
    """An event with its place in the log."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def data(self) -> bytes:
        """JSON."""

    @property
    def id(self) -> EventId | None:
        """Its place."""


class UnknownEvent(Exception):
    """The run never had an event with that id."""


class ForgottenEvent(Exception):
    """The event is not kept any more.

    Attributes:
        first: the id of the first one that is; None if none is.
    """

    def __init__(self, first: str | None) -> None:
        super().__init__(first)
        self.first = first


@dataclass(frozen=True)
class LoggedEvent:
    """An event as it was logged."""

    name: str
    data: bytes
    id: EventId


@dataclass(frozen=True)
class Batch:
    """Events of one run that are to be logged, one after the other.

    Attributes:
        token: the run's fencing token.
        attempt: how often it was started.
    """

    run_id: str
    token: int
    attempt: int
    events: Sequence[Loggable]


@dataclass(frozen=True)
class FollowedRun:
    """A run that is to be followed.

    Attributes:
        attempt: how often it was started, at the event after which it is followed; 0: never.
        logged: whether there is a log of its events.
        begins: whether that has the run's first event still.
        after: the event after which it is followed.
        at_the_end: whether that is its last one by now.
    """

    run: StoredRun
    attempt: int
    logged: bool
    begins: bool
    after: EventId
    at_the_end: bool


@dataclass(frozen=True)
class FollowedThread:
    """A thread whose runs are to be followed.

    Attributes:
        active: the run that has it, if one does, and the id of its last event by now.
        logged: the newer runs whose events are logged, likewise.
        unwanted: the id of the last event that who watches it does not want.
        silent: the latest run, if it has ended and none of its events is logged.
    """

    active: tuple[str, EventId] | None = None
    logged: Sequence[tuple[str, EventId]] = ()
    unwanted: EventId = (0, 0)
    silent: str | None = None

    @property
    def now(self) -> EventId:
        """The last event of all its runs, by now."""
        runs = [*self.logged, *([] if self.active is None else [self.active])]
        return max((last for _, last in runs), default=(0, 0))

    def runs_after(self, event: EventId) -> list[str]:
        """The runs that have events after one of them, or have yet to: in their order."""
        ended = sorted((last, run_id) for run_id, last in self.logged)
        runs = [run_id for last, run_id in ended if last > event]
        return runs if self.active is None else [*runs, self.active[0]]


class EventRecords:
    """The events in Redis. Every method is one round trip and may raise StorageUnavailable."""

    def __init__(self, storage: Storage, prefix: str, process_id: str, most: int) -> None:
        """Prepare.

        Args:
            storage, prefix: see `Scripts`.
            process_id: this process's name among those that share it.
            most: how many events of a run are kept, about.
        """
        self._scripts = Scripts(storage, prefix)
        self._tag = self._scripts.tag
        self._process_id = process_id
        self._most = most

    def append(self, batches: Iterable[Batch]) -> list[bool]:
        """Log events; of each batch, whether the run is still its sender's."""
        runs, data = [], []
        for batch in batches:
            names = [each.name for each in batch.events]
            numbers = [each.id[1] for each in batch.events if each.id is not None]
            # Tokens are text: Lua's numbers are doubles.
            runs.append([batch.run_id, str(batch.token), batch.attempt, numbers, names])
            data += [each.data for each in batch.events]
        taken: list[int] = self._scripts.call(
            _LOG, [], runs=json.dumps(runs), most=self._most, quiet=_QUIET_MS, data=data
        )
        return [each == 1 for each in taken]

    def after(self, run_id: str, event: EventId) -> tuple[list[LoggedEvent], bool]:
        """Read the events of a run after one of them; also whether these are all by now."""
        found = self._scripts.call(_AFTER, [self._log(run_id)], after=text_of(event), page=PAGE)
        events = [LoggedEvent(name.decode(), data, parsed(at.decode())) for at, name, data in found]
        return events, len(events) < PAGE

    def follow(self, run_id: str, after: EventId | None) -> FollowedRun | None:
        """Read a run whose events are to be followed; None if there is none.

        If it has not ended, this process is told of its events, and of its end.

        Args:
            run_id: the run's id.
            after: the event after which it is followed; (0, 0) for all, None for what comes.

        Raises:
            UnknownEvent, ForgottenEvent: there is no such event.
            UnreadableRecord: another version of Runwait wrote the run's record.
        """
        run = f"{self._tag}:run:{run_id}"
        keys = [run, f"{self._tag}:result:{run_id}", f"{self._tag}:waiting:{run_id}"]
        found = self._scripts.call(
            _FOLLOW,
            [*keys, self._log(run_id)],
            id=run_id,
            follower=self._process_id,
            after=None if after is None else text_of(after),
        )
        if found[0] is None:
            return None
        if found[0] == b"unknown":
            raise UnknownEvent(run_id)
        if found[0] == b"forgotten":
            raise ForgottenEvent(found[1].decode() if found[1] else None)
        _, lasting, status, updated_at, document, kept, error, attempt, first, at, last = found
        stored = StoredRun(
            RunRecord.restored(lasting, status, updated_at),
            document,
            kept is not None,
            json.loads(error) if error else None,
            logged=first is not None,
        )
        return FollowedRun(
            stored,
            int(attempt or 0),
            logged=stored.logged,
            begins=first == b"metadata",
            after=parsed(at.decode()) if at else (0, 0),
            at_the_end=last is None or at == last,
        )

    def follow_thread(self, thread_id: str, *, watches: bool = False) -> FollowedThread | None:
        """Have this process told of the runs of a thread, and of their events, as they begin.

        Args:
            thread_id: the thread; it may be made later.
            watches: whether of the runs that have ended only the latest is wanted, and only where
                nobody else has watched it, or it waits for an answer.

        Returns:
            None if there is no such thread.
        """
        thread = f"{self._tag}:thread:{thread_id}"
        watcher = uuid4().hex if watches else None
        found = self._scripts.call(
            _FOLLOW_THREAD,
            [thread, f"{thread}:runs"],
            thread=thread_id,
            follower=self._process_id,
            watcher=watcher,
        )
        if found[0] is None:
            return None
        _, active, last, unwanted, silent, *logged = found
        return FollowedThread(
            None if active is None else (active.decode(), _place(last)),
            [
                (each.decode(), _place(at))
                for each, at in zip(logged[::2], logged[1::2], strict=True)
            ],
            _place(unwanted),
            None if silent is None else silent.decode(),
        )

    def unfollow(self, run_or_thread_id: str) -> None:
        """Nobody in this process follows the events of a run, or of a thread, any more."""
        key = f"{self._tag}:listening:{run_or_thread_id}"
        self._scripts.call(_UNFOLLOW, [key], follower=self._process_id)

    def _log(self, run_id: str) -> str:
        return f"{self._tag}:events:{run_id}"


def parsed(event: str) -> EventId:
    """An event's id from its text, which must be one."""
    token, number = event.split("-")
    return int(token), int(number)


def _place(event: bytes | None) -> EventId:
    return (0, 0) if event is None else parsed(event.decode())


def text_of(event: EventId) -> str:
    """An event's id as text."""
    return f"{event[0]}-{event[1]}"


_LOG = Script.load("runs/log")
_AFTER = Script.load("runs/events_after", large=True)
_FOLLOW = Script.load("runs/follow", "runs/library", large=True)
_FOLLOW_THREAD = Script.load(
    "runs/follow_thread", "runs/library", "crons/library", "threads/library"
)
_UNFOLLOW = Script.load("runs/unfollow")
