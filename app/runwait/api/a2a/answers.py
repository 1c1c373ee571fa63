"""Answers that follow a task's run: one document at its end, or its events as they happen."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from runwait.api.a2a.dialects import Dialect, Json, Part, Task, Text
from runwait.api.a2a.tasks import Tasks, text_of
from runwait.api.jsonrpc import Place, RpcError, error_message, message
from runwait.api.stream import STATE_UPDATE, Document, EventStream, frame_of
from runwait.runs import events
from runwait.runs.events import Cut, End, Event, Follower, Given
from runwait.runs.service import Service
from runwait.serialization import dumps
from runwait.storage.records import now

log = logging.getLogger("runwait.requests")


@dataclass(frozen=True)
class _Concluded(End):
    """The end of a run, as the protocol has it."""


class Whole(Document):
    """The answer at the end of a task's run."""

    def __init__(
        self,
        follower: Follower,
        pause: float,
        place: Place,
        service: Service,
        conclude: Callable[[], Json],
    ) -> None:
        """Prepare.

        Args:
            follower: follows the run; closed with the response.
            pause: seconds between heartbeats.
            place: the id of the request.
            service: has threads for what asks Redis.
            conclude: makes the result, once the run ended; asks Redis.
        """
        super().__init__(follower, pause)
        self._place = place
        self._service = service
        self._conclude = conclude
        self._is_over = False

    def _piece_of(self, given: Given) -> bytes:
        if isinstance(given, _Concluded):
            self.is_whole = True
            return given.document
        if isinstance(given, Cut):
            self.is_cut = True
        elif isinstance(given, End) and not self._is_over:
            self._end()
        return b""

    def _end(self) -> None:
        self._is_over = True
        self._service.help(self._tell)

    def _tell(self) -> None:
        """Give the follower what the run came to, which takes a thread that may wait for Redis."""
        self._follower.wants_document = True
        try:
            try:
                last = b"".join(self._pieces_at_end())
            except RpcError as error:
                last = self._framed(error_message(self._place, error))
            self._follower.give(_Concluded(last))
        except Exception as error:
            # The task is there; whoever comes again is told of it.
            log.warning("run %s: its end cannot be told: %s", self._follower.run_id, error)
            self._follower.give(Cut.ELSEWHERE)

    def _pieces_at_end(self) -> Iterator[bytes]:
        yield message(self._place, "result", dumps(self._conclude()))

    def _framed(self, answer: bytes) -> bytes:
        """An answer as it is sent."""
        return answer


class Updates(Whole):
    """The events of a task's run: the task, how it stands, and its artifact as it grows."""

    heartbeat, mimetype = EventStream.heartbeat, EventStream.mimetype
    in_one_piece = False

    def __init__(
        self,
        follower: Follower,
        pause: float,
        place: Place,
        service: Service,
        tasks: Tasks,
        dialect: Dialect,
        task: Task,
        history: int | None = None,
    ) -> None:
        """Prepare.

        Args:
            follower, pause, place, service: see Whole.
            tasks: the agent's.
            dialect: the version of the protocol.
            task: as it stands now.
            history: how many messages of its history are shown; None for all.
        """
        super().__init__(follower, pause, place, service, dict)
        self._tasks = tasks
        self._dialect = dialect
        self._task = task
        self._first = self._frame(dialect.sent(dialect.task(task, history)))
        # The message of which tokens were sent last, and these.
        self._message: object = None
        self._text = ""

    def _piece_of(self, given: Given) -> bytes:
        first, self._first = self._first, b""
        return first + self._next(given)

    def _taken(self) -> list[bytes]:
        pieces = super()._taken()
        if self._first:
            pieces, self._first = [self._first, *pieces], b""
        return pieces

    def _next(self, given: Given) -> bytes:
        if not isinstance(given, Event):
            return super()._piece_of(given)
        name = given.name.partition("|")[0]
        if name == events.METADATA:
            # Whoever goes on with the run begins anew with what it says.
            self._message = None
            if self._task.state == "working":
                return b""
            self._task = replace(self._task, state="working", at=now())
            return self._frame(self._dialect.status_update(self._task, final=False))
        if name == "messages":
            return self._token(given.data)
        if name == events.END and not self._is_over:
            self._end()
        return b""

    def _token(self, data: bytes) -> bytes:
        message, _ = json.loads(data)
        text = text_of(message.get("content"))
        if message.get("type") not in ("ai", "AIMessageChunk") or not text:
            return b""
        append = message.get("id") == self._message
        self._message, self._text = message.get("id"), (self._text if append else "") + text
        return self._artifact(self._task, [Text(text)], append=append, last=False)

    def _pieces_at_end(self) -> Iterator[bytes]:
        task = self._tasks.task(self._tasks.find(self._task.task_id))
        if task.result:
            # All of it was told already, as a rule.
            told = self._message is not None and [*task.result] == [Text(self._text)]
            parts = [Text("")] if told else task.result
            yield self._artifact(task, parts, append=told, last=True)
        yield self._frame(self._dialect.status_update(task, final=True))

    def _artifact(self, task: Task, parts: Sequence[Part], *, append: bool, last: bool) -> bytes:
        return self._frame(self._dialect.artifact_update(task, parts, append=append, last=last))

    def _frame(self, result: Json) -> bytes:
        return self._framed(message(self._place, "result", dumps(result)))

    def _framed(self, answer: bytes) -> bytes:
        return frame_of("message", answer, "")


@dataclass(frozen=True)
class _Found(End):
    """What was found out of a task that requires input.

    Attributes:
        goes_on: whether the run that began goes on with it.
        is_over: whether nothing will.
    """

    goes_on: bool = False
    is_over: bool = False


class Waiting(Updates):
    """The events of a task that requires input, from when it is given some; its end, if it is not
    to be given any more, or an error, if it is removed. The follower is its thread's."""

    def __init__(self, *args: Any) -> None:
        """Prepare; see Updates."""
        super().__init__(*args)
        self._follower.wants_document = True
        self._goes_on = False
        # What a run gave of which it is not known yet whether it goes on with the task.
        self._held: list[Given] = []

    def _next(self, given: Given) -> bytes:
        if isinstance(given, _Found):
            return self._hear(given)
        if type(given) is End:
            return b""  # the event that says so comes in its turn
        if self._goes_on or self._is_over or isinstance(given, Cut):
            # Later runs of the thread are none of its.
            is_late = self._is_over and isinstance(given, Event)
            return b"" if is_late else super()._next(given)
        if isinstance(given, Event) and given.name in (STATE_UPDATE, events.REMOVED):
            self._service.help(partial(self._find, None))
        else:
            if isinstance(given, Event) and given.name in (events.METADATA, events.END):
                self._service.help(partial(self._find, json.loads(given.data)["run_id"]))
            self._held.append(given)
        return b""

    def _hear(self, found: _Found) -> bytes:
        held, self._held = self._held, []
        if found.goes_on:
            self._goes_on = True
            return b"".join(map(self._next, held))
        if found.is_over and not self._is_over:
            self._end()
        return b""

    def _find(self, run_id: str | None) -> None:
        """Find out whether a run that began goes on with the task, or else whether it is over."""
        try:
            found = self._tasks.find(self._task.task_id)
            goes_on = run_id in [each.run_id for each in found.runs]
            is_over = not goes_on and self._tasks.task(found).is_over
            if is_over or run_id is not None:
                self._follower.give(_Found(b"", goes_on=goes_on, is_over=is_over))
        except RpcError:  # it is removed, as the error says that comes at the end
            self._follower.give(_Found(b"", is_over=True))
        except Exception as error:
            log.warning("task %s: nobody knows how it stands: %s", self._task.task_id, error)
            self._follower.give(Cut.ELSEWHERE)
